"""The table of sensitivity and specificity, from the statistics of synthetic cells."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import recall_score
from test_comparison import MODELS, TASKS, statistics
from urfm.core.cli import run
from urfm.tables import operating_points
from urfm.tables.operating_points import threshold_text

SETTINGS = {
    "models": list(MODELS.items()),
    "tasks": list(TASKS.items()),
    "specificity": 0.9,
    "notes": ["Not available: MVI (private)."],
}


def built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[pd.DataFrame, str]:
    """The table by model, and its Markdown."""
    stem = folder / "tables" / "operating_points"
    command = ["operating_points", "--settings", json.dumps(SETTINGS), "--output", str(stem)]
    monkeypatch.setattr(sys, "argv", [*command, "--statistics", str(folder / "statistics.json")])
    run(operating_points.main)
    return pd.read_csv(stem.with_suffix(".csv"), dtype=str).set_index("Model"), stem.with_suffix(".md").read_text()


def test_rates_are_those_of_the_predictions(tmp_path, monkeypatch):
    folder = statistics(tmp_path, {"breast_tumor": 2, "liver_mass": 3}, simulated=True)
    table, text = built(folder, monkeypatch)
    assert list(table.index) == ["URFM", "USFM (stand-in)", "Mine"]  # of the task of two classes alone
    assert set(table["Task"]) == {"Breast tumor"}
    assert set(table["Positive"]) == {"class 1"}
    cuts = pd.read_csv(folder / "thresholds.csv").query("model == 'urfm'")
    test = pd.read_parquet(folder / "cells/urfm/breast_tumor/100/predictions.parquet").query("subset == 'test'")
    rates = [
        recall_score(own["label"] == "class_1", own["p_class_1"] >= cut)
        for (_, own), cut in zip(test.groupby("seed"), cuts["threshold"], strict=True)
    ]
    row = table.loc["URFM"]
    assert row["Sensitivity (%)"] == f"{100 * sum(rates) / len(rates):.1f}"
    low, high = (float(end) for end in row["Interval (%)"].split(" to "))
    assert low < float(row["Sensitivity (%)"]) < high
    assert row["Threshold (%)"] == f"{100 * cuts['threshold'].min():.1f} to {100 * cuts['threshold'].max():.1f}"
    assert row[["Seeds", "Positive images", "Images", "Patients"]].tolist() == ["3", "30", "60", "60"]
    assert "chosen on its validation part (highest sum of sensitivity and specificity (Youden))" in text
    assert "SIMULATED DATA" in text
    assert "Not available: MVI (private)." in text


def test_too_few_patients_are_said(tmp_path, monkeypatch):
    table, _ = built(statistics(tmp_path, {"breast_tumor": 2}, patients=9), monkeypatch)
    assert set(table["Interval (%)"]) == set(table["Interval of specificity (%)"]) == {"too few patients"}


def test_tasks_of_more_classes_are_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        built(statistics(tmp_path, {"liver_mass": 3}), monkeypatch)
    assert "no model on a task of two classes" in capsys.readouterr().err


def test_thresholds_as_words():
    assert threshold_text(0.0625) == "6.2"
    assert threshold_text(float("inf")) == "none positive"
    assert threshold_text(float("nan")) == "–"
