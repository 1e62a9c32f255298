"""Results that are there again after Snakemake deleted them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from urfm.core.kept import keep, restored

NAMES = ["pixels.bin", "store.json"]


def write(folder: Path, content: str) -> list[int]:
    """Write both files; returns their inodes."""
    for name in NAMES:
        (folder / name).write_text(content)
    return [(folder / name).stat().st_ino for name in NAMES]


def delete(folder: Path) -> None:
    for name in NAMES:
        (folder / name).unlink()


def test_deleted_files_are_there_again_themselves(tmp_path: Path) -> None:
    inodes = write(tmp_path, "whole")
    keep(tmp_path, NAMES, "key")
    delete(tmp_path)
    assert restored(tmp_path, NAMES, "key")
    assert [(tmp_path / name).stat().st_ino for name in NAMES] == inodes
    assert restored(tmp_path, NAMES, "key")  # also where nothing was deleted


def test_another_key_has_nothing_and_frees_the_room(tmp_path: Path) -> None:
    write(tmp_path, "old")
    keep(tmp_path, NAMES, "old")
    delete(tmp_path)
    assert not restored(tmp_path, NAMES, "new")
    assert list(tmp_path.iterdir()) == []
    assert not restored(tmp_path, NAMES, "old")


def test_only_the_last_result_is_kept(tmp_path: Path) -> None:
    for key in ("old", "new"):
        write(tmp_path, key)
        keep(tmp_path, NAMES, key)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".kept-new", *NAMES]


def test_what_a_kill_left_half_done_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            keep(tmp_path, NAMES, "key")
    assert not restored(tmp_path, NAMES, "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES


def test_without_hard_links_all_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path, "whole")
    keep(tmp_path, NAMES, "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    assert not restored(tmp_path, NAMES, "key")
