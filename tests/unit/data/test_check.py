"""Files that were overwritten in place, which Snakemake does not see."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from urfm.core.errors import UrfmError
from urfm.data import check, manifest


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 20), dtype=np.uint8)).save(path, compress_level=0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The images of a set of four, with a manifest."""
    folder = tmp_path / "data" / "Own"
    for number in range(4):
        picture(folder / "images" / f"{number}.png", number)
    rows = "".join(f"{number}.png,p{number},benign\n" for number in range(4))
    (folder / "metadata.csv").write_text("image,patient_id,label\n" + rows)
    settings = {"dataset": "own", "reader": "generic", "folder": "Own", "organ": "breast"}
    results = tmp_path / "results"
    words = ["--root", tmp_path / "data", "--settings", json.dumps(settings), "--manifest", results / "own.parquet"]
    words += ["--rejected", results / "own.rejected.csv", "--summary", results / "own.json"]
    monkeypatch.setattr("sys.argv", ["manifest", *map(str, words)])
    manifest.main()
    return folder / "images"


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, how: str = "times") -> None:
    settings = json.dumps({"datasets": ["own", "other"], "check_data": how})
    home = folder.parents[2]
    words = ["--settings", settings, "--root", home / "data", "--manifests", home / "results"]
    monkeypatch.setattr("sys.argv", ["check", *map(str, words)])
    check.main()


def test_files_that_are_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.utime(folder / "1.png")  # another time and the same content
    for how, said in (("times", "by size and time"), ("contents", "by content")):
        run(folder, monkeypatch, how)
        printed = capsys.readouterr().out
        assert f"own: 4 of 4 files are as the manifest says, {said}" in printed
        assert "other: no manifest yet" in printed


def test_files_that_changed_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "0.png").unlink()
    (folder / "1.png").write_bytes(b"x")
    size = (folder / "2.png").stat().st_size
    picture(folder / "2.png", 77)
    assert (folder / "2.png").stat().st_size == size
    with pytest.raises(UrfmError, match=r"snakemake --forcerun \S+/results/own\.json -- and what you want"):
        run(folder, monkeypatch)
    printed = capsys.readouterr()
    assert f"{folder / '0.png'}: No such file or directory" in printed.err
    assert f"{folder / '1.png'}: 1 bytes, {size:,} when the manifest was made" in printed.err
    assert f"{folder / '2.png'}: other content of the same size" in printed.err
    assert "own: 1 of 4 files are as the manifest says" in printed.out


def test_what_changed_under_its_old_time_takes_a_look_at_the_contents(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / "2.png").stat()
    picture(folder / "2.png", 77)
    os.utime(folder / "2.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    run(folder, monkeypatch)
    with pytest.raises(UrfmError, match="files changed since their manifests were made"):
        run(folder, monkeypatch, "contents")
    assert "2.png: other content of the same size" in capsys.readouterr().err
