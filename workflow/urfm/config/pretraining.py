"""Pre-training runs and stored targets (Table 4)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from urfm.config.models import Colour, TeacherSettings
from urfm.core.cli import Settings

TargetNorm = Literal["none", "layernorm", "channel"]
LossOn = Literal["masked", "all"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]


class DecoderSettings(Settings):
    """Size of the decoder."""

    width: int = Field(ge=4)
    depth: int = Field(ge=1)
    heads: int = Field(ge=1)


class PretrainSettings(Settings):
    """Settings of the stage: a run of the configuration's `pretraining`, with its teacher's record."""

    run: str
    architecture: str
    model_args: dict[str, Any]
    input_size: int = Field(ge=16)
    decoder: DecoderSettings
    teacher: TeacherSettings
    targets: Literal["online", "cached"]  # pixels are always online: they are the crop itself
    views: int = Field(default=1, ge=1)  # of cached targets
    view_dtype: Literal["float16", "int8"] = "float16"
    target_norm: TargetNorm
    loss_on: LossOn
    blur_sigma: float = Field(ge=0)
    mask_ratio: float = Field(ge=0, lt=1)
    epochs: int = Field(ge=1)
    warmup_epochs: float = Field(ge=0)
    batch_size: int = Field(ge=1)  # of all processes together
    base_lr: float = Field(gt=0)
    min_lr: float = Field(ge=0)
    weight_decay: float = Field(ge=0)
    betas: tuple[float, float]
    crop_scale: tuple[float, float]
    flip: bool
    mean: Colour
    std: Colour
    precision: Precision
    ema_decay: float = Field(ge=0, lt=1)
    sampling: Literal["natural", "organ_balanced"]
    snapshot_every: int = Field(default=0, ge=0)  # epochs; 0: none
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> PretrainSettings:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs: {self.warmup_epochs} is more than epochs, {self.epochs}")
        return self

    @property
    def cached(self) -> bool:
        """Whether targets come from disk."""
        return self.targets == "cached" and self.teacher.kind != "pixels"

    @property
    def snapshots(self) -> list[int]:
        """The epochs after which the whole masked autoencoder is kept: 0 (untrained), every so many, and the last."""
        every = self.snapshot_every
        return sorted({*range(0, self.epochs, every), self.epochs}) if every else []


class TargetSettings(Settings):
    """Settings of the stage that stores targets; kept in targets.json."""

    teacher: TeacherSettings
    input_size: int = Field(ge=16)
    views: int = Field(ge=1)
    view_dtype: Literal["float16", "int8"]
    crop_scale: tuple[float, float]
    flip: bool
    seed: int = Field(ge=0)
