"""The metrics that a task can be scored by, and where the samples have each question's outcome."""

from typing import Any

# metric → column of the samples; a task's metrics are listed in this order
CORRECT = {
    "acc": "correct",
    "acc_norm": "correct_norm",
    "exact_match": "correct",
    "exact_match_flexible": "correct_flexible",
}

FLEXIBLE = "flexible-extract"  # lm-eval's filter of GSM8K that takes the last number


def metrics_of(task: Any) -> set[str]:
    """Return the names of the metrics that a task can be scored by here."""
    own = set(task.aggregation()) & {"acc", "acc_norm", "exact_match"}
    if "exact_match" in own and FLEXIBLE in {f.name for f in task._filters}:
        own.add("exact_match_flexible")
    return own
