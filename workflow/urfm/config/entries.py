"""Entries that say only what differs from a full section: runs, and what a model has of its own.

A module of their own, because `optional` runs when they are imported: no stage does that, so it is no stage's code
(urfm.core.code).
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, Field, model_validator

from urfm.config.fields import Name, NotNegative, Text
from urfm.config.finetuning import Finetuning
from urfm.config.models import Baseline, Checkpoint, Mode
from urfm.config.pretraining import Defaults
from urfm.core.cli import Settings

Kind = TypeVar("Kind", bound=BaseModel)


def optional(kind: type[Kind]) -> type[Kind]:
    """Decorate a class: every key may be left out. For entries that say only what differs from the full section."""
    for field in kind.model_fields.values():
        field.default = None
    kind.model_rebuild(force=True)
    return kind


@optional
class Run(Defaults):
    """One run: the keys that differ from pretraining.defaults. It is a model of the same name, too."""

    title: Text = Field(description="what figures print; the run's name if left out")


class Pretraining(Settings):
    """Masked-image-modelling runs (Table 4)."""

    defaults: Defaults = Field(description="every key of a run, used where a run does not say otherwise")
    runs: dict[Name, Run] = Field(description="runs by name, each with the keys that differ from defaults")


@optional
class ModelFinetuning(Finetuning):
    """What a model has of its own: keys that differ from `finetuning`."""


class Model(Settings):
    """An encoder, fine-tuned or frozen, or a baseline: exactly one of `pretraining`, `checkpoint` and `baseline`."""

    title: Text = Field(description="what figures print")
    pretraining: Name | None = Field(
        default=None, description="a name under pretraining.runs: its encoder; left out, the run of the model's name"
    )
    checkpoint: Checkpoint | None = Field(default=None, description="an upstream file, or random weights")
    decoder: Name | None = Field(
        default=None,
        description="a name under pretraining.runs, whose teacher, decoder, mask ratio and target norm are those that "
        "the file of format urfm was trained with: then figures 1B and 6 look at the decoder in the file",
    )
    baseline: Baseline | None = Field(
        default=None,
        description="no encoder: how frequent each class is in the training part, or logistic regression on grey "
        "thumbnails of 32 x 32 pixels",
    )
    mode: Mode = Field(
        default="finetune",
        description="what is done with the encoder: all of it is trained; or nothing, and logistic regression "
        "(linear_probe) or nearest neighbours (knn, as probes.neighbours and probes.temperature say) on its features",
    )
    blur_sigma: NotNegative | None = Field(
        default=None,
        description="Gaussian blur of all images that the encoder sees downstream, in pixels of the file, as those who "
        "deblur demand of it; 0 none; if left out, as in its pre-training here. Each value is a second image store (D99)",
    )
    finetuning: ModelFinetuning | None = Field(
        default=None,
        description="keys that differ from the section finetuning, for this model; of a frozen encoder pooling and "
        "evaluation_resize count",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        sources = ("pretraining", "checkpoint", "baseline")
        if sum(getattr(self, name) is not None for name in sources) != 1:
            raise ValueError("needs exactly one of `pretraining`, `checkpoint` and `baseline`")
        if self.decoder and (self.checkpoint is None or self.checkpoint.format != "urfm"):
            raise ValueError("decoder: only a checkpoint of format urfm has one to read")
        if self.baseline and {"mode", "finetuning", "blur_sigma"} & self.model_fields_set:
            raise ValueError("a baseline has no encoder; leave out `mode`, `finetuning` and `blur_sigma`")
        return self
