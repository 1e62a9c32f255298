"""The table of a comparison, against means and deviations by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_cells import write_cells
from urfm.core.cli import run
from urfm.statistics.predictions import read_cell
from urfm.statistics.stage import StatisticsSettings, compute, write
from urfm.statistics.stored import interval_words
from urfm.tables import comparison
from urfm.tables.comparison import difference_texts

MODELS = {"urfm": "URFM", "usfm": "USFM", "mine": "Mine"}
SKILLS = {"urfm": 2.2, "usfm": 1.9, "mine": 0.8}
TASKS = {"breast_tumor": "Breast tumor", "liver_mass": "Liver mass"}
SETTINGS = {
    "title": "My benchmark",
    "models": list(MODELS.items()),
    "tasks": list(TASKS.items()),
    "reference": "mine",
    "notes": ["Not available: MVI (private)."],
}


def statistics(folder: Path, tasks: dict[str, int], lines: list[str] | None = None, **how: object) -> Path:
    paths = write_cells(folder / "cells", SKILLS, tasks, **{"patients": 60, **how})
    settings = StatisticsSettings(
        comparison="mine",
        lines=lines or [],
        reference="mine",
        confidence=0.9,
        t_test="welch",
        bootstrap_resamples=300,
        permutations=1000,
        bootstrap_seed=0,
        margin=0.02,
        threshold="youden",
        specificity=0.9,
        calibration_bins=10,
    )
    write(folder, compute([read_cell(path) for path in paths], settings), settings, ["usfm"], deterministic=lines or [])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return statistics(tmp_path_factory.mktemp("own"), {"breast_tumor": 2, "liver_mass": 3}, simulated=True)


def built(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> tuple[pd.DataFrame, str]:
    """The table by task, metric and model, and its Markdown."""
    stem = folder / "tables" / "mine"
    command = ["comparison", "--settings", json.dumps(SETTINGS | changes), "--output", str(stem)]
    monkeypatch.setattr(sys, "argv", [*command, "--statistics", str(folder / "statistics.json")])
    run(comparison.main)
    assert {path.suffix for path in stem.parent.glob("mine.*")} == {".csv", ".md", ".tex"}
    table = pd.read_csv(stem.with_suffix(".csv"), dtype=str)
    return table.set_index(["Task", "Metric", "Model"]), stem.with_suffix(".md").read_text()


def test_means_and_deviations_are_those_of_the_predictions(folder, monkeypatch):
    table, _ = built(folder, monkeypatch)
    assert list(table.columns) == [
        "Score (%)", "Interval (%)", "P", "Detectable", "Equivalence", "Seeds", "Images", "Patients",
    ]  # fmt: skip
    assert len(table) == 3 * 3 * 3  # two tasks and their mean, metrics, models
    by_task = {}
    for task, title in TASKS.items():
        predictions = pd.read_parquet(folder / "cells" / "mine" / task / "100" / "predictions.parquet")
        test = predictions[predictions["subset"] == "test"]
        names = [name for name in test.columns if name.startswith("p_")]
        chosen = test[names].idxmax(axis=1).str.removeprefix("p_")
        right = (chosen == test["label"]).groupby(test["seed"]).mean()
        by_task[task] = right
        row = table.loc[(title, "ACC", "Mine")]
        assert row["Score (%)"] == f"{100 * right.mean():.2f} ± {100 * np.std(right, ddof=1):.2f}"
        assert (row["Seeds"], row["Images"]) == (str(len(right)), "60")
    both = (by_task["breast_tumor"] + by_task["liver_mass"]) / 2
    expected = f"{100 * both.mean():.2f} ± {100 * both.std(ddof=1):.2f}"
    assert table.loc[("Mean over 2 tasks", "ACC", "Mine"), "Score (%)"] == expected


def test_intervals_and_p_are_over_patients_and_corrected(folder, monkeypatch):
    table, text = built(folder, monkeypatch)
    scores = pd.read_parquet(folder / "scores.parquet").set_index(["task", "metric", "model"])
    row = scores.loc[("liver_mass", "f1_macro", "urfm")]
    printed = table.loc[("Liver mass", "F1", "URFM")]
    assert printed["Interval (%)"] == f"{100 * row['boot_low']:.2f} to {100 * row['boot_high']:.2f}"
    differences = pd.read_parquet(folder / "differences.parquet").set_index(["task", "metric", "model"])
    assert printed["P"] == f"{differences.loc[('liver_mass', 'f1_macro', 'urfm'), 'perm_p_holm']:.3f}"
    gap = differences.loc[("liver_mass", "f1_macro", "urfm")]
    assert printed["Detectable"] == f"{100 * gap['detectable']:.1f}"
    assert printed["Equivalence"] == f"{gap['equivalence_p_holm']:.3f}"
    assert "a power of 80 % (two-sided, 10 %, one comparison by itself)" in text
    assert "differ by less than 2 points" in text
    assert set(table.xs("Mine", level="Model")[["P", "Detectable", "Equivalence"]].to_numpy().ravel()) == {"–"}
    assert "USFM (stand-in)" in table.index.get_level_values("Model")
    assert "SIMULATED DATA" in text
    assert "Intervals: 90 %, over patients by bootstrap, 300 resamples" in text
    assert "models exchanged patient by patient, 1,000 draws" in text
    assert "difference to Mine" in text
    assert "Not available: MVI (private)." in text


def test_what_leads_and_what_is_tested(folder, monkeypatch):
    table, _ = built(folder, monkeypatch, metric="auroc", against=["urfm"])
    assert list(dict.fromkeys(table.index.get_level_values("Metric"))) == ["AUC", "ACC", "F1"]
    assert set(table.xs("USFM (stand-in)", level="Model")["P"]) == {"–"}
    assert "–" not in set(table.xs("URFM", level="Model")["P"])


def test_shares_have_a_column(tmp_path, monkeypatch):
    folder = statistics(tmp_path, {"breast_tumor": 2})
    for name in ("scores", "differences"):
        whole = pd.read_parquet(folder / f"{name}.parquet")
        pd.concat([whole, whole.assign(share=10)]).to_parquet(folder / f"{name}.parquet")
    monkeypatch.setattr("urfm.statistics.stored.verify_sha256", lambda *_: None)
    table, _ = built(folder, monkeypatch, tasks=[["breast_tumor", "Breast tumor"]])
    assert list(table["Training part"]) == [share for share in ("100 %", "10 %") for _ in range(9)]


def test_a_split_a_seed_has_the_corrected_interval(tmp_path, monkeypatch):
    folder = statistics(tmp_path, {"breast_tumor": 2}, resplit=True)
    table, text = built(folder, monkeypatch, tasks=[["breast_tumor", "Breast tumor"]])
    scores = pd.read_parquet(folder / "scores.parquet").set_index(["metric", "model"])
    row = scores.loc[("accuracy", "urfm")]
    interval = f"{100 * row['nb_low']:.2f} to {100 * row['nb_high']:.2f}"
    assert table.loc[("Breast tumor", "ACC", "URFM"), "Interval (%)"] == interval
    assert "over re-splits, Nadeau-Bengio corrected" in text


def test_p_values_as_words():
    rest = {"nb_p_holm": 0.5, "detectable": 0.0413, "equivalence_p_holm": 0.0301, "few_patients": False}
    rows = [{"perm_p_holm": p, **rest} for p in (0.0004, 0.012, 1.0, float("nan"))]
    assert [difference_texts(row, False)[0] for row in rows] == ["< 0.001", "0.012", "1.000", "–"]
    assert difference_texts(rows[0], True) == ("0.500", "4.1", "0.030")
    few = rows[3] | {"few_patients": True, "detectable": float("nan"), "equivalence_p_holm": float("nan")}
    assert difference_texts(few, False) == ("too few patients",) * 3
    assert difference_texts(few | {"few_patients": False}, False) == ("–",) * 3
    assert difference_texts(None, False) == ("–",) * 3


def test_intervals_as_words():
    assert interval_words(0.8402, 0.88414) == "84.02 to 88.41"
    assert interval_words(0.65, 0.65) == "65.00 in every resample"
    assert interval_words(float("nan"), float("nan")) is None
    assert interval_words(float("nan"), float("nan"), few=True) == "too few patients"


def test_too_few_patients_are_said(tmp_path, monkeypatch):
    folder = statistics(tmp_path, {"breast_tumor": 2}, patients=9)
    table, _ = built(folder, monkeypatch, tasks=[["breast_tumor", "Breast tumor"]])
    row = table.loc[("Breast tumor", "AUC", "URFM")]
    assert row[["Interval (%)", "P", "Detectable", "Equivalence"]].tolist() == ["too few patients"] * 4


def test_lines_have_scores_and_no_p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = statistics(tmp_path, {"breast_tumor": 2, "liver_mass": 3}, lines=["usfm"])
    models = [item for item in MODELS.items() if item[0] != "usfm"]
    table, text = built(folder, monkeypatch, models=models, lines=[["usfm", "USFM"]])
    scores = pd.read_parquet(folder / "lines.parquet").set_index(["task", "metric"])["mean"]
    for task, title in (*TASKS.items(), ("average", "Mean over 2 tasks")):
        row = table.loc[(title, "F1", "USFM (stand-in)")]
        assert row["Score (%)"] == f"{100 * scores[(task, 'f1_macro')]:.2f}"  # no deviation: no seed changes it
        assert " to " in row["Interval (%)"]
        assert row["P"] == "–"
    assert table.loc[("Liver mass", "F1", "URFM"), "P"] != "–"
    assert "The same for every seed, hence without standard deviation: USFM." in text
    assert "Not compared: USFM." in text
