"""Thresholds, sensitivity, specificity and net benefit: scikit-learn, closed forms, and predictions made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
from synthetic_cells import predictions, write_cell, write_cells
from urfm.config.statistics import Statistics
from urfm.statistics.clinical import (
    CLINICAL,
    GRID,
    choose_threshold,
    clinical_tables,
    net_benefit,
    sensitivity,
    specificity,
    treat_all,
)
from urfm.statistics.predictions import read_cell, read_subset

SETTINGS = Statistics(
    confidence=0.95, t_test="welch", bootstrap_resamples=300, permutations=100, bootstrap_seed=0, margin=0.02,
    threshold="youden", specificity=0.8, calibration_bins=10,
)  # fmt: skip
CLASSES = ["benign", "malignant"]


def tables(paths: list[Path], **changes: object) -> dict[str, pd.DataFrame]:
    return clinical_tables([read_cell(path) for path in paths], "test", SETTINGS.model_copy(update=changes), {})


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clinical")
    return write_cells(folder, {"urfm": 1.6, "usfm": 0.8}, {"breast_tumor": 2, "liver_mass": 3}, patients=80)


@pytest.mark.parametrize("rule", ["youden", "specificity"])
def test_thresholds_come_from_the_validation_part_of_each_seed(paths, rule):
    """By trying every validation score with scikit-learn's confusion matrix; the test part has no say."""
    found = tables(paths, threshold=rule)["thresholds"]
    assert len(found) == 2 * 3  # models, seeds; liver_mass has three classes
    assert set(found["part"]) == {"val"}
    assert set(found["rule"]) == {rule}
    for path in paths:
        cell = read_cell(path)
        part = read_subset(cell, "val")
        if len(cell.classes) > 2:
            continue
        rows = found.query("model == @cell.model").to_dict("records")
        for row, own in zip(rows, part.probabilities, strict=True):
            worth = {}
            for threshold in own[:, 1]:
                tn, fp, fn, tp = sk.confusion_matrix(part.labels, own[:, 1] >= threshold).ravel()
                sens, spec = tp / (tp + fn), tn / (tn + fp)
                worth[threshold] = sens + spec if rule == "youden" else sens if spec >= 0.8 else -1
            assert row["threshold"] == max(t for t, value in worth.items() if value >= max(worth.values()) - 1e-12)
            assert (row["part_images"], row["part_positives"]) == (len(part.labels), part.labels.sum())


def test_the_positive_class_may_be_the_first(paths):
    cells = {read_cell(path).model: read_cell(path) for path in paths if "breast_tumor" in path.parts}
    found = clinical_tables(list(cells.values()), "test", SETTINGS, {"breast_tumor": "class_0"})
    for _, row in found["operating_points"].iterrows():
        test = read_subset(cells[row["model"]], "test")
        cuts = found["thresholds"].query("model == @row.model").sort_values("seed")["threshold"]
        called = [own[:, 0] >= cut for own, cut in zip(test.probabilities, cuts, strict=True)]
        assert (row["positive"], row["positives"]) == ("class_0", (test.labels == 0).sum())
        assert row["sensitivity"] == pytest.approx(np.mean([sk.recall_score(test.labels == 0, c) for c in called]))


def test_sensitivity_and_specificity_equal_scikit_learn(paths):
    found = tables(paths)
    assert set(found["operating_points"]["task"]) == {"breast_tumor"}
    for _, row in found["operating_points"].iterrows():
        cuts = found["thresholds"].query("model == @row.model").set_index("seed")
        cell = read_cell(next(path for path in paths if path.parts[-4:-2] == (row["model"], row["task"])))
        test = read_subset(cell, "test")
        chosen = [own[:, 1] >= cuts.loc[seed, "threshold"] for seed, own in enumerate(test.probabilities)]
        sens = [sk.recall_score(test.labels, called) for called in chosen]
        spec = [sk.recall_score(test.labels, called, pos_label=0) for called in chosen]
        assert cuts["sensitivity"].tolist() == pytest.approx(sens)
        assert cuts["specificity"].tolist() == pytest.approx(spec)
        assert (row["sensitivity"], row["specificity"]) == pytest.approx((np.mean(sens), np.mean(spec)))
        for rate in ("sensitivity", "specificity"):
            assert row[f"{rate}_low"] < row[rate] < row[f"{rate}_high"]
        assert (row["threshold_low"], row["threshold_high"]) == (cuts["threshold"].min(), cuts["threshold"].max())
        assert (row["images"], row["positives"], row["patients"]) == (80, 40, 80)
        assert (row["positive"], row["seeds"], row["part"], row["rule"]) == ("class_1", 3, "val", "youden")


def test_interval_of_sensitivity_is_the_binomial_one(tmp_path):
    """One image a patient, one seed: as wide as the exact binomial's normal approximation."""
    path = write_cell(tmp_path, "urfm", "toy", predictions(1.0, CLASSES, patients=400, seeds=[0]), CLASSES)
    row = tables([path], bootstrap_resamples=4000)["operating_points"].iloc[0]
    for rate in ("sensitivity", "specificity"):
        error = np.sqrt(row[rate] * (1 - row[rate]) / 200)
        assert row[f"{rate}_high"] - row[f"{rate}_low"] == pytest.approx(2 * stats.norm.ppf(0.975) * error, rel=0.1)


def test_images_of_a_patient_widen_the_interval(tmp_path):
    """Eight equal images of each patient are worth one, so the interval is that of one."""
    alone = predictions(1.0, CLASSES, patients=100, seeds=[0])
    eight = pd.concat([alone.assign(image_id=alone["image_id"] + f"-{copy}") for copy in range(8)])
    paths = [write_cell(tmp_path, name, name, table, CLASSES) for name, table in (("one", alone), ("eight", eight))]
    found = tables(paths, bootstrap_resamples=2000)["operating_points"].set_index("model")
    width = found["sensitivity_high"] - found["sensitivity_low"]
    assert found.loc["eight", "sensitivity"] == found.loc["one", "sensitivity"]
    assert width["eight"] == pytest.approx(width["one"], rel=0.1)


def test_thresholds_by_hand():
    positive = np.array([True, True, True, False, False, False, False])
    scores = np.array([0.9, 0.8, 0.3, 0.6, 0.4, 0.2, 0.1])
    assert choose_threshold(positive, scores, "youden", 0.9) == 0.8  # 2/3 + 1, against 1 + 1/2 at 0.3
    assert choose_threshold(positive, scores, "specificity", 0.5) == 0.3
    assert choose_threshold(positive, 1 - scores, "youden", 0.9) == np.inf  # the wrong way round: nobody
    assert choose_threshold(positive, np.full(7, 0.5), "youden", 0.9) == np.inf  # knows nothing: nobody
    assert np.isnan(choose_threshold(np.ones(3, bool), scores[:3], "youden", 0.9))


def test_net_benefit_by_hand():
    """Ten images, three positive. From 0.2 on four are treated, three rightly: (3 - 1 x 0.2 / 0.8) / 10."""
    positive = np.arange(10) < 3
    scores = np.array([0.9, 0.6, 0.3, 0.35, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05])
    found = net_benefit(positive, scores[None], np.array([0.05, 0.2, 0.5, 0.95])).value
    assert found == pytest.approx([(3 - 7 / 19) / 10, (3 - 0.25) / 10, 2 / 10, 0])
    assert found[0] == pytest.approx(treat_all(0.3, np.array([0.05]))[0])
    # Mean over seeds, not of averaged predictions: the second treats nobody.
    both = net_benefit(positive, np.stack([scores, np.zeros(10)]), np.array([0.2])).value
    assert both == pytest.approx([0.1375])
    assert treat_all(0.3, np.array([0.3])) == pytest.approx([0.0])  # indifferent at the prevalence


def test_net_benefit_of_calibrated_scores_has_a_closed_form():
    """Risk r uniform on (0, 1), told exactly.

    True positives: the integral of r from p to 1, (1 - p^2) / 2. False ones: that of 1 - r, (1 - p)^2 / 2.
    """
    random = np.random.default_rng(0)
    risk = random.random(400_000)
    positive = random.random(400_000) < risk
    p = np.array([0.1, 0.3, 0.5, 0.8])
    expected = (1 - p**2) / 2 - (1 - p) ** 2 / 2 * p / (1 - p)
    assert net_benefit(positive, risk[None], p).value == pytest.approx(expected, abs=0.003)
    assert (expected > np.maximum(0, treat_all(0.5, p))).all()


def test_curves_hold_both_reference_strategies_and_intervals(paths):
    curves = tables(paths)["net_benefit"]
    assert len(curves) == 2 * len(GRID)
    assert curves["treat_all"].to_numpy() == pytest.approx(np.tile(0.5 - 0.5 * GRID / (1 - GRID), 2))
    # From 1 % on nearly all are treated.
    assert curves.query("threshold == 0.01")["net_benefit"].to_numpy() == pytest.approx([0.495, 0.495], abs=0.005)
    assert (curves["boot_low"] <= curves["net_benefit"] + 1e-9).all()
    assert (curves["net_benefit"] <= curves["boot_high"] + 1e-9).all()
    cell = read_cell(paths[0])
    test = read_subset(cell, "test")
    row = curves.query("model == @cell.model and threshold == 0.4").iloc[0]
    each = []
    for own in test.probabilities:
        _, fp, _, tp = sk.confusion_matrix(test.labels, own[:, 1] >= 0.4).ravel()
        each.append((tp - fp * 0.4 / 0.6) / len(test.labels))
    assert row["net_benefit"] == pytest.approx(np.mean(each))


def test_too_few_patients_have_no_intervals(tmp_path):
    """Four patients of a class, although of four images each."""
    found = tables(write_cells(tmp_path, {"urfm": 1.0}, {"toy": 2}, patients=9, images_per_patient=4))
    row, curve = found["operating_points"].iloc[0], found["net_benefit"]
    assert row["few_patients"] and curve["few_patients"].all()  # noqa: PT018
    assert row[["sensitivity_low", "sensitivity_high", "specificity_low", "specificity_high"]].isna().all()
    assert curve[["boot_low", "boot_high"]].isna().all(axis=None)
    assert 0 <= row["sensitivity"] <= 1


def test_validation_part_without_a_class_has_no_threshold(tmp_path, capsys):
    table = predictions(1.0, CLASSES)
    table = table[(table["subset"] == "test") | (table["label"] == "benign")]
    found = tables([write_cell(tmp_path, "urfm", "toy", table, CLASSES)])
    assert found["thresholds"]["threshold"].isna().all()
    assert found["operating_points"][["sensitivity", "specificity", "sensitivity_low"]].isna().all(axis=None)
    assert found["net_benefit"]["net_benefit"].notna().all()
    assert "urfm/toy/100: no threshold, hence no sensitivity at one" in capsys.readouterr().out


def test_a_split_per_seed_has_its_own_parts_and_nothing_over_patients(tmp_path):
    parts = []
    for seed in range(3):
        part = predictions(1.0, CLASSES, seeds=[seed], task_seed=seed)
        parts.append(part.assign(image_id=part["image_id"] + f"-{seed}"))
    path = write_cell(tmp_path, "urfm", "toy", pd.concat(parts), CLASSES, resplit=True)
    found = tables([path])
    row, cuts = found["operating_points"].iloc[0], found["thresholds"]
    assert cuts["threshold"].nunique() == 3
    expected = []
    for part, cut in zip(parts, cuts["threshold"], strict=True):
        test = part[part["subset"] == "test"]
        expected.append(sk.recall_score(test["label"] == "malignant", test["p_malignant"] >= cut))
    assert row["sensitivity"] == pytest.approx(np.mean(expected))
    assert np.isnan(row["sensitivity_low"])
    assert not row["few_patients"]
    assert found["net_benefit"]["boot_low"].isna().all()


def test_tasks_of_more_classes_have_no_rows(paths):
    found = tables([path for path in paths if "liver_mass" in path.parts])
    assert {name: list(table.columns) for name, table in found.items()} == CLINICAL
    assert all(table.empty for table in found.values())


def test_rates_without_positives_are_undefined():
    nobody = np.zeros(3, bool)
    assert np.isnan(sensitivity(nobody, np.ones(3)).value)
    assert specificity(nobody, np.array([1.0, 0.0, 0.5])).value == 0.5
