"""Encoders and teachers: which network, which file, how its input is normalised."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from urfm.core.cli import Settings

Colour = tuple[float, float, float]
FormatName = Literal[
    "random", "timm", "mae", "urfm", "moco_v3", "dino", "simclr", "simclr_v2", "usfm", "clip", "biomedclip",
    "efficientnet_lite0",
]  # fmt: skip
Pooling = Literal["mean", "cls"]


class TeacherSettings(Settings):
    """One entry of `teachers` in the configuration, with its name."""

    name: str
    kind: Literal["biomedclip", "clip", "efficientnet_lite0", "pixels"]
    file: str | None = None  # below the checkpoint root
    hub: str | None = None  # a Hugging Face repository instead, owner/name
    sha256: str | None = None
    model_args: dict[str, Any] = Field(default_factory=dict)  # biomedclip, clip: passed to timm, for a smaller stand-in
    normalise_tokens: bool = True  # biomedclip, clip: tokens after the final LayerNorm, or before it
    block: int = 10  # efficientnet_lite0
    norm_pix: bool = False  # pixels


class CheckpointSettings(Settings):
    """Where an encoder's weights come from: the section `models.<name>.checkpoint` of the configuration."""

    format: FormatName
    architecture: str = ""  # a timm name; default: the format's
    model_args: dict[str, Any] = Field(default_factory=dict)  # passed to timm
    input_size: PositiveInt | None = None  # pixels; default: the file's own
    file: str = ""  # below the checkpoint root
    sha256: str = ""
    ema: bool = True  # of URFM's two sets of weights the moving average
    mean: Colour | None = None
    std: Colour | None = None

    @model_validator(mode="after")
    def _complete(self) -> CheckpointSettings:
        if self.format in ("random", "timm") and not self.architecture:
            raise ValueError(f"checkpoint.architecture: format {self.format} needs the name of a timm architecture")
        if self.format not in ("random", "efficientnet_lite0") and not self.file:
            raise ValueError(f"checkpoint.file: format {self.format} needs the file, below checkpoint_root")
        if not self.ema and self.format != "urfm":
            raise ValueError(f"checkpoint.ema: only format urfm has two sets of weights, not {self.format}")
        return self
