"""Scores against scikit-learn, plain and weighted, and reading the predictions of a cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from synthetic_cells import predictions, write_cell
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, write_json
from urfm.metrics import score
from urfm.statistics.predictions import read_cell, read_subset
from urfm.statistics.seed_scores import absent_classes, cell_metrics


def sklearn_scores(labels, probabilities, weights):
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    areas = [
        roc_auc_score(labels == c, probabilities[:, c], sample_weight=weights)
        for c in ([1] if classes == 2 else range(classes))
    ]
    return {
        "accuracy": accuracy_score(labels, predicted, sample_weight=weights),
        "f1_macro": f1_score(labels, predicted, average="macro", sample_weight=weights),
        "auroc": np.mean(areas),
    }


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 8))
def test_scores_equal_scikit_learn_under_every_column_of_weights(seed, classes, levels):
    """Rounded probabilities make ties; a weight is how often a bootstrap drew the image."""
    generator = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), generator.integers(classes, size=50)]
    probabilities = generator.dirichlet(np.ones(classes), len(labels))
    probabilities = np.round(probabilities * levels) / levels
    weights = generator.integers(0, 4, size=(len(labels), 5)).astype(float)
    weights[:classes] = 1  # every class is there
    found = score(labels, probabilities, weights)
    for column in range(5):
        expected = sklearn_scores(labels, probabilities, weights[:, column])
        for metric, value in expected.items():
            assert found[metric][column] == pytest.approx(value, abs=1e-12), metric


def test_auroc_of_more_classes_equals_scikit_learns_one_vs_rest():
    generator = np.random.default_rng(0)
    labels = generator.integers(4, size=200)
    probabilities = generator.dirichlet(np.ones(4), 200)
    expected = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert score(labels, probabilities, np.ones((200, 1)))["auroc"][0] == pytest.approx(expected, abs=1e-12)


def test_worked_example():
    """Scores 0.1 to 0.8: of 2 x 3 pairs, 5 are in the right order and one is tied: 5.5 / 6."""
    labels = np.array([0, 0, 1, 0, 1])
    positive = np.array([0.1, 0.3, 0.6, 0.6, 0.8])
    found = score(labels, np.stack([1 - positive, positive], axis=1), np.ones((5, 1)))
    assert found["auroc"][0] == pytest.approx(5.5 / 6)
    assert found["accuracy"][0] == pytest.approx(4 / 5)
    # benign: TP 2, FN 1; malignant: TP 2, FP 1; both F1 = 4/5
    assert found["f1_macro"][0] == pytest.approx(0.8)


def test_a_reversed_order_scores_below_chance():
    labels = np.array([0, 0, 1, 1])
    positive = np.array([0.9, 0.8, 0.2, 0.1])
    found = score(labels, np.stack([1 - positive, positive], axis=1), np.ones((4, 1)))
    assert {metric: float(value[0]) for metric, value in found.items()} == {"accuracy": 0, "f1_macro": 0, "auroc": 0}


def test_absent_class_leaves_auroc_undefined_and_f1_as_scikit_learn(tmp_path, capsys):
    table = predictions(1.0, ["a", "b", "c"], patients=30)
    table = table[~((table["subset"] == "val") & (table["label"] == "c"))]
    cell = read_cell(write_cell(tmp_path, "urfm", "toy", table, ["a", "b", "c"]))
    found = cell_metrics(cell)
    area = found[(found["subset"] == "val") & (found["metric"] == "auroc")]["value"]
    assert area.isna().all()
    assert found.drop(area.index)["value"].between(0, 1).all()
    assert "auroc of the val part is undefined: no image of c" in capsys.readouterr().out
    val = read_subset(cell, "val")
    assert absent_classes(cell.classes, val.labels) == ["c"]


def test_every_seed_and_subset_of_a_cell(tmp_path):
    cell = read_cell(write_cell(tmp_path, "urfm", "toy", predictions(1.0, ["a", "b"], seeds=[3, 1]), ["a", "b"]))
    table = cell_metrics(cell)
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
