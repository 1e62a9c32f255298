"""Fine-tuning an encoder on a task (Table 5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from urfm.config.fields import (
    BelowOne,
    Betas,
    Count,
    Distinct,
    NotNegative,
    Percent,
    Pooling,
    Positive,
    Precision,
    Resize,
    Seeds,
    Share,
    Shares,
    WholeNumber,
)
from urfm.core.cli import Settings
from urfm.metrics import MetricName

Split = Annotated[str, Field(pattern=r"^(paper|seed-(0|[1-9][0-9]*)|per_seed|published|ultrabench)$")]


class Schedule(Settings):
    """What pre-training and fine-tuning share: optimiser, learning rate, crops, arithmetic."""

    epochs: Count = Field(description="passes over all images")
    warmup_epochs: NotNegative = Field(description="epochs in which the learning rate rises from 0, part of epochs")
    min_lr: NotNegative = Field(description="learning rate at the end of the cosine")
    weight_decay: NotNegative = Field(description="AdamW's; not applied to biases and norms")
    betas: Betas = Field(description="AdamW's decay rates of the first and the second moment")
    crop_scale: Shares = Field(description="RandomResizedCrop, share of the image's area")
    flip: bool = Field(description="mirror half of the images left to right")
    precision: Precision = Field(
        description="fp32; fp16 with loss scaling (V100); bf16 (A100 and later); auto: bf16 where the GPU or "
        "processor has instructions for it, else fp32"
    )

    @field_validator("warmup_epochs")
    @classmethod
    def _within_epochs(cls, value: float, info: ValidationInfo) -> float:
        epochs = info.data.get("epochs")
        if epochs is not None and value > epochs:
            raise ValueError(f"{value:g} is more than epochs, {epochs}")
        return value


class Finetuning(Schedule):
    """The supervised recipe of all models (Table 5)."""

    early_stop: WholeNumber = Field(description="epochs without a better validation score before stopping; 0 never")
    base_lr: Positive = Field(description="learning rate for a batch of lr_reference_batch images")
    lr_reference_batch: Count = Field(description="lr = base_lr x batch_size / this")
    layer_decay: Share = Field(description="factor of the learning rate a layer downwards")
    randaugment: str = Field(description="timm's form, rand-m<magnitude>-mstd<spread>-inc1; empty for none")
    label_smoothing: BelowOne = Field(description="share of the target's weight spread over all classes; 0 none")
    mixup: NotNegative = Field(description="alpha; 0 none")
    cutmix: NotNegative = Field(description="alpha; 0 none")
    batch_size: Count = Field(description="images a step; even with mixup or cutmix, which mix images in pairs")
    drop_path: BelowOne = Field(description="probability to skip the last block, falling to 0 at the first; 0 none")
    head: Literal["new", "linear_probe"] = Field(
        description="how the linear layer begins: new, near zero (MAE); linear_probe, as a logistic regression on the "
        "encoder's features (LP-FT), for few images"
    )
    pooling: Pooling = Field(description="mean of the patch tokens with a new norm, or the class token")
    evaluation_resize: Resize = Field(description="squash: the whole scan; crop: MAE's centre crop, borders lost")
    selection_metric: MetricName = Field(description="on the validation part; the first best epoch is tested")
    split: Split = Field(
        description="paper: splits.seed; seed-<n>: another one; per_seed: seed-<n> for fine-tuning seed n; published: "
        "the archive's own; ultrabench: tasks.*.ultrabench"
    )

    @field_validator("batch_size")
    @classmethod
    def _even_if_mixed(cls, value: int, info: ValidationInfo) -> int:
        if value % 2 and (info.data.get("mixup") or info.data.get("cutmix")):
            raise ValueError(f"{value} is odd; mixup and cutmix mix images in pairs and need an even number")
        return value

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed in pairs."""
        return self.mixup > 0 or self.cutmix > 0


class CellSettings(Settings):
    """Which cell it is: a model on a task with a share of the training part, all seeds."""

    model: str
    task: str
    share: Percent
    classes: Annotated[list[str], Field(min_length=2), Distinct]
    seeds: Seeds
    split: Split = "paper"


class FinetuneSettings(CellSettings, Finetuning):
    """Settings of the stage: the section `finetuning`, and which cell it is."""

    keep_weights: bool = False  # of the first seed

    def keeps(self, seed: int) -> bool:
        """Whether the network of this seed is wanted."""
        return self.keep_weights and seed == self.seeds[0]
