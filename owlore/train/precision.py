"""What a method's `precision` means in numbers: the weights' dtype, and what becomes of an update.

A name is the dtype, and behind a dash how the optimizer rounds what it adds to bfloat16 weights.
"""


def dtype_of(precision: str) -> str:
    """Return the dtype of the weights: float32 or bfloat16."""
    return precision.partition("-")[0]


def rounding_of(precision: str) -> str:
    """Return the `rounding` of `owlore.optim.adamw.RoundedAdamW`: nearest, or the name's end."""
    return precision.partition("-")[2] or "nearest"
