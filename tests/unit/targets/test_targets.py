"""Stored targets equal what the teacher says online for the same box; the verifier sees what is wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import namedtuple
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from urfm.config.pretraining import TargetSettings
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, write_json
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import decode
from urfm.data.images.pixels import pixel_sha256
from urfm.data.images.store import ImageStore
from urfm.data.views import take_view
from urfm.models.teachers import load_teacher
from urfm.models.teachers.common import Teacher
from urfm.targets.build import build, quantise, verify
from urfm.targets.store import TargetStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    folder = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(0)
    entries = []
    for number in range(5):
        path = folder / f"{number}.png"
        noise = rng.integers(0, 256, (6 + number, 8), dtype=np.uint8)
        Image.fromarray(noise).resize((90 + 10 * number, 70)).save(path)
        pixels = decode(path)
        entries.append(Entry(f"fake/{number}", path, pixel_sha256(pixels)))
    write_store(entries, folder / "store", 512, 1, {"manifest_sha256": "", "simulated": True})
    return ImageStore(folder / "store")


def settings(**changes: Any) -> TargetSettings:
    default = {
        "teacher": {"name": "lite", "kind": "efficientnet_lite0", "block": 5},
        "input_size": 48,
        "views": 3,
        "view_dtype": "float16",
        "crop_scale": [0.2, 1.0],
        "flip": True,
        "seed": 0,
    }
    return TargetSettings.model_validate_json(json.dumps({**default, **changes}))


def make(store: ImageStore, folder: Path, **changes: Any) -> tuple[Teacher, TargetStore]:
    chosen = settings(**changes)
    teacher = load_teacher(chosen.teacher, folder, chosen.input_size)
    build(store, chosen, teacher, folder, torch.device("cpu"))
    return teacher, TargetStore(folder)


def names(folder: Path) -> set[str]:
    """What is in a folder, but for second names of the same files."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".kept-")}


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_cached_equals_online(store: ImageStore, tmp_path: Path, dtype: str) -> None:
    teacher, targets = make(store, tmp_path, view_dtype=dtype)
    boxes = set()
    for row, image_id in enumerate(store.image_ids):
        assert targets.row(image_id) == row
        for view in range(3):
            box = targets.view(row, view)
            boxes.add(box)
            online = teacher.tokens(take_view(store.read(image_id), box, 48)[None])[0]
            cached = targets.tokens(row, view).float()
            assert cached.shape == (9, 80)
            allowed = targets.scale(row, view)[:, None] / 2 if dtype == "int8" else 0
            assert ((cached - online).abs().numpy() <= allowed + 1e-3 * online.abs().max().item()).all()
    assert len(boxes) == 15
    assert targets.record["simulated"] is True
    assert targets.record["teacher"]["grid"] == [3, 3]
    assert verify(tmp_path, store, teacher, np.random.default_rng(0)) < 1e-2


def test_rows_of_targets_do_not_depend_on_the_size_of_blocks(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = make(store, tmp_path / "whole")
    monkeypatch.setattr("urfm.core.files.ROWS", 4)  # three views an image: blocks begin within an image
    _, parts = make(store, tmp_path / "parts")
    table = pd.read_parquet(tmp_path / "parts" / "views.parquet")
    for targets in (whole, parts):
        assert targets.ids.to_pylist() == store.image_ids
        for row, view in zip(range(15), table.itertuples(index=False), strict=True):
            assert view[:2] == (store.image_ids[row // 3], row % 3)
            assert targets.view(row // 3, row % 3) == view[2:7]


def test_int8_rounds_to_half_a_scale() -> None:
    tokens = np.random.default_rng(0).normal(size=(4, 7, 33)).astype(np.float32) * np.float32(
        [[[1e-3]], [[1]], [[50]], [[0]]]
    )
    numbers, scale = quantise(tokens)
    assert numbers.dtype == np.int8
    assert scale.dtype == np.float16
    step = scale.astype(np.float32)[..., None]
    assert (np.abs(numbers * step - tokens) <= 0.5001 * step).all()
    assert (np.abs(tokens).max(-1) <= 127 * step[..., 0]).all()
    assert (step[..., 0] <= np.abs(tokens).max(-1) / 127 * 1.01 + 1e-6).all()


def test_builds_are_reproducible(store: ImageStore, tmp_path: Path) -> None:
    teacher, first = make(store, tmp_path / "a")
    left_over = tmp_path / "b" / ".partial-other" / "tokens.bin"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"of a build with other settings")
    second = build(store, settings(), teacher, tmp_path / "b", torch.device("cpu"), workers=2)
    assert second["sha256"] == first.record["sha256"]
    assert (tmp_path / "a" / "tokens.bin").read_bytes() == (tmp_path / "b" / "tokens.bin").read_bytes()
    assert second["key"] == first.record["key"]
    assert not left_over.exists()
    assert names(tmp_path / "b") == {"tokens.bin", "views.parquet", "targets.json"}
    other = make(store, tmp_path / "c", teacher={"name": "lite", "kind": "efficientnet_lite0", "block": 6})[1]
    assert other.record["key"] != first.record["key"]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_targets_that_are_there_are_not_made_again(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """Snakemake has deleted the outputs that it knows."""
    teacher, targets = make(store, tmp_path, view_dtype=dtype)
    files = {name: ((tmp_path / name).stat().st_ino, (tmp_path / name).read_bytes()) for name in names(tmp_path)}
    asked: list[int] = []
    said = teacher.tokens
    monkeypatch.setattr(teacher, "tokens", lambda pixels: asked.append(len(pixels)) or said(pixels))

    def again(store: ImageStore = store, **changes: Any) -> dict[str, Any]:
        for name in ("tokens.bin", "views.parquet", "targets.json"):
            (tmp_path / name).unlink()
        asked.clear()
        chosen = settings(view_dtype=dtype, **changes)
        return build(store, chosen, teacher, tmp_path, torch.device("cpu"), code=["new code"] * ("seed" in changes))

    assert again()["key"] == targets.record["key"]
    assert asked == []
    assert {name: ((tmp_path / name).stat().st_ino, (tmp_path / name).read_bytes()) for name in files} == files

    # What was kept and is damaged, or of other settings, images or code, is made.
    with open(tmp_path / "tokens.bin", "r+b") as stream:
        stream.write(bytes(100))
    assert again()["key"] == targets.record["key"]
    assert sum(asked) == 15
    assert again()["key"] == targets.record["key"]
    assert asked == []
    assert again(seed=1)["key"] != targets.record["key"]
    assert sum(asked) == 15
    assert again()["key"] == targets.record["key"]
    assert sum(asked) == 15
    other = ImageStore(store.folder)
    other.record = {**store.record, "sha256": "0" * 64}
    assert again(other)["store_sha256"] == "0" * 64
    assert sum(asked) == 15
    assert len(list(tmp_path.glob(".kept-*"))) == 1


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_an_interrupted_build_goes_on_to_the_same_bits(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    _, whole = make(store, tmp_path / "whole", view_dtype=dtype)
    monkeypatch.setattr("urfm.targets.build.BATCH", 3)  # an image at a time
    _, single = make(store, tmp_path / "single", view_dtype=dtype)
    assert single.record["sha256"]["views.parquet"] == whole.record["sha256"]["views.parquet"]

    folder = tmp_path / "parts"
    chosen = settings(view_dtype=dtype)
    teacher = load_teacher(chosen.teacher, folder, 48)
    monkeypatch.setattr("urfm.targets.build.SAVE_SECONDS", 0)
    asked = []

    def killed(pixels: torch.Tensor) -> torch.Tensor:
        asked.append(len(pixels))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return said(pixels)

    said = teacher.tokens
    with monkeypatch.context() as patch:
        patch.setattr(teacher, "tokens", killed)
        with pytest.raises(KeyboardInterrupt):
            build(store, chosen, teacher, folder, torch.device("cpu"))
    assert not (folder / "targets.json").exists()
    (partial,) = folder.glob(".partial-*")
    assert read_json(partial / "done.json") == {"images": 3}
    with open(partial / "tokens.bin", "ab") as stream:
        stream.write(b"of the fourth image, never flushed")

    asked[:] = [0] * 9  # counts on, and is not stopped
    monkeypatch.setattr(teacher, "tokens", killed)
    record = build(store, chosen, teacher, folder, torch.device("cpu"))
    assert len(asked) == 9 + 2, "only the last two of five images"
    assert record["sha256"] == single.record["sha256"]
    assert record["key"] == single.record["key"] == whole.record["key"]
    scales = {"scales.bin"} if dtype == "int8" else set()
    assert names(folder) == {"targets.json", "views.parquet", "tokens.bin", *scales}
    for name in {"tokens.bin", *scales}:
        assert (folder / name).read_bytes() == (tmp_path / "single" / name).read_bytes()

    # What was begun by other code is not continued.
    asked.clear()
    with pytest.raises(KeyboardInterrupt):
        build(store, chosen, teacher, folder, torch.device("cpu"), code=["another version"])
    asked[:] = [0] * 9
    build(store, chosen, teacher, folder, torch.device("cpu"), code=["yet another"])
    assert len(asked) == 9 + 5


def test_verifier_and_reader_fail_loudly(store: ImageStore, tmp_path: Path) -> None:
    teacher, targets = make(store, tmp_path)

    tokens = tmp_path / "tokens.bin"
    good = tokens.read_bytes()
    tokens.write_bytes(good[:-2])
    with pytest.raises(UrfmError, match=r"tokens.bin: .* bytes, .* expected"):
        TargetStore(tmp_path)
    tokens.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    with pytest.raises(UrfmError, match=r"tokens\.bin: view 0 of fake/0 is not what was stored: its content changed"):
        verify(tmp_path, store, teacher, np.random.default_rng(0))

    # Consistent hashes, wrong boxes: only recomputing notices.
    tokens.write_bytes(good)
    table = pd.read_parquet(tmp_path / "views.parquet")
    table["flip"] = ~table["flip"]
    table.to_parquet(tmp_path / "views.parquet", index=False)
    record = read_json(tmp_path / "targets.json")
    record["sha256"]["views.parquet"] = sha256(tmp_path / "views.parquet")
    write_json(tmp_path / "targets.json", record)
    with pytest.raises(UrfmError, match="differs from what the teacher says now"):
        verify(tmp_path, store, teacher, np.random.default_rng(0))

    other = load_teacher(settings().teacher.model_copy(update={"block": 6}), tmp_path, 48)
    with pytest.raises(UrfmError, match="another version of teacher"):
        verify(tmp_path, store, other, np.random.default_rng(0))
    with pytest.raises(UrfmError, match="no targets of 'fake/9'"):
        targets.row("fake/9")


def test_a_full_disk_is_noticed_before_writing(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(UrfmError, match=r"tokens\.bin: 21\.6 kB are needed and 1\.0 kB are free; lower `views`.*int8"):
        make(store, tmp_path)
    assert not any(tmp_path.iterdir())
    assert (
        "5 images x 3 views x 9 tokens x 80 channels as float16: 21.6 kB, 0 bytes of them there"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_changed_view_is_never_read(store: ImageStore, tmp_path: Path, dtype: str) -> None:
    """Of all views that one alone; half of the file is noticed as soon as it is opened for training."""
    make(store, tmp_path, view_dtype=dtype)
    for name in ("tokens.bin", "scales.bin") if dtype == "int8" else ("tokens.bin",):
        good = (tmp_path / name).read_bytes()
        place = len(good) * 7 // 15 + 5  # in the eighth of fifteen views, image 2
        (tmp_path / name).write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        targets = TargetStore(tmp_path)
        for number in range(15):
            if number != 7:
                targets.tokens(*divmod(number, 3))
        with pytest.raises(UrfmError, match=r"tokens\.bin: view 1 of fake/2 is not what was stored"):
            targets.tokens(2, 1)
        (tmp_path / name).write_bytes(good[: len(good) // 2] + bytes(len(good) - len(good) // 2))
        with pytest.raises(UrfmError, match="is not what was stored"):
            TargetStore(tmp_path).check_sample()
        (tmp_path / name).write_bytes(good)
    TargetStore(tmp_path).check_sample()


def test_targets_of_before_checksums_are_named(store: ImageStore, tmp_path: Path) -> None:
    make(store, tmp_path)
    pd.read_parquet(tmp_path / "views.parquet").drop(columns="crc32").to_parquet(tmp_path / "views.parquet")
    record = read_json(tmp_path / "targets.json")
    write_json(tmp_path / "targets.json", record | {"sha256": {"views.parquet": sha256(tmp_path / "views.parquet")}})
    with pytest.raises(UrfmError, match="made by another version of this workflow; delete it and rebuild it"):
        TargetStore(tmp_path)


def test_a_kill_after_the_last_token_loses_none(
    store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the size of the tokens is read or written after them."""
    _, whole = make(store, tmp_path / "whole")
    chosen = settings()
    teacher = load_teacher(chosen.teacher, tmp_path, 48)

    def killed(path: Path) -> str:
        assert path.name == "views.parquet"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("urfm.targets.build.sha256", killed)
        with pytest.raises(KeyboardInterrupt):
            build(store, chosen, teacher, tmp_path / "cut", torch.device("cpu"))
    for name in ("views.parquet", "tokens.bin", "targets.json"):  # Snakemake deletes what it knows before a repeat
        (tmp_path / "cut" / name).unlink(missing_ok=True)
    monkeypatch.setattr(teacher, "tokens", lambda pixels: pytest.fail("was asked again"))
    build(store, chosen, teacher, tmp_path / "cut", torch.device("cpu"))
    assert read_json(tmp_path / "cut" / "targets.json") == whole.record
    assert (tmp_path / "cut" / "tokens.bin").read_bytes() == (tmp_path / "whole" / "tokens.bin").read_bytes()


def test_a_second_builder_deletes_nothing(store: ImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is in its last image; the second is refused, and the first ends as if it had been alone."""
    _, whole = make(store, tmp_path / "whole")
    monkeypatch.setattr("urfm.targets.build.BATCH", 3)  # an image at a time
    _, single = make(store, tmp_path / "single")
    chosen = settings()
    teacher, other = (load_teacher(chosen.teacher, tmp_path, 48) for _ in range(2))
    said, folder = teacher.tokens, tmp_path / "twice"
    asked: list[int] = []

    def slow(pixels: torch.Tensor) -> torch.Tensor:
        asked.append(len(pixels))
        if len(asked) == 5:
            before = {path: path.stat().st_size for path in folder.rglob("*")}
            # Spawned, as a process forked while torch has threads can hang.
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                second = pool.submit(build, store, chosen, other, folder, torch.device("cpu")).exception()
            assert isinstance(second, UrfmError)
            assert f"twice: another process is at work on it (process {os.getpid()} on" in str(second)
            assert {path: path.stat().st_size for path in folder.rglob("*")} == before
        return said(pixels)

    monkeypatch.setattr(teacher, "tokens", slow)
    build(store, chosen, teacher, folder, torch.device("cpu"))
    assert len(asked) == 5
    assert TargetStore(folder).record == single.record
    assert (folder / "tokens.bin").read_bytes() == (tmp_path / "single" / "tokens.bin").read_bytes()
    assert single.record["key"] == whole.record["key"]
