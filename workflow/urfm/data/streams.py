"""Random numbers by what they are for: every draw has a generator of its own.

So results do not depend on the number of workers or processes, nor on where a run was interrupted.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for; first in a key, so that no two purposes share a stream."""

    ORDER = 0  # seed, epoch
    CROP = 1  # seed, turn (how many times it came up before; the epoch in natural sampling), image
    MASK = 2  # seed, step
    STORED_VIEW = 3  # seed, view, image
    LAYERS = 4  # seed, step, process
    BALANCE = 5  # seed, organ, pass through its images


def generator(stream: Stream, *key: int) -> np.random.Generator:
    """A generator of its own for a purpose and a key of non-negative whole numbers."""
    return np.random.default_rng((int(stream), *key))
