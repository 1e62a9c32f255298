"""Table 2 from summaries of splits."""

from __future__ import annotations

import json
import sys

import pandas as pd
import pytest
from urfm.core.cli import run
from urfm.tables.table_2 import Table2Settings, main

TASKS = {
    "breast_tumor": {
        "title": "Breast tumor",
        "dataset_title": "BUS-BRA",
        "classes": {"benign": "Benign", "malignant": "Malignant"},
        "expected": {"images": 1064, "patients": 1064, "labels": {"benign": 722, "malignant": 342}},
    },
    "liver_mass": {
        "title": "Liver mass",
        "dataset_title": "Liver735",
        "classes": {"benign": "Benign", "malignant": "Malignant", "normal": "Normal"},
        "expected": {"images": 735},
    },
    "liver_mvi": {
        "title": "Liver MVI",
        "dataset_title": "LiverMVI",
        "classes": {"mvi": "MVI", "non_mvi": "Non-MVI"},
        "expected": {"images": 1515},
    },
}
UNAVAILABLE = [{"kind": "task", "name": "liver_mvi", "title": "Liver MVI", "reason": "private data set"}]


def summary(task, labels, sizes, simulated=False, differences=()):
    subsets = {name: {"images": size} for name, size in zip(("train", "val", "test"), sizes, strict=True)}
    total = sum(sizes)
    return {
        "task": task,
        "split": "paper",
        "kind": "paper",
        "dataset": task,
        "images": total,
        "patients": total,
        "labels": labels,
        "subsets": subsets,
        "simulated": simulated,
        "expected": {},
        "differences": list(differences),
        "sha256": "",
    }


def build(tmp_path, monkeypatch, summaries, tasks=TASKS, unavailable=UNAVAILABLE, notes=()):
    paths = []
    for number, content in enumerate(summaries):
        paths.append(tmp_path / f"split_{number}.json")
        paths[-1].write_text(json.dumps(content))
    ordered = [[name, task | {"classes": list(task["classes"].items())}] for name, task in tasks.items()]
    settings = json.dumps({"tasks": ordered, "unavailable": unavailable, "notes": notes})
    arguments = ["--settings", settings, "--splits", *map(str, paths), "--output", str(tmp_path / "table_2")]
    monkeypatch.setattr(sys, "argv", ["table_2", *arguments])
    run(main)
    return pd.read_csv(tmp_path / "table_2.csv", dtype=str, keep_default_na=False).set_index("Application")


BREAST = summary("breast_tumor", {"benign": 722, "malignant": 342}, (638, 212, 214))
LIVER = summary("liver_mass", {"benign": 20, "malignant": 40}, (36, 12, 12), True, ["60 images, the paper has 735."])


def test_rows(tmp_path, monkeypatch, capsys):
    table = build(tmp_path, monkeypatch, [LIVER, BREAST], notes=["Breast tumor: the paper keeps one image a patient."])
    assert table.index.tolist() == ["Breast tumor", "Liver mass", "Liver MVI"]
    assert table.loc["Breast tumor"].tolist() == [
        "BUS-BRA", "Benign (722), Malignant (342)", "1,064", "1,064", "1,064", "638", "212", "214", "",
    ]  # fmt: skip
    assert table.loc["Liver mass"].tolist() == [
        "Liver735", "Benign (20), Malignant (40), Normal (0)", "60", "735", "60", "36", "12", "12",
        "differs from the paper; simulated data",
    ]  # fmt: skip
    assert table.loc["Liver MVI", "Note"] == "not available: private data set"
    assert table.loc["Liver MVI", "Images in the paper"] == "1,515"
    text = (tmp_path / "table_2.md").read_text()
    assert "SIMULATED DATA: demonstration only." in text
    assert "Liver mass: 60 images, the paper has 735." in text
    assert "Breast tumor: the paper keeps one image a patient." in text
    assert "2 of 3 tasks available" in capsys.readouterr().out


def test_a_missing_task_that_is_not_described_is_named_too(tmp_path, monkeypatch):
    described = {name: TASKS[name] for name in ("breast_tumor",)}
    table = build(tmp_path, monkeypatch, [BREAST], described)
    assert table.loc["Liver MVI"].tolist() == [*["–"] * 8, "not available: private data set"]
    assert "SIMULATED" not in (tmp_path / "table_2.md").read_text()


def test_patients_that_are_not_known(tmp_path, monkeypatch):
    table = build(tmp_path, monkeypatch, [BREAST | {"patients": None}, LIVER])
    assert table["Patients"].tolist() == ["unknown", "60", "–"]


def test_splits_of_others_are_described(tmp_path, monkeypatch):
    published = {"split": "published", "kind": "published", "rule": "published parts: train, val"}
    notes = ["7 patients are in more than one part"]
    build(tmp_path, monkeypatch, [BREAST | published | {"notes": notes}, LIVER])
    text = (tmp_path / "table_2.md").read_text()
    for sentence in ("Breast tumor: split published.", "Breast tumor: published parts: train, val.", f"{notes[0]}."):
        assert sentence in text
    assert "Split 3:1:1" in text  # the other task's
    build(tmp_path, monkeypatch, [BREAST | published | {"notes": notes}])
    assert "3:1:1" not in (tmp_path / "table_2.md").read_text()
    build(tmp_path, monkeypatch, [BREAST | {"split": "seed-3", "kind": "re-split"}])
    text = (tmp_path / "table_2.md").read_text()
    assert "Breast tumor: split seed-3." in text
    assert "Split 3:1:1" in text


def test_no_split_at_all(tmp_path, monkeypatch):
    table = build(tmp_path, monkeypatch, [])
    assert table["Note"].str.startswith("not available").all()


def test_split_of_an_unknown_task(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        build(tmp_path, monkeypatch, [BREAST | {"task": "spleen"}])
    assert "is of task spleen, which --settings do not list" in capsys.readouterr().err


def test_objects_are_taken_too():
    found = Table2Settings.model_validate({"tasks": TASKS, "unavailable": UNAVAILABLE})
    assert list(found.tasks) == list(TASKS)
