"""Peak memory of 7B to 8B models, simulated from their published shapes: all methods, our engine.

Run as: `python benchmarks/memory.py` (some minutes on one core; no weights, no GPU).
"""

import argparse
from pathlib import Path

from measuring import Table

from owlore.memory import plan as memory_plan
from owlore.memory.plan import Asked
from owlore.sources import shapes
from owlore.study.config import load_study
from owlore.study.method import Trained

STUDIES = Path(__file__).resolve().parents[1] / "workflow" / "studies"
MODELS = ("llama2-7b", "llama3-8b", "mistral-7b")


class Sheet:
    """The table and where simulated peaks are remembered."""

    def __init__(self, cache: Path):
        self._cache = cache
        self._table = Table(
            "memory",
            "Simulated peak of allocated memory, sequences of 512 tokens, checkpointing, pure "
            "bfloat16 unless said otherwise; methods are those of workflow/studies. Against: what "
            "others report, on a GPU, context and fragmentation included. About 19 GiB was found "
            "for OwLore with rank 256, a loss over all logits at once, and the gradients of the "
            "five layers side by side until the step; here rank 128, logits in chunks, and a "
            "projected gradient is freed in the backward pass, which is also why GaLore needs so "
            "little.",
        )

    def add(
        self, model: str, what: str, method: Trained, size: int, against: str = "", target: str = ""
    ) -> None:
        """Simulate a method and add its row; `target` is the largest GiB wanted."""
        asked = Asked(what, method, size, 512)
        split = memory_plan.simulated(shapes.published(model), asked, self._cache)
        parts = ", ".join(f"{part} {split[f'{part}_gib']:.2f}" for part in memory_plan.PARTS)
        self._table.add(
            f"{model}, {what}", f"{split['peak_gib']:.2f} GiB ({parts})", against, "", target
        )

    def write(self) -> None:
        """Write the table."""
        self._table.write()


def main() -> None:
    """Simulate and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path("resources/memory"))
    sheet = Sheet(parser.parse_args().cache)
    reported = {
        "full": ("51.6 GB (torchao, A100, another batch)", "about 51.6 GiB"),
        "owlore": ("21 GB (paper)", "about 19 GiB, less is better"),
    }
    for model in MODELS:
        study = load_study(STUDIES / f"{model}.yaml")
        for name in study.run[1:]:
            known = reported.get(name, ("", "")) if model == "llama2-7b" else ("", "")
            sheet.add(model, f"{name}, micro-batch 16", study.method(name), 16, *known)
    owlore = load_study(STUDIES / "llama2-7b.yaml").method("owlore")
    small = {"gradient_accumulation_steps": 4, "per_device_train_batch_size": 4}

    def variant(**changes: object) -> Trained:
        return owlore.model_copy(update={**small, **changes})

    model, what = "llama2-7b", "owlore, micro-batch 4 four times"
    sheet.add(model, what, variant(), 4, "21 GB (paper)", "<= 15.3 GiB")
    frozen = variant(train_embeddings=False)
    sheet.add(model, f"{what}, frozen embedding and head", frozen, 4, "", "<= 13.9 GiB")
    lean = variant(precision="bfloat16-lean")
    sheet.add(model, f"{what}, bfloat16-lean", lean, 4, "", "<= 14.8 GiB")
    for precision in ("bfloat16-stochastic", "bfloat16-master"):
        sheet.add(model, f"{what}, {precision}", variant(precision=precision), 4)
    sheet.add(model, "owlore, micro-batch 16, state kept", owlore.model_copy(
        update={"state": "keep"}), 16)  # fmt: skip
    lisa = load_study(STUDIES / "llama2-7b.yaml").method("lisa").model_copy(update={"gamma": 5})
    sheet.add(model, "lisa of gamma 5, micro-batch 16", lisa, 16)
    kept = lisa.model_copy(update={"state": "keep"})
    sheet.add(model, "lisa of gamma 5, micro-batch 16, state kept", kept, 16)
    sheet.write()


if __name__ == "__main__":
    main()
