"""Dividing images into parts of given weights: stratified by class, patients never shared.

The paper (Methods, "Downstream fine-tuning applications") divides 3:1:1 and shares no patient between
parts. Its accuracies reveal the rounding for sets with one image per patient: in every class, floor(0.6 n)
images train, floor(0.2 n) validate, the rest tests. Where patients have several images, they are dealt out into
fifths as by scikit-learn's StratifiedGroupKFold, of which three train, one validates and one tests.

Its folds are greedy. Where they leave a class out of a part, or a class's share is off by more than TOLERANCE
(few patients, or a patient with much of a class), whole patients move or change places while that makes the
worst deviation less, from every order of the folds. With up to nine patients this is the best there is, but for
one set in two hundred (compared with all assignments).

The seed also turns the roles of the folds: the shuffle alone leaves patients with many images where they are
(of FETAL_PLANES_DB's 44 patients with more than 30 images, 33 were never tested in ten seeds).

Nothing depends on the order of the rows or on the machine: single images are ordered by a SHA-256 of their name,
the patients are sorted before NumPy's frozen generator shuffles them, and deviations are quotients of whole numbers.
"""

from __future__ import annotations

import math
from itertools import combinations, islice, permutations

import numpy as np
import numpy.typing as npt
import pandas as pd

from urfm.core.errors import UrfmError
from urfm.data.splits.shares import hash_order

TOLERANCE = 0.02  # of a class's images: a part that is off its share by no more is as it should be
STARTS = 20  # orders of the folds from which a repair sets out: all that there are of 3:1:1
PAIRS = 250_000  # pairs of patients tried in an exchange; larger sets have patients enough to move one at a time

Counts = npt.NDArray[np.int64]


def divide(images: pd.DataFrame, parts: dict[str, int], seed: int) -> pd.Series[str]:
    """Name the part of every image.

    Parameters
    ----------
    images
        One row per image with columns image_id (unique), patient_id and label, sorted by image_id.
    parts
        Weight of each part, whole numbers from 1, at least two parts. Where patients have one image each, the last
        part gets what rounding leaves.
    seed
        Another seed gives another division.

    Returns
    -------
    Series
        A part for each row. A class may be left out of a part where there is no other way.
    """
    one_image_each = images["patient_id"].is_unique
    return _by_class(images, parts, seed) if one_image_each else _by_patient(images, parts, seed)


def _by_class(images: pd.DataFrame, parts: dict[str, int], seed: int) -> pd.Series[str]:
    """Of each class the floor of each part's share, but one image at least and one left for every later part."""
    keys = hash_order(images["image_id"], seed, "split")
    place = keys.groupby(images["label"]).rank(method="first").astype(int) - 1
    size = images.groupby("label")["label"].transform("size").astype(int)
    *former, last = parts
    subset = pd.Series(last, index=images.index)
    start = pd.Series(0, index=images.index)
    for number, name in enumerate(former):
        share = (size * parts[name] // sum(parts.values())).clip(lower=1)
        end = (start + share).clip(upper=size - (len(former) - number))
        subset[(place >= start) & (place < end)] = name
        start = end.clip(lower=start)
    return subset


def _by_patient(images: pd.DataFrame, parts: dict[str, int], seed: int) -> pd.Series[str]:
    """One fold per unit of weight; the folds of a part together, repaired where a class is not well divided."""
    patient, patients = pd.factorize(images["patient_id"], sort=True)
    label, labels = pd.factorize(images["label"], sort=True)
    if len(patients) < len(parts):
        raise UrfmError(
            f"{len(images)} images of {len(patients)} patients cannot be divided "
            f"{':'.join(map(str, parts.values()))}; add patients"
        )
    counts = np.zeros((len(patients), len(labels)), np.int64)
    np.add.at(counts, (patient, label), 1)

    divisor = math.gcd(*parts.values())
    roles = [number for number, weight in enumerate(parts.values()) for _ in range(weight // divisor)]
    turn = seed % len(roles)
    roles = roles[-turn:] + roles[:-turn]
    folds = _folds(counts, len(roles), seed)
    if folds is None:  # fewer patients, or fewer images in every class, than folds: deal the patients out
        dealt = hash_order(pd.Series(patients), seed, "split").rank().to_numpy().astype(np.int64) - 1
        folds = dealt % len(roles)

    weights = np.array(list(parts.values()), np.int64)
    found: list[tuple[list[float], Counts]] = []
    orders = dict.fromkeys(islice(permutations(roles), math.factorial(7)))  # the first is `roles`
    for order in islice(orders, STARTS):
        part = _repair(counts, np.array(order, np.int64)[folds], weights)
        worst = _deviations(_held(counts, part, weights), weights).tolist()
        found.append((worst, part))
        if worst[0] <= TOLERANCE:
            break
    _, part = min(found, key=lambda entry: entry[0])
    return pd.Series(np.array(list(parts))[part[patient]], index=images.index)


def _folds(counts: Counts, folds: int, seed: int) -> Counts | None:
    """The fold of each patient (patients,), from their images of each class; None where there are too few for folds.

    These are the folds of scikit-learn's StratifiedGroupKFold (a test compares them), which makes them from a row an
    image and one fold at a time, three times slower. Patients come in a shuffled order, those with the most uneven
    classes first; each goes to the fold that leaves every class most evenly spread, of equal ones to the smallest.
    """
    patients, classes = counts.shape
    images = counts.sum(axis=0)
    if folds > patients or (folds > images).all():
        return None
    order = np.arange(patients)
    np.random.RandomState(seed).shuffle(order)  # frozen: the same in every version of NumPy
    order = order[np.argsort(-np.std(counts[order], axis=1), kind="stable")]
    fold = np.empty(patients, np.int64)
    held = np.zeros((folds, classes))
    for patient in order:
        tried = np.repeat(held[None], folds, axis=0)  # [i]: the patient in fold i
        tried[range(folds), range(folds)] += counts[patient]
        tried /= images
        # np.std over folds, written out: a third of its time on arrays this small.
        tried -= np.add.reduce(tried, axis=1, keepdims=True) / folds
        spreads = np.add.reduce(np.sqrt(np.add.reduce(tried * tried, axis=1) / folds), axis=1) / classes
        sizes = held.sum(axis=1).tolist()
        best, least = 0, math.inf
        for number, spread in enumerate(spreads.tolist()):
            alike = abs(spread - least) <= 1e-8 + 1e-5 * least  # np.isclose
            if spread < least or (alike and sizes[number] < sizes[best]):
                best, least = number, spread
        fold[patient] = best
        held[best] += counts[patient]
    return fold


def _held(counts: Counts, part: Counts, weights: Counts) -> Counts:
    """Images of each class in each part (parts, classes), from those of each patient and the patients' parts."""
    return np.stack([counts[part == number].sum(axis=0) for number in range(len(weights))])


def _deviations(held: Counts, weights: Counts) -> npt.NDArray[np.float64]:
    """How far parts (…, parts, classes) are from their shares, in shares of the class, the worst first.

    A part without images of a class counts as 1, which is more than any deviation can be.
    """
    images = held.sum(axis=-2, keepdims=True)
    off = np.abs(held * weights.sum() - images * weights[:, None]) / (images * weights.sum())
    off = np.where(held == 0, 1.0, off)
    return -np.sort(-off.reshape(*held.shape[:-2], -1), axis=-1)


def _repair(counts: Counts, part: Counts, weights: Counts) -> Counts:
    """Let two patients change places, or one move, as long as that makes the worst deviation less.

    When the worst stays, the next one decides, and so on.
    """
    counts = np.vstack([counts, np.zeros_like(counts[:1])])  # the last row is nobody: a move is an exchange with it
    kind = np.unique(counts, axis=0, return_inverse=True)[1].ravel()  # patients with the same images are tried once
    part = np.append(part, -1)
    while (now := _deviations(held := _held(counts, part, weights), weights).tolist())[0] > TOLERANCE:
        pairs = combinations(range(len(weights)), 2)
        after, one, other, here, there = min(
            _best_step(counts, kind, part, held, weights, here, there) for here, there in pairs
        )
        if after >= now:
            break
        part[one], part[other], part[-1] = there, here, -1
    return part[:-1]


def _best_step(
    counts: Counts, kind: Counts, part: Counts, held: Counts, weights: Counts, here: int, there: int
) -> tuple[list[float], int, int, int, int]:
    """The best step between two parts: deviations after it, the two patients who change places, the parts."""
    nobody = len(part) - 1
    candidates = [np.append(np.flatnonzero(part == number), nobody) for number in (here, there)]
    ones, others = (some[np.unique(kind[some], return_index=True)[1]] for some in candidates)
    if len(ones) * len(others) <= PAIRS:
        one, other = np.repeat(ones, len(others)), np.tile(others, len(ones))
    else:
        one = np.append(ones, np.full(len(others), nobody))
        other = np.append(np.full(len(ones), nobody), others)
    gained = counts[other] - counts[one]
    after = np.repeat(held[None], len(one), axis=0)
    after[:, here] += gained
    after[:, there] -= gained
    deviations = _deviations(after, weights)
    best = np.lexsort(deviations.T[::-1])[0]
    return deviations[best].tolist(), int(one[best]), int(other[best]), here, there
