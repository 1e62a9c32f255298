"""Pre-training runs and stored targets (Table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from urfm.config.fields import (
    IMAGENET,
    AnyNames,
    BelowOne,
    Colour,
    Colours,
    Count,
    Name,
    Names,
    NotNegative,
    Percent,
    Positive,
    Share,
    Shares,
    Text,
    WholeNumber,
)
from urfm.config.finetuning import Schedule
from urfm.config.models import TeacherSettings
from urfm.config.networks import ModelArgs
from urfm.core.cli import Settings

TargetNorm = Literal["none", "layernorm", "channel"]
Normalisation = Literal["imagenet", "data", "teacher", "image"] | Colours
LossOn = Literal["masked", "all"]
ViewType = Literal["float16", "int8"]


def colours(normalisation: Normalisation) -> tuple[Colour | None, Colour | None]:
    """Mean and deviation of pixels in [0, 1]; None: each image's own. What `data` and `teacher` are, stages find."""
    if isinstance(normalisation, str):
        return {"imagenet": IMAGENET, "image": (None, None)}[normalisation]
    return normalisation


class DecoderSettings(Settings):
    """Blocks that reconstruct the masked tokens."""

    width: int = Field(ge=4, description="width of a token, numbers; a multiple of heads")
    depth: Count = Field(description="transformer blocks")
    heads: Count = Field(description="attention heads a block")


class LearningRateCut(Settings):
    """A lower learning rate from a step on."""

    step: WholeNumber = Field(description="the first step with it, numbered from 0")
    factor: Share = Field(description="what the schedule's rate is multiplied with; several multiply")


class ImageChoice(Settings):
    """Which images of its data sets a run is trained on."""

    organs: AnyNames = Field(description="names under organs to train on; empty: all")
    share: Percent = Field(description="percent of the images, chosen at random by seed; nested")
    max_images: WholeNumber = Field(description="at most so many images, chosen at random by seed; nested; 0 no cap")
    exclude_downstream_test: bool = Field(description="true: no image of a validation or test patient of any task")
    seed: WholeNumber = Field(
        description="of the initial weights, the choice and the order of the images, the crops and the masks"
    )


class Views(Settings):
    """What the crops of images are, stored ones too."""

    input_size: int = Field(ge=16, description="side of the square crop, pixels; a multiple of the patch size")
    views: Count = Field(description="K, stored views an image")
    view_dtype: ViewType = Field(description="how stored tokens are written; int8 has one scale a token")
    crop_scale: Shares = Field(description="RandomResizedCrop, share of the image's area")
    flip: bool = Field(description="mirror half of the crops left to right")
    seed: WholeNumber = Field(description="of the crops")


class TargetSettings(Views):
    """Settings of the stage that stores targets; kept in targets.json."""

    teacher: TeacherSettings


class Recipe(Schedule, Views):
    """Masked image modelling, but for its teacher and its images."""

    sampling: Literal["natural", "organ_balanced"] = Field(
        description="natural: every image once an epoch; or every organ equally often"
    )
    architecture: Text = Field(description="a timm vision transformer")
    model_args: ModelArgs = Field(description="further arguments of timm.create_model for the encoder")
    decoder: DecoderSettings = Field(description="blocks that reconstruct the masked tokens")
    targets: Literal["online", "cached"] = Field(
        description="online: the teacher sees the student's crop; cached: K stored views. Pixels are always online"
    )
    target_norm: TargetNorm = Field(
        description="none: plain MSE; layernorm: each target token standardised; channel: each channel standardised, "
        "with mean and deviation of a sample of the run's targets"
    )
    loss_on: LossOn = Field(description="patches that count in the loss")
    blur_sigma: NotNegative = Field(
        description="Gaussian blur of the student's input, in pixels of the file; 0 none. The encoder sees blurred "
        "images downstream too (models.*.blur_sigma). They are a second image store, as large as the first (D99)"
    )
    mask_ratio: BelowOne = Field(description="share of patches hidden from the encoder")
    batch_size: Count = Field(description="images a step over all processes")
    base_lr: Positive = Field(description="learning rate for a batch of 256")
    normalisation: Normalisation = Field(
        description="mean and deviation that the student's pixels in [0, 1] are normalised with: imagenet; data: those "
        "of a sample of the run's crops; teacher: the teacher's; image: each image's own; or [mean, deviation], each "
        "one number or three"
    )
    lr_cuts: list[LearningRateCut] = Field(
        description="where training diverged: lower learning rates from certain steps on. A run that gets one more "
        "goes on from its last checkpoint before that step"
    )
    ema_decay: BelowOne = Field(description="exponential moving average of the weights; 0 none")
    snapshot_every: WholeNumber = Field(
        description="epochs between two kept networks, for probes and reconstructions; 0 none"
    )


class PretrainSettings(Recipe):
    """Settings of the stage: a run of the configuration's `pretraining`, with its teacher's record."""

    run: str
    teacher: TeacherSettings
    views: Count = 1  # of cached targets
    view_dtype: ViewType = "float16"
    lr_cuts: list[LearningRateCut] = Field(default=[])
    snapshot_every: WholeNumber = 0

    @property
    def cached(self) -> bool:
        """Whether targets come from disk."""
        return self.targets == "cached" and self.teacher.kind != "pixels"

    def normalised_with(self, mean: Sequence[float], std: Sequence[float]) -> Self:
        """The same settings once it is known what `data` or `teacher` stands for."""
        return self.model_copy(update={"normalisation": (tuple(mean), tuple(std))})

    @property
    def colours(self) -> tuple[Colour | None, Colour | None]:
        """Mean and deviation of the student's pixels in [0, 1]; None: each image's own."""
        return colours(self.normalisation)

    @property
    def snapshots(self) -> list[int]:
        """The epochs after which the whole masked autoencoder is kept: 0 (untrained), every so many, and the last."""
        every = self.snapshot_every
        return sorted({*range(0, self.epochs, every), self.epochs}) if every else []


class Defaults(ImageChoice, Recipe):
    """Every key of a run, used where a run does not say otherwise."""

    datasets: Names = Field(description="names under datasets whose images are trained on, labels unused")
    teacher: Name = Field(description="a name under teachers: the network whose tokens are the targets")
