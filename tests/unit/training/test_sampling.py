"""The order of images in an epoch: natural and organ-balanced."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from urfm.training.distributed import Processes
from urfm.training.pretrain.samples import Batches
from urfm.training.sampling import epoch_places


def codes(sizes: list[int], seed: int) -> np.ndarray:
    """Organs 0, 1, … with so many images each, mixed."""
    organs = np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)
    return np.random.default_rng(seed).permutation(organs)


def test_natural_sampling_shows_every_image_once() -> None:
    for epoch in (0, 3):
        places = epoch_places(5, epoch, 50)
        assert (places[:, 0] == epoch).all()
        assert sorted(places[:, 1]) == list(range(50))
    assert not np.array_equal(epoch_places(5, 0, 50)[:, 1], epoch_places(6, 0, 50)[:, 1])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    seed=st.integers(0, 2**32 - 1),
    epochs=st.integers(1, 6),
)
def test_balanced_sampling(sizes: list[int], seed: int, epochs: int) -> None:
    organs = codes(sizes, seed)
    drawn = [epoch_places(seed, epoch, len(organs), organs) for epoch in range(epochs)]
    assert all(len(places) == len(organs) for places in drawn)
    for places in [*drawn, np.concatenate(drawn)]:
        # Organs are equally likely: their draws differ by one at most, in an epoch and over all.
        counts = np.bincount(organs[places[:, 1]], minlength=len(sizes))
        assert counts.max() - counts.min() <= 1
    everything = np.concatenate(drawn)
    # No draw is repeated, so no crop is; and within an organ no image is ahead of another by more than one draw.
    assert len({tuple(place) for place in everything.tolist()}) == len(everything)
    seen = np.bincount(everything[:, 1], minlength=len(organs))
    for organ in range(len(sizes)):
        own = seen[organs == organ]
        assert own.max() - own.min() <= 1
    turns: dict[int, list[int]] = {}
    for turn, index in everything.tolist():
        turns.setdefault(index, []).append(turn)
    assert all(sorted(list_of) == list(range(len(list_of))) for list_of in turns.values())


def test_balanced_epochs_are_mixed_and_differ() -> None:
    organs = codes([400, 100, 20], 0)
    first, second = (epoch_places(0, epoch, 520, organs) for epoch in (0, 1))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, epoch_places(1, 0, 520, organs))
    # A hundred draws hold a third of each organ, not one organ after another; 33 +- 4 standard deviations.
    assert all(14 <= count <= 53 for count in Counter(organs[first[:100, 1]].tolist()).values())
    # The large organ's second epoch goes on where the first stopped.
    large = [set(places[organs[places[:, 1]] == 0, 1].tolist()) for places in (first, second)]
    assert not large[0] & large[1]


def test_balanced_batches_depend_neither_on_processes_nor_on_the_start() -> None:
    organs = codes([12, 5, 4], 0)

    def places(world: int, start: int) -> list[list[tuple[int, int]]]:
        jobs = [Processes(rank, world, torch.device("cpu")) for rank in range(world)]
        parts = [list(Batches(21, 8, job, 3, start, 6, organs)) for job in jobs]
        return [[place for part in step for place in part] for step in zip(*parts, strict=True)]

    assert places(1, 0) == places(2, 0) == places(4, 0)
    assert places(1, 0)[3:] == places(1, 3)
    expected = [tuple(place) for place in epoch_places(3, 1, 21, organs)[:8].tolist()]
    assert places(1, 0)[2] == expected
