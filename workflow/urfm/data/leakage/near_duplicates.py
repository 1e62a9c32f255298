"""Searching for near duplicates by perceptual hash, among a million pictures too, and patients made of them.

The search is exact in the 64 lowest coefficients of each window: of 64 bits in three parts, two hashes that differ in
at most 8 agree in one part but for 2. Every part is looked up with every such change (multi-index hashing, Norouzi et
al., CVPR 2012), in blocks that fit a processor's cache, so that memory stays flat however alike the pictures are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from urfm.config.data import ProxyPatients
from urfm.core.errors import UrfmError
from urfm.core.progress import progress
from urfm.data.leakage.perceptual import BITS, WINDOWS

Words = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]

SEARCH_RADIUS = 8  # of the 64 lowest bits of the windows that agree best
PARTS = ((42, 22), (21, 21), (0, 21))  # shift and width
BLOCK = 1 << 16  # hashes, and pairs, looked at together: larger ones leave the cache, smaller ones cost calls
PROXY = "near_duplicates"  # the patient_source of proxy patients


def near_pairs(
    hashes: Words, radius: int, groups: Index | None = None, label: str = ""
) -> Iterator[tuple[Index, Index]]:
    """All pairs of 64-bit hashes that differ in at most `radius` bits, each pair once, in blocks.

    Parameters
    ----------
    hashes
        uint64 (n,).
    groups
        (n,): pairs within a group are passed over, e.g. the frames of a video.
    label
        Name of the work, to show its progress.

    Yields
    ------
    first, second
        Places in `hashes`, first < second; blocks and the pairs in them are in no particular order.
    """
    earlier: list[tuple[int, int, int]] = []
    # One of three parts differs in at most radius // 3 bits, or an earlier one in fewer: sum of (limit + 1) > radius.
    for number, (shift, width) in enumerate(PARTS):
        limit = (radius - number) // len(PARTS)
        if limit < 0:
            break
        part = _part(hashes, shift, width)
        order = np.argsort(part, kind="stable")
        sorted_hashes = hashes[order]
        work = f"{label} {number + 1}/{len(PARTS)}" if label else ""
        for rows, begin, size in _agreeing(part[order], width, limit, work):
            row = np.repeat(np.arange(len(rows)), size)
            right = np.arange(len(row)) + (begin + size - np.cumsum(size))[row]
            different = sorted_hashes[rows][row] ^ sorted_hashes[right]
            near = np.flatnonzero(np.bitwise_count(different) <= radius)
            for before in earlier:  # found there already
                near = near[np.bitwise_count(_part(different[near], *before[:2])) > before[2]]
            first, second = order[rows[row[near]]], order[right[near]]
            if groups is not None:
                apart = groups[first] != groups[second]
                first, second = first[apart], second[apart]
            if len(first):
                yield np.minimum(first, second), np.maximum(first, second)
        earlier.append((shift, width, limit))


def _part(hashes: Words, shift: int, width: int) -> Index:
    return ((hashes >> np.uint64(shift)) & np.uint64((1 << width) - 1)).astype(np.int64)


def _agreeing(part: Index, width: int, limit: int, label: str) -> Iterator[tuple[Index, Index, Index]]:
    """Pairs of places in the sorted values `part` whose values differ in at most `limit` bits, each once, in blocks.

    Yields rows, begin, size: each of the rows pairs with the `size` places from `begin` on.
    """
    start = np.searchsorted(part, np.arange((1 << width) + 1))
    size = np.diff(start)
    lows = range(0, len(part), BLOCK)
    for low in progress(lows, label) if label else lows:
        rows = np.arange(low, min(low + BLOCK, len(part)))
        yield from _blocks(rows, rows + 1, start[part[rows] + 1] - rows - 1)
        for highest in range(width if limit else 0):
            # Each pair from the side whose highest changed bit is 0.
            lower = rows[(part[rows] >> highest) & 1 == 0]
            for others in (bits for count in range(limit) for bits in combinations(range(highest), count)):
                partner = part[lower] ^ sum(1 << bit for bit in (highest, *others))
                yield from _blocks(lower, start[partner], size[partner])


def _blocks(rows: Index, begin: Index, size: Index) -> Iterator[tuple[Index, Index, Index]]:
    """Some of the rows at a time, of about BLOCK pairs together."""
    total = np.cumsum(size)
    cuts = np.searchsorted(total, np.arange(BLOCK, size.sum() + BLOCK, BLOCK)) + 1
    for low, high in pairwise([0, *cuts]):
        yield rows[low:high], begin[low:high], size[low:high]


def unpack(hashes: pd.Series[str]) -> Words:
    """Perceptual hashes as uint64 (n, windows, 3); zeros where there is none. UrfmError if they are of another kind."""
    digits = WINDOWS * BITS // 4
    if not hashes.str.len().isin([0, digits]).all():
        raise UrfmError(
            "the manifest's phash is not of this version of the program; delete the manifest and rebuild it"
        )
    text = "".join(hashes.where(hashes != "", "0" * digits))
    words = np.frombuffer(bytes.fromhex(text), dtype=">u8").astype(np.uint64)
    return words.reshape(len(hashes), WINDOWS, BITS // 64)


def window_distances(first: Words, second: Words) -> Index:
    """Different bits between each window of one and each of the other, (n, windows x windows), of each pair."""
    different: Words = first[:, :, None] ^ second[:, None, :]
    counts: Index = np.bitwise_count(different).sum(axis=-1, dtype=np.int64)
    return counts.reshape(len(first), WINDOWS * WINDOWS)


def near_images(
    hashes: Words, distance: int, groups: Index | None = None, label: str = ""
) -> Iterator[tuple[Index, Index, Index]]:
    """Pairs of images whose hashes, uint64 (n, windows, 3), differ in at most `distance` of 192 bits, each once.

    Yields blocks (first, second, distance) with first < second. Images without a hash (zeros) are near none, and pairs
    within one of `groups` are passed over. A pair is missed if no two windows agree in their lowest 64 bits but for 8.
    """
    images, windows = np.nonzero(_first_of_its_kind(hashes[..., 0]) & np.bitwise_or.reduce(hashes, axis=2).astype(bool))
    apart = images if groups is None else groups[images]
    for left, right in near_pairs(hashes[images, windows, 0], SEARCH_RADIUS, apart, label):
        first, second = images[left], images[right]
        # Several windows may agree: the pair is taken where the first of them do.
        lowest = window_distances(hashes[first, :, :1], hashes[second, :, :1])
        leading = np.argmax(lowest <= SEARCH_RADIUS, axis=1)
        chosen = leading == WINDOWS * windows[left] + windows[right]
        first, second = first[chosen], second[chosen]
        found = window_distances(hashes[first], hashes[second]).min(axis=1)
        near = found <= distance
        if near.any():
            yield first[near], second[near], found[near]


def _first_of_its_kind(words: Words) -> npt.NDArray[np.bool_]:
    """Which windows, (n, windows), do not repeat an earlier one of their image."""
    repeats = np.zeros(words.shape, bool)
    for window in range(1, words.shape[1]):
        repeats[:, window] = (words[:, :window] == words[:, window : window + 1]).any(axis=1)
    return ~repeats


def proxy_patients(images: pd.DataFrame, settings: ProxyPatients) -> pd.DataFrame:
    """Patients for images without a patient id: near duplicates, and near duplicates of these, form one.

    Parameters
    ----------
    images
        Columns image_id, phash, frame, patient_id and patient_source of one data set.

    Returns
    -------
    DataFrame
        Columns patient_id and patient_source with the same index. Images that join get the least patient_id among
        them and the source near_duplicates; all others keep what they have.
    """
    unknown = np.flatnonzero(images["patient_source"] == "none")
    place = _places(images.iloc[unknown]) if settings.places is not None else None
    links: list[Index] = [np.empty((2, 0), np.int64)]
    for first, second, _ in near_images(unpack(images["phash"].iloc[unknown]), settings.distance):
        if place is not None:
            close = np.abs(place[first] - place[second]) <= settings.places
            first, second = first[close], second[close]
        links.append(np.stack([first, second]))
    first, second = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(first), bool), (first, second)), shape=(len(unknown), len(unknown)))
    group = pd.Series(connected_components(graph, directed=False)[1], images.index[unknown])
    together = group[group.duplicated(keep=False)]
    proxies = images[["patient_id", "patient_source"]].copy()
    proxies.loc[together.index, "patient_id"] = (
        images.loc[together.index, "patient_id"].groupby(together).transform("min")
    )
    proxies.loc[together.index, "patient_source"] = PROXY
    return proxies


def _places(images: pd.DataFrame) -> Index:
    numbers = pd.to_numeric(images["frame"], errors="coerce")
    wrong = images.loc[numbers.isna() | (numbers % 1 != 0)]
    if len(wrong):
        image, frame = wrong.iloc[0][["image_id", "frame"]]
        raise UrfmError(
            f"proxy_patients.places compares frame numbers, but the frame of image {image!r} is {frame!r}; "
            "leave `places` out for this data set"
        )
    return numbers.to_numpy(np.int64)
