"""Encoders and teachers: which network, which file, how its input is normalised."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from urfm.config.data import Origin
from urfm.config.fields import AnyNames, Colours, Count, Sha256, WholeNumber
from urfm.config.networks import ModelArgs
from urfm.core.cli import Settings

FormatName = Literal[
    "random", "timm", "mae", "urfm", "moco_v3", "dino", "simclr", "simclr_v2", "usfm", "clip", "biomedclip",
    "efficientnet_lite0",
]  # fmt: skip


Baseline = Literal["majority", "thumbnails"]
Mode = Literal["finetune", "linear_probe", "knn"]


class TeacherWeights(Settings):
    """A network whose patch representations are targets."""

    kind: Literal["biomedclip", "clip", "efficientnet_lite0", "pixels"] = Field(
        description="CLIP-like encoder, convolutional network, or pixels"
    )
    file: str | None = Field(default=None, description="below checkpoint_root")
    hub: str | None = Field(
        default=None, description="instead of a file: the name on a model hub, owner/name; needs the internet"
    )
    sha256: Sha256 | None = Field(default=None, description="64 hexadecimal digits; a file that differs is refused")
    model_args: ModelArgs = Field(
        default_factory=dict,
        description="biomedclip, clip: further arguments of timm.create_model, for a small stand-in",
    )
    normalise_tokens: bool = Field(default=True, description="tokens after the final LayerNorm, or before")
    block: int = Field(default=10, ge=0, le=15, description="EfficientNet-Lite0 block whose output is the target")
    norm_pix: bool = Field(default=False, description="pixels: standardise each patch, MAE's norm_pix_loss")
    input_size: Count | None = Field(
        default=None,
        description="side of the pictures that it sees, cut from the same box as the student's; if left out, of the "
        "student's size. It must have a token for each of the student's patches",
    )

    @model_validator(mode="after")
    def _pixels_are_the_students(self) -> Self:
        if self.kind == "pixels" and self.input_size is not None:
            raise ValueError("input_size: pixels are the student's own; leave it out")
        return self


class TeacherSettings(TeacherWeights):
    """An entry of `teachers` with its name, as stages get it."""

    name: str

    def sees(self, student: int) -> int:
        """Side of the pictures that it sees, for a student of so many pixels a side."""
        return self.input_size or student


class Teacher(TeacherWeights):
    """An entry of `teachers`."""

    origin: Origin | None = Field(default=None, description="where the file is published, and how to get it")


class CheckpointSettings(Settings):
    """Where an encoder's weights come from, as stages get it."""

    format: FormatName = Field(
        description="the upstream file's form (docs/extending.md lists them); timm: any network of timm, its own names"
    )
    architecture: str = Field(
        default="", description="a timm model name; needed by timm and random, the others have their own"
    )
    model_args: ModelArgs = Field(
        default_factory=dict,
        description="further arguments of timm.create_model, such as embed_dim, depth, num_heads",
    )
    input_size: Count | None = Field(
        default=None, description="side of the square input, pixels; if left out, the file's own"
    )
    file: str = Field(default="", description="below checkpoint_root")
    sha256: Sha256 = Field(default="", description="64 hexadecimal digits; a file that differs is refused")
    ema: bool = Field(
        default=True, description="urfm: the moving average of the weights, or, false, those of the last step"
    )
    normalisation: Literal["imagenet", "image"] | Colours | None = Field(
        default=None,
        description="what its pixels in [0, 1] are normalised with: imagenet; image: each image's own mean and "
        "deviation; or [mean, deviation], each one number or three; if left out, the file's own",
    )

    @model_validator(mode="after")
    def _complete(self) -> CheckpointSettings:
        if self.format in ("random", "timm") and not self.architecture:
            raise ValueError(f"checkpoint.architecture: format {self.format} needs the name of a timm architecture")
        if self.format not in ("random", "efficientnet_lite0") and not self.file:
            raise ValueError(f"checkpoint.file: format {self.format} needs the file, below checkpoint_root")
        if not self.ema and self.format != "urfm":
            raise ValueError(f"checkpoint.ema: only format urfm has two sets of weights, not {self.format}")
        return self


class Checkpoint(CheckpointSettings):
    """An upstream file, or random weights."""

    origin: Origin | None = Field(default=None, description="where the file is published, and how to get it")


class StandIns(Settings):
    """Random weights in the form of upstream files, at the size that the model or teacher has here.

    For demonstration only, and marked in every result; checkpoint_root must lie below the results.
    """

    seed: WholeNumber = Field(description="of the weights")
    models: AnyNames = Field(description="names under models with a checkpoint")
    teachers: AnyNames = Field(description="names under teachers with a file")
