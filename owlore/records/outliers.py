"""Outlier scores of a model's decoder layers: `outliers/<model>.json`."""

from typing import Self

from pydantic import Field

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

    text_sha256: str | None = Field(None, description="of the windows' tokens")
    samples: int = Field(description="windows")
    seqlen: int = Field(description="tokens of each")
    seed: int = 0


class LayerRecord(Part):
    """One decoder layer; ratios are fractions of its entries."""

    index: int
    outlier_ratio: float = Field(description="fraction of its entries")
    outlier_percent: float
    sampling_probability: float = Field(description="of a single draw")
    outlier_ratio_interval: tuple[float, float] | None = Field(
        None, description="95 %, bootstrap over samples"
    )
    projections: dict[str, float] = Field({}, description="matrix → ratio")
    alpha: float | None = Field(
        None, description="exponent of its matrices' eigenvalues; smaller is heavier"
    )


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
    weights_sha256: str = Field(description="of the model that was scored")
    calibration: CalibrationUsed
    threshold: float = Field(description="M")
    bootstrap_resamples: int | None = None
    layers: list[LayerRecord]
    by_threshold: dict[str, list[float]] = Field({}, description="M → ratio of each layer")
    spearman_alpha: float | None = Field(None, description="rank correlation of ratio and alpha")

    @property
    def ratios(self) -> list[float]:
        """What the layer draw weighs layers by."""
        return [layer.outlier_ratio for layer in self.layers]
