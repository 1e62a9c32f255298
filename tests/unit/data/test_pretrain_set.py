"""The pre-training set: nested shares, caps, organs, and no image of a held-out patient."""

from __future__ import annotations

import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from urfm.core.cli import run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, write_json, write_parquet
from urfm.data.pretrain_set import CorpusSettings, main, select

ORGANS = ["breast", "liver", "ovary"]


def settings(**changes: Any) -> CorpusSettings:
    default = {
        "run": "test",
        "organs": [],
        "share": 100,
        "max_images": 0,
        "exclude_downstream_test": False,
        "seed": 0,
        "dataset_organs": {"a": ORGANS, "b": ["liver"]},
        "tasks_not_here": [],
    }
    return CorpusSettings.model_validate_json(json.dumps({**default, **changes}))


def manifest(dataset: str, rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    """Rows of (name, patient, organ); file and pixels are the image's own."""
    table = pd.DataFrame(rows, columns=["name", "patient_id", "organ"])
    table["image_id"] = f"{dataset}/" + table.pop("name")
    table["patient_id"] = f"{dataset}/" + table["patient_id"]
    return table.assign(
        dataset=dataset,
        source=f"source {dataset}",
        sha256="file of " + table["image_id"],
        pixel_sha256="pixels of " + table["image_id"],
        excluded_reason="",
    )


def random_images(seed: int, number: int) -> pd.DataFrame:
    """Images of two data sets, patients of one to a few images, some excluded in the manifest; rows in random order."""
    random = np.random.default_rng(seed)
    names = [(f"{image:04}", f"p{random.integers(number // 2 + 1)}") for image in range(number)]
    a = manifest("a", [(*name, str(random.choice(ORGANS))) for name in names[: number * 3 // 4]])
    b = manifest("b", [(*name, "liver") for name in names[number * 3 // 4 :]])
    table = pd.concat([a, b])
    table["excluded_reason"] = np.where(random.random(number) < 0.1, "blurred", "")
    return table.iloc[random.permutation(number)].reset_index(drop=True)


def ids(table: pd.DataFrame) -> set[str]:
    return set(table["image_id"])


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    number=st.integers(40, 300),
    shares=st.lists(st.integers(1, 100), min_size=2, max_size=3),
    caps=st.lists(st.integers(1, 400), min_size=1, max_size=2),
    organs=st.lists(st.sampled_from(ORGANS), unique=True, max_size=3),
    chosen_by=st.integers(0, 5),
)
def test_shares_and_caps_are_nested_and_exact(
    seed: int, number: int, shares: list[int], caps: list[int], organs: list[str], chosen_by: int
) -> None:
    images = random_images(seed, number)
    usable = images[(images["excluded_reason"] == "") & (images["organ"].isin(organs) if organs else True)]
    sets = {}
    for share in shares:
        for cap in [0, *caps]:
            wanted = min(len(usable) * share // 100, cap or number)
            choice = settings(organs=organs, share=share, max_images=cap, seed=chosen_by)
            if wanted == 0:
                with pytest.raises(UrfmError, match="none is left"):
                    select(images, choice)
                continue
            taken, excluded = select(images, choice)
            assert len(taken) == wanted
            assert list(taken.columns) == ["image_id", "dataset", "organ", "source"]
            assert taken["image_id"].tolist() == sorted(ids(taken))
            assert ids(taken) <= ids(usable)
            numbers = [
                sum(excluded["manifest"].values()),
                *(excluded[step] for step in ("organs", "share", "max_images")),
            ]
            assert sum(numbers) + excluded["downstream_test"] + len(taken) == number
            sets[wanted] = ids(taken)
    ordered = [sets[size] for size in sorted(sets)]
    assert all(smaller <= larger for smaller, larger in pairwise(ordered))


def test_order_of_rows_is_nothing_and_seeds_differ() -> None:
    images = random_images(1, 200)
    first, _ = select(images, settings(share=50))
    again, _ = select(images.iloc[::-1].reset_index(drop=True), settings(share=50))
    pd.testing.assert_frame_equal(first, again)
    other, _ = select(images, settings(share=50, seed=1))
    assert 0.3 < len(ids(first) & ids(other)) / len(first) < 0.7


def test_a_share_is_a_fair_sample_of_every_organ() -> None:
    rows = [(f"{number:05}", f"{number}", ORGANS[number % 10 // 4]) for number in range(20_000)]
    images = manifest("a", rows)
    taken, _ = select(images, settings(share=20))
    expected = images["organ"].value_counts() * 0.2
    # Hypergeometric; the bound is five standard deviations, so a fair choice fails once in a million.
    slack = 5 * np.sqrt(expected * 0.8)
    assert ((taken["organ"].value_counts() - expected).abs() < slack).all()


# --- Leaving out validation and test patients ---------------------------------------------------------------------


def test_each_way_to_recognise_a_held_out_patient() -> None:
    task = manifest("a", [("t1", "p1", "liver"), ("t2", "p2", "liver"), ("t3", "p3", "liver"), ("t1-b", "p1", "liver")])
    split = pd.DataFrame({"image_id": ["a/t1", "a/t2", "a/t3"], "subset": ["test", "train", "val"]})
    other = manifest(
        "b",
        [(name, name, "liver") for name in ("same-file", "same-pixels", "copy-of-train", "free", "frame-1", "frame-2")]
        + [("friend", "same-pixels", "liver"), ("p1", "p1", "liver")],
    ).set_index("image_id")
    other.loc["b/same-file", "sha256"] = "file of a/t1"
    other.loc["b/same-pixels", "pixel_sha256"] = "pixels of a/t1-b"  # held out with its patient, in no split
    other.loc["b/copy-of-train", ["sha256", "pixel_sha256"]] = ["file of a/t2", "pixels of a/t2"]
    other.loc[["b/frame-1", "b/frame-2"], "sha256"] = "one cine"
    task.loc[task["image_id"] == "a/t3", "sha256"] = "one cine"
    images = pd.concat([task, other.reset_index()], ignore_index=True)

    kept, excluded = select(images, settings(exclude_downstream_test=True), [("mass", task, split)])
    # p1 of another data set is somebody else; the friend of a copy is the patient under another name.
    assert ids(kept) == {"a/t2", "b/copy-of-train", "b/free", "b/p1"}
    assert excluded["tasks"] == {"mass": {"image": 2, "file": 3, "pixels": 1, "patient": 2}}
    assert excluded["downstream_test"] == 8


@hypothesis_settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), number=st.integers(60, 200), share=st.sampled_from([30, 100]))
def test_no_held_out_patient_stays_and_nobody_else_goes(seed: int, number: int, share: int) -> None:
    """Two tasks on one data set, and copies of its images in the other one."""
    random = np.random.default_rng(seed)
    images = random_images(seed, number)
    own = images[images["dataset"] == "a"].reset_index(drop=True)
    copies = images.index[images["dataset"] == "b"][:5]
    originals = own.sample(len(copies), random_state=seed % 1000)
    column = "sha256" if seed % 2 else "pixel_sha256"
    images.loc[copies, column] = originals[column].to_numpy()
    patients = pd.Series(own["patient_id"].unique())
    tasks = []
    for task in ("first", "second"):
        part = dict(
            zip(patients, random.choice(["train", "val", "test"], len(patients), p=[0.7, 0.2, 0.1]), strict=True)
        )
        in_task = own[random.random(len(own)) < 0.8]
        split = pd.DataFrame({"image_id": in_task["image_id"], "subset": in_task["patient_id"].map(part)})
        tasks.append((task, own, split))

    kept, excluded = select(images, settings(exclude_downstream_test=True, share=share), tasks)
    held_out = {
        patient
        for _, _, split in tasks
        for patient in own.loc[own["image_id"].isin(split.loc[split["subset"] != "train", "image_id"]), "patient_id"]
    }
    secret = set(own.loc[own["patient_id"].isin(held_out), column])
    left = images[images["image_id"].isin(kept["image_id"])]
    assert not set(left["patient_id"]) & held_out
    assert not set(left[column]) & secret
    copiers = set(images.loc[images[column].isin(secret), "patient_id"])
    bystanders = (images["excluded_reason"] == "") & ~images["patient_id"].isin(held_out | copiers)
    assert excluded["downstream_test"] == (images["excluded_reason"] == "").sum() - bystanders.sum()
    assert len(kept) == bystanders.sum() * share // 100


# --- The command line ---------------------------------------------------------------------------------------------


def write_manifest(folder: Path, table: pd.DataFrame, simulated: bool = False) -> Path:
    dataset = table["dataset"].iloc[0]
    path = folder / f"{dataset}.parquet"
    write_parquet(path, table)
    write_json(
        path.with_suffix(".json"),
        {"dataset": dataset, "simulated": simulated, "sha256": sha256(path), "images_sha256": dataset},
    )
    return path.with_suffix(".json")


def write_split(folder: Path, split: pd.DataFrame, name: str = "paper") -> Path:
    path = folder / f"{name}.parquet"
    write_parquet(path, split)
    write_json(path.with_suffix(".json"), {"task": "mass", "dataset": "a", "sha256": sha256(path)})
    return path.with_suffix(".json")


def call(monkeypatch: pytest.MonkeyPatch, folder: Path, chosen: CorpusSettings, *arguments: Any) -> dict[str, Any]:
    output = folder / "sets" / "test.parquet"
    words = ["corpus", "--settings", chosen.model_dump_json(), *map(str, arguments), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", words)
    run(main)
    record: dict[str, Any] = read_json(output.with_suffix(".json"))
    assert record["sha256"] == sha256(output)
    return record


def test_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    images = random_images(0, 100)
    a, b = (part for _, part in images.groupby("dataset"))
    files = [write_manifest(tmp_path, a), write_manifest(tmp_path, b, simulated=True)]
    record = call(monkeypatch, tmp_path, settings(organs=["liver"]), "--manifests", *files)
    table = pd.read_parquet(tmp_path / "sets" / "test.parquet")
    usable = images[(images["excluded_reason"] == "") & (images["organ"] == "liver")]
    assert table["image_id"].tolist() == sorted(usable["image_id"])
    found = {(row["dataset"], row["organ"], row["source"]): row["images"] for row in record["counts"]}
    assert found == usable.groupby(["dataset", "organ", "source"]).size().to_dict()
    assert [row["simulated"] for row in record["counts"]] == [False, True]
    assert record["simulated"] is True
    assert record["excluded"]["manifest"] == {"blurred": int((images["excluded_reason"] != "").sum())}
    assert f"{len(usable)} images of 1 organs from 2 data sets" in capsys.readouterr().out

    # A run that sees nothing of the simulated set is not simulated.
    record = call(monkeypatch, tmp_path, settings(organs=["ovary"]), "--manifests", *files)
    assert record["simulated"] is False

    split = write_split(
        tmp_path, pd.DataFrame({"image_id": sorted(ids(a)), "subset": ["val", *["train"] * (len(a) - 1)]})
    )
    clean = settings(exclude_downstream_test=True, tasks_not_here=["kidney_tumor"], dataset_organs={"b": ["liver"]})
    record = call(monkeypatch, tmp_path, clean, "--manifests", *files, "--splits", split)
    assert record["excluded"]["tasks"] == {"mass": {"image": 0, "file": 0, "pixels": 0, "patient": 0}}
    assert record["tasks_not_here"] == ["kidney_tumor"]
    assert {row["dataset"] for row in record["counts"]} == {"b"}  # the task's own data set is none of the run's
    assert "not available, so not excluded: kidney_tumor" in capsys.readouterr().err


def test_several_splits_of_a_task_hold_out_whoever_one_of_them_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = random_images(0, 60)
    images = images[images["dataset"] == "a"].assign(excluded_reason="")
    names = sorted(ids(images))
    files = []
    for seed, held_out in enumerate(names[:2]):
        subset = np.where(np.array(names) == held_out, "test", "train")
        files.append(write_split(tmp_path, pd.DataFrame({"image_id": names, "subset": subset}), f"seed-{seed}"))
    clean = settings(exclude_downstream_test=True, dataset_organs={"a": ORGANS})
    manifest = write_manifest(tmp_path, images)
    record = call(monkeypatch, tmp_path, clean, "--manifests", manifest, "--splits", *files)
    chosen = set(pd.read_parquet(tmp_path / "sets" / "test.parquet")["image_id"])
    patients = images.loc[images["image_id"].isin(names[:2]), "patient_id"]
    assert not chosen & set(images.loc[images["patient_id"].isin(patients), "image_id"])
    assert record["excluded"]["tasks"]["mass"]["image"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset_organs": {"a": ["liver", "ovary"], "b": ["liver"]}},
            r"datasets\.a\.organ lists liver, ovary, but a/",
        ),
        ({"dataset_organs": {"a": ORGANS, "c": ["liver"]}}, r"--manifests: c\.json is missing"),
        ({"share": 101}, "share"),
        ({"organs": ["heart"]}, "none is left"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    message: str,
) -> None:
    files = [write_manifest(tmp_path, part) for _, part in random_images(0, 100).groupby("dataset")]
    words = json.dumps(settings().model_dump() | changes)
    monkeypatch.setattr(sys, "argv", ["corpus", "--settings", words, "--manifests", *map(str, files), "--output", "x"])
    with pytest.raises(SystemExit):
        run(main)
    assert re.search(message, capsys.readouterr().err)


def test_a_changed_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write_manifest(tmp_path, part) for _, part in random_images(0, 100).groupby("dataset")]
    write_parquet(tmp_path / "a.parquet", manifest("a", [("1", "1", "liver")]))
    with pytest.raises(SystemExit):
        call(monkeypatch, tmp_path, settings(), "--manifests", *files)
