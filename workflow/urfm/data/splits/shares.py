"""A share of a training part: fewer patients, the same on every machine, smaller shares within larger ones."""

from __future__ import annotations

import hashlib

import pandas as pd

from urfm.core.errors import UrfmError


def hash_order(names: pd.Series[str], seed: int, purpose: str) -> pd.Series[str]:
    """Sort keys that put `names` in an order that looks random and is the same on every machine."""
    return names.map(lambda name: hashlib.sha256(f"{purpose}/{seed}/{name}".encode()).hexdigest())


def take_share(train: pd.DataFrame, share: float, seed: int = 0) -> pd.DataFrame:
    """Take a share of a training part, stratified by class and patient by patient.

    Of the patients whose most frequent label is a given class, in an order fixed by `seed`, the longest run
    is taken whose images are at most the share of that class's; so one image a patient gives the floor in each
    class (10 % of Liver735's 441 = 26 + 12 + 6 = 44, the paper's number). The first patient of every class is
    always taken. Smaller shares are subsets of larger ones.

    Parameters
    ----------
    train
        Rows with image_id, patient_id and label; other columns are kept.
    share
        Percent, above 0 and at most 100.
    seed
        Another seed takes other patients.

    Returns
    -------
    DataFrame
        The rows taken, sorted by image_id.
    """
    if not 0 < share <= 100:
        raise UrfmError(f"share: {share}; expected percent of the training part, above 0 and at most 100")
    train = train.sort_values("image_id", ignore_index=True)
    images = pd.crosstab(train["patient_id"], train["label"])
    names = images.index.to_series().astype(str)
    images = images.loc[hash_order(names, seed, "share").sort_values(kind="stable").index]
    first_of_class = [images.index[images[label] > 0][0] for label in images.columns]

    stratum = images.idxmax(axis=1)  # ties: the first label in sorted order
    size = images.sum(axis=1)
    reached = size.groupby(stratum).cumsum()
    allowed = size.groupby(stratum).transform("sum") * share // 100
    taken = images.index[reached <= allowed].union(first_of_class)
    return train[train["patient_id"].isin(taken)].reset_index(drop=True)
