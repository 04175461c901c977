"""Outlier scores: one pass with streamed weights against the published two passes.

Run as: `python benchmarks/outliers.py` after `snakemake base_model questions` has made the inputs.
"""

import argparse
from pathlib import Path

import torch
from measuring import MODEL, Table, seconds
from published import two_pass_scores
from transformers import PreTrainedModel

from owlore.outliers.calibration import TOKENS, calibration_windows, input_square_sums
from owlore.outliers.scores import score_layer
from owlore.outliers.stage import layer_weights_of
from owlore.sources import models
from owlore.train.memory import allocated_peak

THRESHOLD = 13.0


def one_pass_scores(model: PreTrainedModel, windows: torch.Tensor) -> list[float]:
    """Score all layers as `owlore outliers` does; return percentages."""
    squares = input_square_sums(model, windows)
    return [
        100 * score_layer(layer_weights_of(layer), sums, [THRESHOLD], THRESHOLD).ratios[0]
        for layer, sums in zip(models.decoder_layers(model), squares, strict=True)
    ]


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument(
        "--text", type=Path, default=Path("results/embedded/questions/calibration.jsonl")
    )
    chosen = parser.parse_args()
    tokenizer = models.load_tokenizer(chosen.model)
    model = models.load(chosen.model).eval()
    table = Table(
        "outliers",
        "SmolLM2-135M in float32, M = 13; ours with 200 bootstrap resamples, theirs without.",
    )
    for samples, seqlen in ((16, 128), (16, 512)):
        windows = calibration_windows(chosen.text, tokenizer, samples, seqlen, 0)
        compare(table, model, windows)
    table.write()


def compare(table: Table, model: PreTrainedModel, windows: torch.Tensor) -> None:
    """Add the rows of one calibration text: result, time, memory."""
    text = f"{windows.shape[0]} windows of {windows.shape[1]} tokens"
    ours, theirs = one_pass_scores(model, windows), two_pass_scores(model, windows, THRESHOLD)
    largest = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    table.add(f"{text}: largest difference of a score", f"{largest:.1e} %", "", "", "")
    spent = seconds(
        {
            "ours": lambda: one_pass_scores(model, windows),
            "theirs": lambda: two_pass_scores(model, windows, THRESHOLD),
        },
        rounds=3,
    )
    table.add(
        f"{text}: wall time",
        f"{spent['ours'] / 3:.1f} s",
        f"{spent['theirs'] / 3:.1f} s",
        f"{spent['theirs'] / spent['ours']:.2f}x faster",
        ">= 2x",
    )

    def forward() -> None:
        with torch.no_grad():
            batch = windows[: max(1, TOKENS // windows.shape[1])]
            models.decoder(model)(input_ids=batch, use_cache=False)

    plain = allocated_peak(lambda: forward)
    scored = allocated_peak(lambda: lambda: one_pass_scores(model, windows))
    size = sum(p.nbytes for p in model.parameters())
    table.add(
        f"{text}: memory beyond a forward pass of the same batch",
        f"{(scored - plain) / 2**20:.1f} MiB",
        f"model: {size / 2**20:.0f} MiB",
        f"{100 * (scored - plain) / size:.2f} %",
        "<= 2 %",
    )


if __name__ == "__main__":
    main()
