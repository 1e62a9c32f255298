"""Scores of every seed and part of a cell, and reading its predictions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from synthetic_cells import predictions, write_cell
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, write_json
from urfm.statistics.predictions import read_cell, read_subset
from urfm.statistics.seed_scores import absent_classes, seed_scores


def test_absent_class_leaves_auroc_undefined_and_f1_as_scikit_learn(tmp_path, capsys):
    table = predictions(1.0, ["a", "b", "c"], patients=30)
    table = table[~((table["subset"] == "val") & (table["label"] == "c"))]
    cell = read_cell(write_cell(tmp_path, "urfm", "toy", table, ["a", "b", "c"]))
    found = seed_scores(cell)
    area = found[(found["subset"] == "val") & (found["metric"] == "auroc")]["value"]
    assert area.isna().all()
    assert found.drop(area.index)["value"].between(0, 1).all()
    assert "auroc of the val part is undefined: no image of c" in capsys.readouterr().out
    val = read_subset(cell, "val")
    assert absent_classes(cell.classes, val.labels) == ["c"]


def test_every_seed_and_subset_of_a_cell(tmp_path):
    cell = read_cell(write_cell(tmp_path, "urfm", "toy", predictions(1.0, ["a", "b"], seeds=[3, 1]), ["a", "b"]))
    table = seed_scores(cell)
    assert table.columns.tolist() == ["model", "task", "share", "subset", "seed", "metric", "value"]
    assert table["seed"].tolist() == [1] * 3 + [3] * 3 + [1] * 3 + [3] * 3
    assert table["metric"].tolist() == ["accuracy", "auroc", "f1_macro"] * 4
    assert table["value"].between(0, 1).all()


def replace_predictions(path: Path, table: pd.DataFrame) -> None:
    """Put other predictions under a cell.json whose hash fits them."""
    table.to_parquet(path.with_name("predictions.parquet"), index=False)
    write_json(path, read_json(path) | {"sha256": sha256(path.with_name("predictions.parquet"))})


def _tamper(table: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    table = table.copy()
    table.loc[5, column] = value
    return table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="p_b"), "column p_b is missing"),
        (lambda t: t.drop(columns="patient_id"), "column patient_id is missing"),
        (lambda t: _tamper(t, "label", "z"), "label 'z' is none of the task's classes"),
        (lambda t: _tamper(t, "p_a", float("nan")), r"probability is not in \[0, 1\]"),
        (lambda t: t[t["seed"] != 2].assign(seed=lambda t: t["seed"] + 5), "tested|seeds"),
    ],
)
def test_unusable_predictions_are_named(tmp_path, change, message):
    good = predictions(1.0, ["a", "b"])
    path = write_cell(tmp_path, "urfm", "toy", good, ["a", "b"])
    replace_predictions(path, change(good))
    with pytest.raises(UrfmError, match=message):
        read_cell(path)


def test_changed_predictions_are_refused(tmp_path):
    path = write_cell(tmp_path, "urfm", "toy", predictions(1.0, ["a", "b"]), ["a", "b"])
    predictions(2.0, ["a", "b"]).to_parquet(path.with_name("predictions.parquet"), index=False)
    with pytest.raises(UrfmError, match="changed after it was made"):
        read_cell(path)
    path.with_name("predictions.parquet").unlink()
    with pytest.raises(UrfmError, match="no such file"):
        read_cell(path)


def test_seeds_on_different_images_are_refused(tmp_path):
    table = predictions(1.0, ["a", "b"])
    table = table.drop(index=table.index[-1])
    path = write_cell(tmp_path, "urfm", "toy", predictions(1.0, ["a", "b"]), ["a", "b"])
    replace_predictions(path, table)
    with pytest.raises(UrfmError, match="different test images"):
        read_subset(read_cell(path), "test")
