"""Score every decoder layer of a model: outlier ratios, sampling probabilities, spectra.

Run as: `owlore outliers --model DIR --text FILE.jsonl --output OUT.json`
"""

import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor, nn

from owlore.core import provenance
from owlore.core.errors import BadInput
from owlore.core.files import canonical_json, sha256_file, sha256_text, write_receipt
from owlore.core.progress import Progress, line
from owlore.outliers.calibration import calibration_windows, input_square_sums, offloaded
from owlore.outliers.scores import RESAMPLES, score_layer
from owlore.outliers.spectra import heavy_tail_exponent
from owlore.records import proof
from owlore.records.base import Proof
from owlore.records.outliers import CalibrationUsed, LayerRecord, OutliersJob, OutliersRecord
from owlore.sources import models


def run(
    job: OutliersJob, model_dir: Path, text: Path, output: Path, device: str = "cpu"
) -> OutliersRecord:
    """Score every decoder layer of a model and write the outlier file.

    Args:
        job: how the calibration text is cut, and the thresholds M; `outlier_ratio` is at the
            calibration's `threshold`, `by_threshold` has the others too.
        model_dir: checkpoint folder.
        text: JSONL with a `text` column, the calibration text.
        output: JSON file to write.
        device: cpu or cuda; the model stays in main memory and no more than a decoder layer of it,
            or the embedding, is on a GPU at a time.

    Raises:
        BadInput: the text is too short or malformed, or the model has no decoder layers.
    """
    if not text.is_file():
        raise BadInput(f"{text}: no such file")
    weights_sha256 = models.recorded_sha256(model_dir)
    asked = proof.of(job, __name__, {"weights": weights_sha256, "text": sha256_file(text)})
    record = proof.kept(OutliersRecord, output, asked, f"outliers {job.model}")
    if record is None:
        record = _scored(job, model_dir, text, device, weights_sha256, asked)
        record.save(output)
        top = sorted(record.layers, key=lambda layer: -layer.outlier_ratio)[:3]
        highest = ", ".join(str(layer.index) for layer in top)
        line(f"outliers {job.model}: {len(record.layers)} layers scored, highest {highest}")
    write_receipt(output.with_suffix(".sha256"), ratios_sha256(record))
    return record


def ratios_sha256(record: OutliersRecord) -> str:
    """Return the hash of what the layer draw reads: the scores, not when they were made."""
    return sha256_text(canonical_json(record.ratios))


def _scored(
    job: OutliersJob,
    model_dir: Path,
    text: Path,
    device: str,
    weights_sha256: str,
    asked: Proof,
) -> OutliersRecord:
    started, clock = provenance.now(), time.monotonic()
    cut = job.calibration
    model = models.load(model_dir)
    model.train(False)
    tokenizer = models.load_tokenizer(model_dir)
    windows = calibration_windows(text, tokenizer, cut.samples, cut.seqlen, cut.seed)
    with offloaded(model, device) if device != "cpu" else nullcontext():
        squares = input_square_sums(model, windows, device=device)
    every = sorted({float(cut.threshold), *map(float, cut.thresholds)})
    layers = list(models.decoder_layers(model))
    scores, alphas = [], []
    for layer, sums in Progress(
        list(zip(layers, squares, strict=True)), desc="outliers", unit="layer"
    ):
        weights = {name: weight.to(device) for name, weight in layer_weights_of(layer).items()}
        scores.append(score_layer(weights, sums, every, float(cut.threshold), cut.seed))
        alphas.append(float(np.mean([heavy_tail_exponent(w) for w in weights.values()])))
    chosen = [score.ratios[every.index(float(cut.threshold))] for score in scores]
    summed = sum(chosen)
    return OutliersRecord(
        model=job.model,
        weights_sha256=weights_sha256,
        calibration=CalibrationUsed(
            text_sha256=sha256_text(canonical_json(windows.tolist())),
            samples=cut.samples,
            seqlen=cut.seqlen,
            seed=cut.seed,
        ),
        threshold=cut.threshold,
        bootstrap_resamples=RESAMPLES,
        layers=[
            LayerRecord(
                index=index,
                outlier_ratio=ratio,
                outlier_percent=100 * ratio,
                # What a single draw gives this layer; all-zero scores say nothing.
                sampling_probability=ratio / summed if summed else 1 / len(chosen),
                outlier_ratio_interval=scores[index].interval,
                projections=scores[index].projections,
                alpha=alphas[index],
            )
            for index, ratio in enumerate(chosen)
        ],
        by_threshold={
            f"{value:g}": [score.ratios[k] for score in scores] for k, value in enumerate(every)
        },
        # The paper's first version motivates D_l by heavy-tail theory: how well do they agree?
        spearman_alpha=_rank_correlation(chosen, alphas),
        proof=asked,
        **provenance.stamp(started, clock),
    )


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
