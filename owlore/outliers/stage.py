"""Score every decoder layer of a model: outlier ratios, sampling probabilities, spectra.

Run as: `owlore outliers --model DIR --text FILE.jsonl --output OUT.json`
"""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor, nn

from owlore.core import provenance
from owlore.core.files import canonical_json, sha256_text, write_json
from owlore.core.progress import Progress, line
from owlore.outliers.calibration import calibration_windows, input_square_sums, offloaded
from owlore.outliers.scores import RESAMPLES, score_layer
from owlore.outliers.spectra import heavy_tail_exponent
from owlore.sources import models


def run(
    model_dir: Path,
    text: Path,
    output: Path,
    *,
    samples: int,
    seqlen: int,
    seed: int,
    threshold: float,
    thresholds: Sequence[float],
    name: str = "",
    device: str = "cpu",
) -> None:
    """Score every decoder layer of a model and write the outlier file.

    Args:
        model_dir: checkpoint folder.
        text: JSONL with a `text` column, the calibration text.
        output: JSON file to write.
        samples: windows of calibration text.
        seqlen: tokens a window.
        seed: orders the text before it is cut.
        threshold: M of the study, whose ratios become `outlier_ratio`.
        thresholds: further values of M, reported in `by_threshold`.
        name: the model's name in the study.
        device: cpu or cuda; the model stays in main memory and no more than a decoder layer of it,
            or the embedding, is on a GPU at a time.

    Raises:
        BadInput: the text is too short or malformed, or the model has no decoder layers.
    """
    started = time.perf_counter()
    model = models.load(model_dir)
    model.train(False)
    windows = calibration_windows(text, models.load_tokenizer(model_dir), samples, seqlen, seed)
    with offloaded(model, device) if device != "cpu" else nullcontext():
        squares = input_square_sums(model, windows, device=device)
    every = sorted({float(threshold), *map(float, thresholds)})
    layers = list(models.decoder_layers(model))
    scores, alphas = [], []
    for layer, sums in Progress(
        list(zip(layers, squares, strict=True)), desc="outliers", unit="layer"
    ):
        weights = {name: weight.to(device) for name, weight in layer_weights_of(layer).items()}
        scores.append(score_layer(weights, sums, every, float(threshold), seed))
        alphas.append(float(np.mean([heavy_tail_exponent(w) for w in weights.values()])))
    chosen = [score.ratios[every.index(float(threshold))] for score in scores]
    summed = sum(chosen)
    write_json(
        output,
        {
            "model": name,
            "weights_sha256": models.recorded_sha256(model_dir),
            "calibration": {
                "text_sha256": sha256_text(canonical_json(windows.tolist())),
                "samples": samples,
                "seqlen": seqlen,
                "seed": seed,
            },
            "threshold": threshold,
            "bootstrap_resamples": RESAMPLES,
            "layers": [
                {
                    "index": index,
                    "outlier_ratio": ratio,
                    "outlier_percent": 100 * ratio,
                    # What a single draw gives this layer; all-zero scores say nothing.
                    "sampling_probability": ratio / summed if summed else 1 / len(chosen),
                    # 95 % bootstrap interval of the ratio over the calibration samples.
                    "outlier_ratio_interval": scores[index].interval,
                    "projections": scores[index].projections,
                    "alpha": alphas[index],
                }
                for index, ratio in enumerate(chosen)
            ],
            "by_threshold": {
                f"{value:g}": [score.ratios[k] for score in scores] for k, value in enumerate(every)
            },
            # The paper's first version motivates D_l by heavy-tail theory: how well do they agree?
            "spearman_alpha": _rank_correlation(chosen, alphas),
            "seconds": round(time.perf_counter() - started, 3),
            "versions": provenance.versions(),
            "git": provenance.git_state(),
        },
    )
    top = sorted(range(len(chosen)), key=lambda index: -chosen[index])[:3]
    line(f"outliers {name}: {len(chosen)} layers scored, highest {', '.join(map(str, top))}")


def layer_weights_of(layer: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a decoder layer's linear maps, shape (out_features, in_features)."""
    # GPT-2's Conv1D stores the transposed.
    return {
        name: module.weight.T if type(module).__name__ == "Conv1D" else module.weight
        for name, module in models.linear_modules(layer).items()
    }


def _rank_correlation(scores: list[float], alphas: list[float]) -> float | None:
    correlation = float(spearmanr(scores, alphas).statistic)
    return correlation if np.isfinite(correlation) else None
