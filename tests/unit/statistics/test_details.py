"""A cell in detail, against counting images and trying every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics
from synthetic_cells import predictions, write_cell
from urfm.core.errors import UrfmError
from urfm.statistics.details import (
    GRID,
    binary_curve,
    cell_details,
    class_table,
    confusion_table,
    roc_curve,
    sensitivity_at,
)
from urfm.statistics.predictions import read_cell


def sample(classes: int, images: int, seed: int, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities; with `levels`, rounded so that many are equal."""
    generator = np.random.default_rng(seed)
    labels, probabilities = generator.integers(classes, size=images), generator.dirichlet(np.ones(classes), images)
    return labels, np.round(probabilities * levels) / levels if levels else probabilities


def rates(positive: np.ndarray, scores: np.ndarray) -> list[tuple[float, float]]:
    """(false, true) positive rate of every threshold, from calling nothing positive to calling everything."""
    thresholds = [np.inf, *sorted(set(scores), reverse=True)]
    return [(float((scores >= t)[~positive].mean()), float((scores >= t)[positive].mean())) for t in thresholds]


@pytest.mark.parametrize("classes", [2, 5])
def test_classes_and_confusion_are_counts_of_images(classes):
    labels, probabilities = sample(classes, 300, 0)
    predicted = probabilities.argmax(axis=1)
    names = [f"c{number}" for number in range(classes)]
    confusion = confusion_table(names, labels, probabilities)
    assert confusion["images"].tolist() == [
        sum(labels[predicted == chosen] == true) for true in range(classes) for chosen in range(classes)
    ]
    assert confusion[["true", "predicted"]].iloc[1].tolist() == ["c0", "c1"]
    table = class_table(names, labels, probabilities, 0.9)
    for c, row in table.iterrows():
        true, chosen = set(np.flatnonzero(labels == c)), set(np.flatnonzero(predicted == c))
        assert row["class"] == names[c]
        assert row["images"] == len(true)
        assert row["sensitivity"] == pytest.approx(len(true & chosen) / len(true))
        assert row["specificity"] == pytest.approx((300 - len(true | chosen)) / (300 - len(true)))
        assert row["precision"] == pytest.approx(len(true & chosen) / len(chosen))
        assert row["f1"] == pytest.approx(2 * len(true & chosen) / (len(true) + len(chosen)))
        assert row["sensitivity_at_specificity"] == sensitivity_at(labels == c, probabilities[:, c], 0.9)
        above = probabilities[labels == c, c][:, None] > probabilities[labels != c, c]
        assert row["auroc"] == pytest.approx(above.mean())


def test_what_has_no_denominator_is_missing():
    """No image of c, and none taken for b: no sensitivity of the one, no precision of the other."""
    labels, probabilities = np.array([0, 0, 1]), np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.5, 0.4, 0.1]])
    table = class_table(["a", "b", "c"], labels, probabilities, 0.9).set_index("class")
    assert table["sensitivity"].tolist() == pytest.approx([0.5, 0, np.nan], nan_ok=True)
    assert table["precision"].tolist() == pytest.approx([0.5, np.nan, 0], nan_ok=True)
    assert table["specificity"].tolist() == pytest.approx([0, 1, 2 / 3])
    assert table.loc["c", ["auroc", "sensitivity_at_specificity"]].isna().all()


@pytest.mark.parametrize(("seed", "levels", "specificity"), [(0, 0, 0.9), (1, 0, 0.85), (2, 5, 0.9), (3, 3, 0.99)])
def test_sensitivity_at_a_specificity_is_the_best_of_all_thresholds(seed, levels, specificity):
    labels, probabilities = sample(2, 200, seed, levels)
    positive, scores = labels == 1, probabilities[:, 1]
    expected = max(true for false, true in rates(positive, scores) if 1 - false >= specificity - 1e-9)
    assert sensitivity_at(positive, scores, specificity) == pytest.approx(expected)
    assert np.isnan(sensitivity_at(np.ones(3, bool), np.arange(3.0), specificity))


@pytest.mark.parametrize("levels", [0, 4])
def test_curve_goes_through_the_rates_of_every_threshold(levels):
    labels, probabilities = sample(3, 120, 1, levels)
    curves = []
    for c in range(3):
        false, true = zip(*rates(labels == c, probabilities[:, c]), strict=True)
        curves.append(np.interp(GRID, false, true))
        assert binary_curve(labels == c, probabilities[:, c]) == pytest.approx(curves[-1])
    assert roc_curve(labels, probabilities, None) == pytest.approx(np.mean(curves, axis=0))


@pytest.mark.parametrize("levels", [0, 4])
def test_the_positive_class_of_two_turns_the_curve_round_and_keeps_its_area(levels):
    """Sensitivity for one class is specificity for the other, so the curve is mirrored at the falling diagonal."""
    labels, probabilities = sample(2, 200, 3, levels)
    probabilities[:, 0] = 1 - probabilities[:, 1]  # without rounding that would tell tied images apart
    for positive in (0, 1):
        false, true, _ = metrics.roc_curve(labels == positive, probabilities[:, positive], drop_intermediate=False)
        assert roc_curve(labels, probabilities, positive) == pytest.approx(np.interp(GRID, false, true))
    false, true, _ = metrics.roc_curve(labels == 1, probabilities[:, 1], drop_intermediate=False)
    mirrored = np.interp(GRID, (1 - true)[::-1], (1 - false)[::-1])
    assert roc_curve(labels, probabilities, 0) == pytest.approx(mirrored)
    assert metrics.roc_auc_score(labels == 0, probabilities[:, 0]) == pytest.approx(
        metrics.roc_auc_score(labels == 1, probabilities[:, 1])
    )


def test_a_cell_says_which_class_is_positive(tmp_path):
    tables = {}
    for number, classes in enumerate((["mvi", "none"], ["benign", "malignant", "normal"])):
        cell = read_cell(write_cell(tmp_path, "urfm", f"task_{number}", predictions(1.5, classes), classes))
        named = ("", "mvi") if number == 0 else ("",)
        tables[number] = {positive: cell_details(cell, "test", 0.9, 10, positive)["curves"] for positive in named}
        with pytest.raises(
            UrfmError, match=rf"positive class 'normal', .* classes {classes[0]}.*tasks\.task_{number}\.pos"
        ):
            cell_details(cell, "test", 0.9, 10, "normal")
    assert {key: set(table["positive"]) for key, table in tables[0].items()} == {"": {"none"}, "mvi": {"mvi"}}
    assert set(tables[1][""]["positive"]) == {""}
    default, own = tables[0].values()
    assert own["auroc"].iloc[0] == default["auroc"].iloc[0]
    assert (own["tpr"] != default["tpr"]).any()


def test_curve_of_a_perfect_a_useless_and_a_tied_model():
    labels = np.array([True, True, False, False])
    assert binary_curve(labels, np.array([0.9, 0.8, 0.2, 0.1])) == pytest.approx(np.ones(201))
    assert binary_curve(labels, np.full(4, 0.5)) == pytest.approx(GRID)
    assert np.isnan(binary_curve(np.ones(4, bool), np.arange(4.0))).all()
