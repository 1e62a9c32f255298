"""How many epochs of fine-tuning a model needs, from the histories that fine-tuning writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from urfm.core.errors import UrfmError
from urfm.core.files import read_json

REACHED = 0.99  # of its best validation score: from here on a curve has converged
SCORE = "val_f1_macro"
COLUMNS = ["model", "task", "share", "seed", "epoch", "simulated"]


def converged_epochs(history: pd.DataFrame) -> pd.Series[int]:
    """Of each seed the first epoch whose score is REACHED of this seed's best, by seed; none for one without scores.

    `history` has a row per seed and epoch: seed, epoch, val_f1_macro in [0, 1].
    """
    scored = history[history[SCORE].notna()]
    best = scored.groupby("seed")[SCORE].transform("max")
    return scored[scored[SCORE] >= REACHED * best].groupby("seed")["epoch"].min()


def read_converged(cells: Sequence[Path]) -> pd.DataFrame:
    """COLUMNS of the cells whose cell.json these are, a row per seed; UrfmError when a history lacks a column."""
    tables = []
    for path in cells:
        record, file = read_json(path), path.with_name("history.csv")
        history = pd.read_csv(file)
        if absent := [name for name in ("seed", "epoch", SCORE) if name not in history.columns]:
            raise UrfmError(f"{file}: no column {absent[0]}; fine-tune this cell again")
        own = {name: record[name] for name in ("model", "task", "share", "simulated")}
        tables.append(converged_epochs(history).reset_index().assign(**own))
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
