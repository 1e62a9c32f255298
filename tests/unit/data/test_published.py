"""Splits that others published, taken as they are."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from manifest_tables import to_table
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256
from urfm.data.datasets import READERS
from urfm.data.splits import stage as splits
from urfm.data.splits.checks import shared_patients
from urfm.data.splits.published import official, ultrabench

RATIO = (3, 1, 1)


def images(parts: list[str], patients: list[int] | None = None) -> pd.DataFrame:
    """One image a row of official_split; classes alternate; a patient each unless said otherwise."""
    numbers = range(len(parts))
    return pd.DataFrame(
        {
            "image_id": [f"set/{number:03}" for number in numbers],
            "patient_id": [f"set/p{number}" for number in (patients or numbers)],
            "label": ["benign" if number % 2 else "malignant" for number in numbers],
            "official_split": parts,
        }
    )


def test_three_parts_are_taken_as_they_are() -> None:
    parts = ["train", "test", "val", "", "train", "val"]
    found = official(images(parts), RATIO, 0)
    assert found.subset.tolist() == parts
    assert found.notes == []


def test_folds() -> None:
    parts = [f"fold-{number % 5 + 1}" for number in range(20)] + [""]
    found = official(images(parts), RATIO, 0)
    wanted = {"fold-1": "test", "fold-2": "val", "fold-3": "train", "fold-4": "train", "fold-5": "train", "": ""}
    assert found.subset.tolist() == [wanted[name] for name in parts]
    assert "1 tests, 2 validates, 3 to 5 train" in found.rule


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_validation_is_taken_from_training_by_patient(held_out: str) -> None:
    parts = ["train"] * 160 + [held_out] * 40
    patients = [number // 4 for number in range(200)]
    table = images(parts, patients)
    found = official(table, RATIO, 0)
    assert (found.subset[160:] == "test").all()
    train = table[:160].assign(subset=found.subset[:160])
    assert train.groupby("patient_id")["subset"].nunique().max() == 1
    assert Counter(train["subset"]) == {"train": 120, "val": 40}
    assert Counter(train.loc[train["subset"] == "val", "label"]) == {"benign": 20, "malignant": 20}
    assert not official(table, RATIO, 1).subset.equals(found.subset)
    assert any("1 of 4 of the training part" in note for note in found.notes)
    assert ("the only held-out part is called val; it is the test part" in found.notes) == (held_out == "val")
    shuffled = table.sample(frac=1, random_state=0).sort_values("image_id", ignore_index=True)
    assert official(shuffled, RATIO, 0).subset.equals(found.subset)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["", ""], r"publishes no split.*all of 2 images.*paper or seed-<n>"),
        (["val", "test"], r"official_split holds test, val; expected train with val"),
        (["train", "fold-1"], r"official_split holds fold-1, train; expected"),
        (["fold-1", "fold-2"], r"official_split holds fold-1, fold-2; expected .* at least three"),
        (["fold-1", "fold-2", "fold-4"], r"official_split holds fold-1, fold-2, fold-4"),
        (["fold-a", "fold-b", "fold-c"], r"official_split holds fold-a"),
        (["training", "test"], r"official_split holds test, training"),
    ],
)
def test_what_is_no_split(parts: list[str], message: str) -> None:
    with pytest.raises(UrfmError, match=message):
        official(images(parts), RATIO, 0)


def write_lists(folder: Path, **lists: list[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, entries in lists.items():
        (folder / f"{name}.json").write_text(json.dumps(entries, indent=4))
    return folder


def entries(*names: str) -> list[dict[str, Any]]:
    return [{"image": f"images/{name}", "scan_mask": "masks/scan/x.png", "label": 0} for name in names]


def liver(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"image_id": [f"aul/{name}" for name in sorted(names)]})


def test_ultrabench_lists_name_our_images(tmp_path: Path) -> None:
    """AUL's <class>_<n>.jpg is our <class>-<n>; MMOTU's <n>.png our <n>; suffix, case and separators do not matter."""
    folder = write_lists(
        tmp_path,
        train=entries("benign_7.jpg", "normal_1.jpg"),
        validation=entries("malignant_10.jpg"),
        test=entries("benign_70.jpg"),
    )
    ours = liver("benign-7", "benign-70", "malignant-10", "malignant-1", "normal-1")
    found = ultrabench(ours, ours["image_id"], folder)
    assert dict(zip(ours["image_id"], found.subset, strict=True)) == {
        "aul/benign-7": "train",
        "aul/benign-70": "test",
        "aul/malignant-1": "",
        "aul/malignant-10": "val",
        "aul/normal-1": "train",
    }
    assert found.notes == []
    ovary = pd.DataFrame({"image_id": ["mmotu/1", "mmotu/1469", "mmotu/2.JPG"]})
    folder = write_lists(tmp_path, train=entries("2.png"), validation=entries("1469.png"), test=entries("1.png"))
    assert ultrabench(ovary, ovary["image_id"], folder).subset.tolist() == ["test", "val", "train"]


def test_ultrabench_and_the_task_differ(tmp_path: Path) -> None:
    folder = write_lists(tmp_path, train=entries("a_1.jpg", "a_2.jpg"), validation=[], test=[])
    both = liver("a-1", "a-2")
    found = ultrabench(both[:1], both["image_id"], folder)  # a-2 is excluded
    assert found.subset.tolist() == ["train"]
    assert found.notes == ["1 images of UltraBench's are excluded here or are not of this task"]
    with pytest.raises(UrfmError, match=r"train\.json: 'images/a_2\.jpg' is no image of the data set's manifest"):
        ultrabench(both[:1], both["image_id"][:1], folder)
    write_lists(tmp_path, test=entries("a_1.jpg"))
    with pytest.raises(UrfmError, match=r"test\.json: 'images/a_1\.jpg' occurs a second time \('aul/a-1'\)"):
        ultrabench(both, both["image_id"], folder)
    alike = liver("a-1", "a_1")
    with pytest.raises(UrfmError, match="'aul/a-1' and 'aul/a_1' cannot be told apart"):
        ultrabench(alike, alike["image_id"], folder)


@pytest.mark.parametrize("content", ["{}", "5", "null", '["a"]', '[{"label": 1}]', '[{"image": 7}]', "<html>"])
def test_ultrabench_lists_that_are_none(tmp_path: Path, content: str) -> None:
    folder = write_lists(tmp_path, train=[], validation=[], test=[])
    (folder / "validation.json").write_text(content)
    with pytest.raises(UrfmError, match=r"validation\.json: (expected an array of objects|not valid JSON)"):
        ultrabench(liver("a-1"), [], folder)
    (folder / "validation.json").unlink()
    with pytest.raises(UrfmError, match=r"validation\.json: no such file; put UltraBench's output there"):
        ultrabench(liver("a-1"), [], folder)


def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: pd.DataFrame, **options: Any) -> dict[str, Any]:
    """The command line on a manifest: the split's summary, with the split itself under `table`."""
    parquet, summary = tmp_path / "m.parquet", tmp_path / "m.json"
    table.assign(**{"patient_source": "metadata", "excluded_reason": ""} | dict(table.items())).to_parquet(parquet)
    summary.write_text(json.dumps({"dataset": "set", "simulated": False, "sha256": sha256(parquet)}))
    settings = {"task": "t", "classes": ["benign", "malignant"], "ratio": [3, 1, 1], "seed": 0} | options
    outputs = tmp_path / "split.parquet", tmp_path / "split.json"
    arguments = ["--root", tmp_path, "--manifest", parquet, "--manifest-summary", summary]
    arguments += ["--settings", json.dumps(settings), "--output", outputs[0], "--summary", outputs[1]]
    monkeypatch.setattr("sys.argv", ["splits", *map(str, arguments)])
    splits.main()
    return {**read_json(outputs[1]), "table": pd.read_parquet(outputs[0])}


def test_flaws_of_a_published_split_are_said_and_counted_not_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = ["train"] * 10 + ["val"] * 4 + ["test"] * 5 + [""]
    patients = [*range(10), 0, 11, 12, 13, 0, 3, 16, 17, 18, 19]  # patients 0 and 3 are in several parts
    table = images(parts, patients)
    table.loc[14:18, "label"] = "benign"
    found = stage(tmp_path, monkeypatch, table, split="published")
    assert found["table"]["subset"].tolist() == parts[:-1]
    assert list(found["table"].columns) == ["image_id", "patient_id", "label", "subset"]
    assert (found["kind"], found["shared_patients"], found["left_out"]) == ("published", 2, 1)
    assert found["rule"] == "published parts: train, val, test"
    assert found["images"] == 19
    assert found["notes"] == [
        "test holds no image of class 'malignant'",
        "1 images are in none of its parts and left out",
        "2 patients or groups of near duplicates are in several parts: its scores are too good",
    ]
    printed = capsys.readouterr().err
    for sentence in found["notes"]:
        assert f"warning: task t, published split: {sentence}" in printed


def test_splits_of_our_own_in_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = images([""] * 60, [number // 2 for number in range(60)])
    paper = stage(tmp_path, monkeypatch, table)
    wanted = {"kind": "paper", "split": "paper", "rule": "stratified groups", "seed": 0, "notes": []}
    wanted |= {"shared_patients": 0, "left_out": 0}
    assert {key: paper[key] for key in wanted} == wanted
    other = stage(tmp_path, monkeypatch, table, split="seed-3", seed=3)
    assert (other["kind"], other["split"], other["seed"]) == ("re-split", "seed-3", 3)
    assert not other["table"].equals(paper["table"])
    for name in ("seed-03", "seed", "official", "seed--1"):
        with pytest.raises(UrfmError, match="split: String should match"):
            stage(tmp_path, monkeypatch, table, split=name)


def test_patients_that_are_not_known_may_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = images(["train"] * 12 + ["val"] * 4).assign(patient_source="none")
    found = stage(tmp_path, monkeypatch, table, split="published")
    assert found["patients"] is None
    assert found["shared_patients"] is None
    assert found["notes"][0] == "the only held-out part is called val; it is the test part"


def test_what_a_task_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = images([""] * 4)
    with pytest.raises(UrfmError, match="task t: the data set publishes no split"):
        stage(tmp_path, monkeypatch, table, split="published")
    with pytest.raises(UrfmError, match=r"task t: tasks\.t\.ultrabench is not set"):
        stage(tmp_path, monkeypatch, table, split="ultrabench")
    with pytest.raises(UrfmError, match=r"tasks\.t\.ultrabench: '\.\./x' is not below the data root"):
        stage(tmp_path, monkeypatch, table, split="ultrabench", ultrabench="../x")
    write_lists(tmp_path / "ub", train=entries("000.png"), validation=entries("001.png"), test=[])
    with pytest.raises(UrfmError, match=r"task t: the test part of the published split holds no image"):
        stage(tmp_path, monkeypatch, table, split="ultrabench", ultrabench="ub")
    write_lists(tmp_path / "ub", test=entries("003.png"))
    found = stage(tmp_path, monkeypatch, table, split="ultrabench", ultrabench="ub")
    assert found["table"]["subset"].tolist() == ["train", "val", "test"]
    assert found["left_out"] == 1
    assert found["rule"] == "UltraBench's parts (ub)"


@pytest.mark.data
def test_published_splits_of_the_real_archives(real_data: Path) -> None:
    """BUS-BRA's folds and FETAL_PLANES_DB's halves, 896 patients each, share no patient."""
    breast = to_table(READERS["busbra"].read(real_data / "BUSBRA"), "busbra").sort_values("image_id", ignore_index=True)
    found = official(breast, RATIO, 0)
    folds = pd.read_csv(real_data / "BUSBRA" / "5-fold-cv.csv").sort_values("ID")
    roles = folds["kFold"].map({1: "test", 2: "val"}).fillna("train")
    assert found.subset.tolist() == roles.tolist()
    assert shared_patients(breast.assign(subset=found.subset)) == 0

    fetal = to_table(READERS["fetal_planes"].read(real_data / "fetal_planes"), "fetal")
    fetal = fetal.sort_values("image_id", ignore_index=True)
    found = official(fetal, RATIO, 0)
    table = fetal.assign(subset=found.subset)
    assert shared_patients(table) == 0
    test = table[table["subset"] == "test"]
    assert (len(test), test["patient_id"].nunique()) == (5271, 896)  # references/datasets.md 1.7
    rest = table[table["subset"] != "test"]
    assert len(rest) == 7129
    share = (rest["subset"] == "val").groupby(rest["label"]).mean()
    assert ((share - 0.25).abs() < 0.02).all()
