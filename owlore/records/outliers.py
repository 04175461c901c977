"""Outlier scores of a model's decoder layers: `outliers/<model>.json`."""

from typing import Self

from owlore.records.base import Job, Made, Part, Record
from owlore.study.config import Calibration, Study


class OutliersJob(Job):
    """The calibration text's cut, and the thresholds M."""

    model: str
    calibration: Calibration

    @classmethod
    def of(cls, study: Study, model: str) -> Self:
        """Return the Job of one of a study's models."""
        return cls(model=model, calibration=study.calibration)


class CalibrationUsed(Part):
    """The windows that were read."""

    text_sha256: str | None = None
    samples: int
    seqlen: int
    seed: int = 0


class LayerRecord(Part):
    """One decoder layer; ratios are fractions of its entries."""

    index: int
    outlier_ratio: float
    outlier_percent: float
    sampling_probability: float  # of a single draw
    outlier_ratio_interval: tuple[float, float] | None = None  # 95 %, bootstrap over samples
    projections: dict[str, float] = {}
    alpha: float | None = None


class LayerRatio(Part):
    """What the layer draw reads of a layer."""

    outlier_ratio: float


class LayerScores(Record):
    """What the layer draw reads of a file of scores, also of one that was made elsewhere."""

    layers: list[LayerRatio]

    @property
    def ratios(self) -> list[float]:
        """The ratios in the layers' order."""
        return [layer.outlier_ratio for layer in self.layers]


class OutliersRecord(Made):
    """The scores, at the study's M and at others."""

    model: str
    weights_sha256: str
    calibration: CalibrationUsed
    threshold: float
    bootstrap_resamples: int | None = None
    layers: list[LayerRecord]
    by_threshold: dict[str, list[float]] = {}
    spearman_alpha: float | None = None

    @property
    def ratios(self) -> list[float]:
        """What the layer draw weighs layers by."""
        return [layer.outlier_ratio for layer in self.layers]
