"""Fine-tuning an encoder on a task (Table 5)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from urfm.config.models import Pooling
from urfm.config.pretraining import Precision
from urfm.core.cli import Settings
from urfm.metrics import MetricName

Fraction = Field(ge=0, lt=1)


class FinetuneSettings(Settings):
    """Settings of the stage; the section `finetuning` of the configuration says what each means."""

    model: str
    task: str
    share: int = Field(gt=0, le=100)
    classes: list[str] = Field(min_length=2)
    seeds: list[NonNegativeInt] = Field(min_length=1)
    epochs: PositiveInt
    early_stop: int = Field(ge=0)
    batch_size: PositiveInt
    base_lr: PositiveFloat
    lr_reference_batch: PositiveInt
    min_lr: float = Field(ge=0)
    weight_decay: float = Field(ge=0)
    betas: tuple[float, float]
    layer_decay: float = Field(gt=0, le=1)
    warmup_epochs: float = Field(ge=0)
    randaugment: str
    label_smoothing: float = Fraction
    mixup: float = Field(ge=0)
    cutmix: float = Field(ge=0)
    drop_path: float = Fraction
    crop_scale: tuple[float, float]
    flip: bool
    pooling: Pooling
    evaluation_resize: Literal["squash", "crop"]
    selection_metric: MetricName
    split: str = "paper"  # per_seed: seed n has the split seed-<n>; else all have this one
    precision: Precision
    keep_weights: bool = False  # of the first seed

    @model_validator(mode="after")
    def _unique(self) -> FinetuneSettings:
        for name in ("classes", "seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}: an entry occurs twice")
        return self

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0

    def keeps(self, seed: int) -> bool:
        """Whether the network of this seed is wanted."""
        return self.keep_weights and seed == self.seeds[0]
