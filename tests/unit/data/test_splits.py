"""Splits: the paper's numbers, and properties on random data sets."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifest_tables import to_table
from sklearn.model_selection import StratifiedGroupKFold
from urfm.core.errors import UrfmError
from urfm.data.datasets import READERS
from urfm.data.splits.checks import check_split
from urfm.data.splits.shares import take_share
from urfm.data.splits.stage import SplitSettings, make_split, select_images

PAPER = SplitSettings(task="t", classes=["benign", "malignant"], ratio=(3, 1, 1), seed=0)


def single(**images: int) -> pd.DataFrame:
    """A table with one image a patient and the given number of images a class."""
    labels = [label for label, number in images.items() for _ in range(number)]
    names = [f"set/{number:05d}" for number in range(len(labels))]
    return pd.DataFrame({"image_id": names, "patient_id": names, "label": labels})


def sizes(split: pd.DataFrame) -> list[int]:
    return [int((split["subset"] == name).sum()) for name in ("train", "val", "test")]


@pytest.mark.parametrize(
    ("images", "expected"),
    [  # references/datasets.md 3.3: the sizes that the paper's accuracies allow
        ({"benign": 722, "malignant": 342}, [638, 212, 214]),
        ({"benign": 200, "malignant": 435, "normal": 100}, [441, 147, 147]),
        ({"benign": 109, "malignant": 123}, [138, 45, 49]),
        ({"benign": 2576, "malignant": 1917}, [2695, 898, 900]),
    ],
)
def test_single_images_follow_the_floor_rule_of_the_paper(images: dict[str, int], expected: list[int]) -> None:
    split = make_split(single(**images))
    assert sizes(split) == expected
    for label, number in images.items():
        assert sizes(split[split["label"] == label]) == [
            number * 3 // 5,
            number // 5,
            number - number * 3 // 5 - number // 5,
        ]


def test_ten_percent_of_liver_are_44_images() -> None:
    split = make_split(single(malignant=435, benign=200, normal=100))
    train = split[split["subset"] == "train"]
    share = take_share(train, 10)
    assert share["label"].value_counts().to_dict() == {"malignant": 26, "benign": 12, "normal": 6}


def test_seeds_differ() -> None:
    table = single(benign=100, malignant=80)
    assert make_split(table, seed=0).equals(make_split(table, seed=0))
    assert not make_split(table, seed=0)["subset"].equals(make_split(table, seed=1)["subset"])


def test_the_order_is_that_of_a_hash_of_the_name() -> None:
    split = make_split(single(benign=100, malignant=80), seed=7).set_index("image_id")["subset"]
    for names in (sorted(split.index)[:100], sorted(split.index)[100:]):
        order = sorted(names, key=lambda name: hashlib.sha256(f"split/7/{name}".encode()).hexdigest())
        assert split[order].tolist() == ["train"] * (len(names) * 3 // 5) + ["val"] * (len(names) // 5) + ["test"] * (
            len(names) - len(names) * 3 // 5 - len(names) // 5
        )


def random_set(seed: int, patients: int, classes: int, most: int) -> pd.DataFrame:
    """Patients with 1 to `most` images of any classes."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        favourite = random.integers(classes)
        for image in range(random.integers(1, most + 1)):
            label = favourite if random.random() < 0.6 else random.integers(classes)
            rows.append((f"set/{patient}_{image}", f"set/{patient}", f"class {label}"))
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "label"])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), patients=st.integers(60, 300), classes=st.integers(2, 6), most=st.integers(1, 15)
)
def test_properties_of_any_split(seed: int, patients: int, classes: int, most: int) -> None:
    table = random_set(seed, patients, classes, most)
    split = make_split(table, seed=seed % 5)
    assert list(split.columns) == ["image_id", "patient_id", "label", "subset"]
    assert split["image_id"].tolist() == sorted(table["image_id"])
    assert split.groupby("patient_id")["subset"].nunique().max() == 1
    whole = table["label"].value_counts(normalize=True)
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        part = split[split["subset"] == name]
        assert set(part["label"]) == set(table["label"])
        assert abs(len(part) / len(split) - share) < max(0.05, 2 * classes / len(split))
        assert (part["label"].value_counts(normalize=True) - whole).abs().max() < 0.12
    shuffled = table.sample(frac=1, random_state=seed % 1000)
    assert make_split(shuffled, seed=seed % 5).equals(split)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    classes=st.integers(2, 6),
    most=st.integers(1, 15),
    shares=st.lists(st.floats(0.1, 100), min_size=2, max_size=4),
)
def test_properties_of_any_share(seed: int, classes: int, most: int, shares: list[float]) -> None:
    train = random_set(seed, 120, classes, most)
    images = train["patient_id"].value_counts()
    smaller: set[str] = set()
    for share in sorted(shares):
        taken = take_share(train.sample(frac=1, random_state=1), share, seed=3)
        assert taken["image_id"].is_monotonic_increasing
        assert smaller <= set(taken["image_id"])  # nested
        assert (
            taken["patient_id"].value_counts().equals(images[taken["patient_id"].value_counts().index])
        )  # patient-wise
        assert set(taken["label"]) == set(train["label"])
        assert len(taken) <= len(train) * share / 100 + classes * most
        assert len(taken) >= len(train) * share / 100 - classes * most
        smaller = set(taken["image_id"])
    assert take_share(train, 100)["image_id"].tolist() == sorted(train["image_id"])


@pytest.mark.parametrize("share", [0, -1, 100.1, float("nan")])
def test_a_share_is_percent(share: float) -> None:
    with pytest.raises(UrfmError, match="percent"):
        take_share(single(a=5), share)


def test_classes_too_small_are_named() -> None:
    with pytest.raises(UrfmError, match=r"class 'malignant' has 2 images.*none is left for train"):
        make_split(single(benign=50, malignant=2))
    few_patients = pd.DataFrame(
        {"image_id": [f"{n}" for n in range(40)], "patient_id": ["a", "b"] * 20, "label": ["x", "x", "y", "y"] * 10}
    )
    with pytest.raises(UrfmError, match="2 patients"):
        make_split(few_patients)
    with pytest.raises(UrfmError, match=r"splits\.ratio"):
        make_split(single(benign=50), ratio=(3, 0, 1))


def test_check_split_notices_a_shared_patient() -> None:
    split = make_split(random_set(0, 80, 2, 6))
    patient = split.loc[split["subset"] == "train", "patient_id"].value_counts().index[0]
    row = split.index[split["patient_id"] == patient][0]
    split.loc[row, "subset"] = "test"
    with pytest.raises(AssertionError, match="parts of the split"):
        check_split(split, (3, 1, 1))


def manifest(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(patient_source="metadata", official_split="", excluded_reason="")


def test_a_label_outside_the_classes_is_named() -> None:
    table = manifest(single(benign=10, malignant=10))
    table.loc[7, "label"] = "benig"
    with pytest.raises(UrfmError) as caught:
        select_images(table, "breast.parquet", PAPER)
    for part in ("breast.parquet", "'set/00007'", "'benig'", "benign, malignant", "tasks.t.classes"):
        assert part in str(caught.value)
    table.loc[7, "excluded_reason"] = "unclear"
    assert len(select_images(table, "breast.parquet", PAPER)) == 19


def test_labels_that_differ_in_case_or_blanks_are_the_class(capsys: pytest.CaptureFixture[str]) -> None:
    table = manifest(single(benign=10, malignant=9))
    table["label"] = table["label"].replace({"malignant": "Malignant "})
    images = select_images(table, "breast.parquet", PAPER)
    assert images["label"].value_counts().to_dict() == {"benign": 10, "malignant": 9}
    assert "the label 'Malignant ' of 9 images is read as the class 'malignant'" in capsys.readouterr().err


def test_a_label_between_two_classes_is_named() -> None:
    settings = PAPER.model_copy(update={"classes": ["n", "N"]})
    table = manifest(single(n=5, N=5))
    assert select_images(table, "t.parquet", settings)["label"].value_counts().to_dict() == {"n": 5, "N": 5}
    table.loc[0, "label"] = " n "
    with pytest.raises(UrfmError, match="has the label ' n ', which is not a class"):
        select_images(table, "t.parquet", settings)


def test_a_class_without_images_is_named() -> None:
    with pytest.raises(UrfmError, match=r"no image has the label 'malignant'.*found are benign"):
        select_images(manifest(single(benign=10)), "breast.parquet", PAPER)


@pytest.mark.data
def test_busbra_gives_the_numbers_of_the_paper(real_data: Path) -> None:
    table = to_table(READERS["busbra"].read(real_data / "BUSBRA"), "busbra")
    first = select_images(table, "busbra", PAPER.model_copy(update={"images_per_patient": "first"}))
    assert first["label"].value_counts().to_dict() == {"benign": 722, "malignant": 342}
    assert not first["image_id"].str.endswith("-r").any()  # l or s sort before r
    assert sizes(make_split(first)) == [638, 212, 214]
    both = make_split(select_images(table, "busbra", PAPER))
    assert len(both) == 1875
    assert both.groupby("patient_id")["subset"].nunique().max() == 1


@pytest.mark.data
def test_fetal_planes_split_into_fifths(real_data: Path) -> None:
    table = to_table(READERS["fetal_planes"].read(real_data / "fetal_planes"), "fetal_planes")
    split = make_split(table)
    assert len(split) == 12400
    assert split["patient_id"].nunique() == 1792
    assert split.groupby("patient_id")["subset"].nunique().max() == 1
    whole = table["label"].value_counts(normalize=True)
    for name, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
        part = split[split["subset"] == name]
        assert abs(len(part) / len(split) - share) < 0.0005
        assert (part["label"].value_counts(normalize=True) - whole).abs().max() < 0.002
    # The five folds are scikit-learn's own, on sorted rows.
    rows = table.sort_values("image_id", ignore_index=True)
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(rows, rows["label"], rows["patient_id"])
    tests = [rows["image_id"].iloc[fold].tolist() for _, fold in folds]
    assert split.loc[split["subset"] == "test", "image_id"].tolist() == tests[4]
    assert split.loc[split["subset"] == "val", "image_id"].tolist() == tests[3]


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from urfm.core.files import read_json, sha256
    from urfm.data.splits import stage as splits

    parquet, summary = tmp_path / "m.parquet", tmp_path / "m.json"
    manifest(single(benign=30, malignant=20)).to_parquet(parquet)
    summary.write_text(json.dumps({"dataset": "breast", "simulated": True, "sha256": sha256(parquet)}))
    options = {
        "task": "t",
        "ratio": [3, 1, 1],
        "seed": 0,
        "classes": ["benign", "malignant"],
        "expected": {"images": 60},
    }

    def command(**changes: object) -> None:
        arguments = [
            "--root",
            tmp_path,
            "--manifest",
            parquet,
            "--manifest-summary",
            summary,
            "--settings",
            json.dumps(options | changes),
        ]
        arguments += ["--output", tmp_path / "s" / "paper.parquet", "--summary", tmp_path / "s" / "paper.json"]
        monkeypatch.setattr("sys.argv", ["splits", *map(str, arguments)])
        splits.main()

    command()
    record = read_json(tmp_path / "s" / "paper.json")
    assert record["sha256"] == sha256(tmp_path / "s" / "paper.parquet")
    assert record["simulated"] is True
    assert record["differences"] == ["50 images, 60 expected"]
    assert record["subsets"]["train"] == {"images": 30, "patients": 30, "labels": {"benign": 18, "malignant": 12}}
    assert "warning: task t: 50 images, 60 expected" in capsys.readouterr().err
    known = parquet.read_bytes()
    manifest(single(benign=30, malignant=20)).assign(
        patient_source=["none"] * 3 + ["path"] * 47, patient_id=[f"set/{number // 2}" for number in range(50)]
    ).to_parquet(parquet)
    summary.write_text(json.dumps({"dataset": "breast", "simulated": True, "sha256": sha256(parquet)}))
    command(expected={"images": 50, "patients": 40})
    record = read_json(tmp_path / "s" / "paper.json")
    assert [record["patients"], *(subset["patients"] for subset in record["subsets"].values())] == [None] * 4
    assert record["differences"] == ["unknown patients, 40 expected"]
    printed = capsys.readouterr()
    assert "task t: 3 images have no patient id: each counts as a patient of its own" in printed.err
    assert "t: 50 images of unknown patients" in printed.out

    parquet.write_bytes(known)
    summary.write_text(json.dumps({"dataset": "breast", "simulated": True, "sha256": sha256(parquet)}))
    with pytest.raises(UrfmError, match="strict_counts: false"):
        command(strict_counts=True)
    with pytest.raises(UrfmError, match="clases"):
        command(clases=["a"])
    parquet.write_bytes(parquet.read_bytes() + b"x")
    with pytest.raises(UrfmError, match=r"m\.parquet: its content changed"):
        command()
