"""The metrics against scikit-learn, plain and weighted, and that a metric is added in one file."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import urfm.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
from urfm.metrics import METRICS, SELECTION, MetricName, score


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


def validate(labels, probabilities):
    return {name: choose(labels, probabilities) for name, choose in SELECTION.items()}


def test_validation_of_three_classes():
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.array([[8, 1, 1], [3, 6, 1], [1, 8, 1], [2, 7, 1], [1, 1, 8], [5, 1, 4]]) / 10
    scores = validate(labels, probabilities)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["f1_macro"] == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert scores["auroc"] == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))
    weighted = score(labels, probabilities, np.ones((6, 1)))
    assert scores == {name: pytest.approx(values[0]) for name, values in weighted.items()}
    binary = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    assert validate(np.array([0, 0, 1, 1]), binary)["auroc"] == pytest.approx(0.75)


def test_validation_without_a_class_averages_over_the_others():
    labels = np.array([0, 0, 2, 2])
    probabilities = np.array([[7, 2, 1], [2, 5, 3], [1, 1, 8], [6, 1, 3]]) / 10
    scores = validate(labels, probabilities)
    assert scores["accuracy"] == pytest.approx(0.5)
    assert scores["f1_macro"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert scores["auroc"] == pytest.approx((3 / 4 + 3.5 / 4) / 2)  # pairs in the right order; a tie counts half
    assert np.isnan(validate(np.array([1, 1]), probabilities[:2])["auroc"])


def test_titles():
    assert [(metric.short, metric.title) for metric in METRICS.values()] == [
        ("ACC", "Accuracy"),
        ("F1", "Macro F1"),
        ("AUC", "AUROC"),
    ]


def test_settings_know_the_names_of_the_metrics():
    assert get_args(MetricName) == tuple(METRICS) == tuple(SELECTION)


def test_no_other_module_lists_the_metrics():
    """A tuple, list, dictionary or Literal that spells more than one of their names would miss the next."""
    house = Path(urfm.metrics.__file__).parent
    listed = set()
    for path in house.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", [])
            names = {part.value for part in parts if isinstance(part, ast.Constant)}
            if len(names & set(METRICS)) > 1:
                listed.add(path.relative_to(house).as_posix())
    assert listed == {"metrics.py"}


ADDED = """
def balanced_accuracy(labels: IntArray, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    right = probabilities.argmax(axis=1) == labels
    classes = range(probabilities.shape[1])
    return np.mean([(right & (labels == c)) @ weights / ((labels == c) @ weights) for c in classes], axis=0)


def validation_balanced_accuracy(labels: IntArray, probabilities: FloatArray) -> float:
    right = probabilities.argmax(axis=1) == labels
    return float(np.mean([right[labels == c].mean() for c in np.unique(labels)]))


METRICS: dict[str, Metric] = {
    "balanced": Metric("BACC", "balanced accuracy", balanced_accuracy),
"""
CHOSEN = """SELECTION: dict[str, Callable[[IntArray, FloatArray], float]] = {
    "balanced": validation_balanced_accuracy,
"""


def test_a_metric_is_added_in_one_file(tmp_path):
    """Balanced accuracy, in a copy of the library of which nothing but metrics.py is changed."""
    house = Path(urfm.metrics.__file__).parent
    shutil.copytree(house, tmp_path / "urfm", ignore=shutil.ignore_patterns("__pycache__"))
    text = (tmp_path / "urfm/metrics.py").read_text()
    text = text.replace("METRICS: dict[str, Metric] = {\n", ADDED.lstrip()).replace("Literal[", 'Literal["balanced", ')
    text = text.replace(CHOSEN.splitlines(keepends=True)[0], CHOSEN)
    (tmp_path / "urfm/metrics.py").write_text(text)
    here = Path(__file__).parent
    paths = [tmp_path, here / "figures", here / "statistics"]
    found = subprocess.run(
        [sys.executable, here / "whole_house.py", "balanced", tmp_path / "work"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    known = json.loads(found.stdout.splitlines()[-1])
    assert all(known["rows"].values()), known["rows"]
    assert known["drawn"] == ["BACC", "BACC (%)", "Mean BACC (%)"]
    assert known["paper"][0] == "liver_mass, urfm, BACC (%)"
    assert known["paper"][3] != "–"
    assert "BACC" in known["report"]
    assert known["selects"]
