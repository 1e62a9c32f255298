"""Reading what the statistics stage wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256

AVERAGE = "average"  # the task's name in rows that average over tasks
TOO_FEW = "too few patients"  # instead of an interval or P (docs/statistics.md)


@dataclass(frozen=True)
class Stored:
    """Some tables of one comparison, verified, and what its statistics were set to.

    `stand_ins` are models whose weights are not what their name says, `deterministic` those without a seed,
    `warnings` what fine-tuning warned of.
    """

    name: str
    simulated: bool
    stand_ins: list[str]
    deterministic: list[str]
    warnings: list[dict[str, Any]]
    t_test: str
    resamples: int
    draws: int
    confidence: float
    margin: float
    tables: dict[str, pd.DataFrame]


def read_statistics(record: Path, tables: Sequence[str]) -> Stored:
    """Read statistics.json and the named tables beside it; UrfmError when one is not there or was changed."""
    content = read_json(record)
    for name in tables:
        if f"{name}.parquet" not in content["sha256"]:
            raise UrfmError(f"{record}: has no table {name}; delete it and run the statistics again")
        verify_sha256(record.with_name(f"{name}.parquet"), content["sha256"][f"{name}.parquet"])
    return Stored(
        name=content["settings"]["comparison"],
        simulated=content["simulated"],
        stand_ins=list(content.get("stand_ins", [])),
        deterministic=list(content.get("deterministic", [])),
        warnings=list(content.get("warnings", [])),
        t_test=content["settings"]["t_test"],
        resamples=content["settings"]["bootstrap_resamples"],
        draws=content["draws"],
        confidence=content["settings"]["confidence"],
        margin=content["settings"]["margin"],
        tables={name: pd.read_parquet(record.with_name(f"{name}.parquet")) for name in tables},
    )


def interval_words(low: float, high: float, few: bool = False) -> str | None:
    """An interval in percent, from shares: "84.02 to 88.41"; None where there is none."""
    if math.isnan(low):
        return TOO_FEW if few else None
    if high - low < 1e-9:  # such as a model that predicts one class for every image
        return f"{100 * low:.2f} in every resample"
    return f"{100 * low:.2f} to {100 * high:.2f}"


def strongest(scores: pd.DataFrame, reference: str) -> pd.DataFrame:
    """The other model with the highest mean over seeds: model, task, share, metric; a row per task, share, metric."""
    others = scores[(scores["model"] != reference) & scores["mean"].notna()]
    keys = ["task", "share", "metric"]
    return others.loc[others.groupby(keys)["mean"].idxmax(), ["model", *keys]]
