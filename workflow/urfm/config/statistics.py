"""Intervals and tests; and simple classifiers on frozen features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from urfm.config.fields import AnyNames, AnySeeds, Count, Level, Names, Pooling, Positive, Tasks, WholeNumber
from urfm.core.cli import Settings

TTest = Literal["welch", "paired"]
ThresholdRule = Literal["youden", "specificity"]


class Statistics(Settings):
    """Intervals and tests."""

    confidence: Level = Field(description="level of every interval, as a share; 0.95 for 95 %")
    t_test: TTest = Field(description="test over seeds: welch, or paired by seed; two-sided")
    bootstrap_resamples: int = Field(ge=40, description="resamples of the test patients, for intervals")
    # The smallest P is 1 / permutations: with 20 nothing is ever below 0.05.
    permutations: int = Field(
        ge=40,
        description="draws in which models change places on patients, for P; at least 200 are made for each comparison "
        "that Holm's correction is for, so that the smallest corrected P is below 0.01",
    )
    bootstrap_seed: WholeNumber = Field(description="of resamples and draws")
    margin: Level = Field(
        description="difference of two models that does not matter, as a share, for tests of equivalence; 0.02 for "
        "2 points of a score in percent"
    )
    threshold: ThresholdRule = Field(
        description="how the threshold of two classes is chosen, on the validation part: youden, the highest sum of "
        "sensitivity and specificity, or specificity, the highest sensitivity at that of the next key at least"
    )
    specificity: Level = Field(description="at which sensitivity is read off the ROC curve; 0.9 for 90 %")
    calibration_bins: int = Field(
        ge=2, description="equal-width bins of probability in reliability curves and calibration errors"
    )


class Probing(Settings):
    """Classifiers of a probe."""

    pooling: Pooling = Field(description="features: mean of the patch tokens, or class token")
    neighbours: Count = Field(description="k: training images that vote; fewer if there are fewer")
    temperature: Positive = Field(description="a neighbour of cosine similarity s has the weight exp(s / temperature)")


class Probes(Probing):
    """Simple classifiers on frozen features, over the epochs of pre-training."""

    runs: list[Names] = Field(
        description="a list a line: names under pretraining.runs with snapshot_every, runs of a list differing in "
        "their seed alone; none: no figure"
    )
    models: AnyNames = Field(description="names under models to compare with")
    random_seeds: AnySeeds = Field(description="untrained networks of the first run's kind, one a seed")
    tasks: Tasks = Field(description="names under tasks, or of task_lists")


class PictureCount(Settings):
    """How many images are reconstructed."""

    images: Count = Field(description="rows: images of the run's own set, of different organs as far as possible")


class Reconstructions(PictureCount):
    """Pictures of what masked autoencoders predict."""

    runs: AnyNames = Field(description="names under pretraining.runs with snapshot_every; a picture each")
