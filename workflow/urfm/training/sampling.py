"""The order in which an epoch shows the images: a function of seed and epoch alone.

An epoch has as many draws as there are images. A draw is a place: the image's index, and the turn, which says how often
it came up before and with it decides the crop, so that a repeated image is never shown twice alike.

- natural: every image once, in random order; the turn is the epoch.
- organ-balanced: organs take turns, so that their draws never differ by more than one, in an epoch or since the start.
  An organ's images come in one random permutation after another, continued from epoch to epoch: of an organ with many
  images an epoch shows a part, the next epochs the rest, before any comes again. The draws of an epoch are then
  shuffled. The paper says no more than that "balanced sampling brought negligible improvement" (Introduction); this
  is our definition.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from urfm.data.streams import Stream, generator

Place = tuple[int, int]  # turn, index of the image
Places = npt.NDArray[np.int64]  # (draws, 2)
Codes = npt.NDArray[np.uint8]  # the organ of each image, numbered from 0 without a gap


def epoch_order(seed: int, epoch: int, images: int) -> npt.NDArray[np.int64]:
    """A random permutation of the images, the same in every version of numpy."""
    return np.argsort(generator(Stream.ORDER, seed, epoch).random(images), kind="stable")


def epoch_places(seed: int, epoch: int, images: int, organs: Codes | None = None) -> Places:
    """The draws of an epoch, (images, 2): turn and index; organs equally often if `organs`, each image's, is given."""
    order = epoch_order(seed, epoch, images)
    if organs is None:
        return np.column_stack([np.full(images, epoch), order])
    return _balanced(seed, epoch, organs)[order]


def _balanced(seed: int, epoch: int, organs: Codes) -> Places:
    """The draws of an epoch, organ after organ."""
    draws, kinds = len(organs), int(organs.max()) + 1
    parts = []
    for organ in range(kinds):
        members = np.flatnonzero(organs == organ)
        size = len(members)
        # Draw number d since the start goes to organ d mod kinds: this organ's draws before this epoch and after it.
        first, last = ((end * draws + kinds - 1 - organ) // kinds for end in (epoch, epoch + 1))
        for turn in range(first // size, -(-last // size)):
            order = np.argsort(generator(Stream.BALANCE, seed, organ, turn).random(size), kind="stable")
            drawn = members[order[max(first - turn * size, 0) : last - turn * size]]
            parts.append(np.column_stack([np.full(len(drawn), turn), drawn]))
    return np.concatenate(parts)
