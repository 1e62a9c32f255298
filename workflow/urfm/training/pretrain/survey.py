"""What a run's crops and targets are like before anything is learnt, from a sample of its images.

Three things are taken from it: the colours to normalise with (`normalisation: data`), the scale of each channel of the
targets (`target_norm: channel`), and the floor of the loss: what it costs to guess, for every patch, the mean target of
its position. A network that knows only where a patch lies, and nothing of the image, ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import default_collate

from urfm.training.pretrain.samples import Sample, Samples
from urfm.training.sampling import epoch_places

SAMPLE = 1024  # crops at most
BATCH = 64


def sampled(samples: Samples, seed: int) -> Iterator[Sample]:
    """The first SAMPLE crops of training, in batches: drawn as `sampling` says, the same after an interruption."""
    organs = samples.organs if samples.settings.sampling == "organ_balanced" else None
    places = epoch_places(seed, 0, len(samples), organs)[:SAMPLE].tolist()
    for first in range(0, len(places), BATCH):
        yield default_collate([samples[turn, index] for turn, index in places[first : first + BATCH]])


def colours(samples: Samples, seed: int) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels in [0, 1], to three digits: the same for each colour, because ultrasound is grey."""
    count, total, squares = 0, 0, 0
    for batch in sampled(samples, seed):
        pixels = batch["student"].long()
        count, total = count + pixels.numel(), total + int(pixels.sum())
        squares += int(pixels.square().sum())
    mean = total / count
    deviation = (squares / count - mean**2) ** 0.5
    return [round(mean / 255, 3)] * 3, [round(max(deviation, 1) / 255, 3)] * 3


@dataclass(frozen=True)
class TargetSurvey:
    """Moments of a run's targets over images, in float64.

    Attributes
    ----------
    mean
        Of each position and channel, (patches, dim).
    variance
        Over the images, of each position and channel, (patches, dim); unbiased.
    """

    mean: Tensor
    variance: Tensor

    @property
    def channel_mean(self) -> Tensor:
        """(dim,)"""
        return self.mean.mean(0)

    @property
    def channel_std(self) -> Tensor:
        """(dim,), over images and positions; 1 where a channel is constant."""
        within, between = self.variance.mean(0), self.mean.var(0, unbiased=False)
        deviation = (within + between).sqrt()
        return torch.where(deviation > 0, deviation, 1.0)

    def concentration(self, share: float = 0.01) -> float:
        """What part of the targets' variance this share of the channels holds, at least one: the strongest.

        Plain mean squared error sees little else: `share` if all channels vary alike, near 1 if a few hold all.
        """
        variance = self.channel_std.square().sort(descending=True).values
        return float(variance[: max(1, round(share * len(variance)))].sum() / variance.sum())

    def floor(self, scale: Tensor | None = None) -> float:
        """Mean squared error of guessing every position's mean token; with channels divided by `scale` (dim,)."""
        variance = self.variance if scale is None else self.variance / scale.square()
        return float(variance.mean())


def survey(samples: Samples, seed: int, targets: Callable[[Sample], Tensor]) -> TargetSurvey:
    """Moments of what `targets` makes of a batch, (B, patches, dim): what the loss compares with."""
    count = 0
    mean = squares = torch.zeros(1, dtype=torch.float64)
    for batch in sampled(samples, seed):
        tokens = targets(batch).double().cpu()
        # Chan's update: sums of squares of values far from 0 would lose the digits that count.
        own, images = tokens.mean(0), len(tokens)
        shift = own - mean
        squares = squares + (tokens - own).square().sum(0) + shift.square() * (count * images / (count + images))
        count += images
        mean = mean + shift * (images / count)
    return TargetSurvey(mean, squares / max(count - 1, 1))
