"""State of older code: named, kept until the new run is done, or gone on from where the user vouches for the change."""

import os
from pathlib import Path

import pytest
from lock_holder import held
from urfm.training import lineage

OLD = {"urfm.models.mim:MaskedAutoencoder": "a" * 12, "urfm.training.sampling:epoch_order": "b" * 12}
NEW = OLD | {"urfm.models.mim:MaskedAutoencoder": "c" * 12}
CHANGED = "urfm.models.mim:MaskedAutoencoder"


def choose(root: Path, identity: str, code: dict[str, str], keep: bool = False) -> Path:
    folder = lineage.folder_of(root, identity, code)
    lineage.prepare(folder, code, keep)
    return folder


def trained(root: Path, code: dict[str, str], age: int = 0) -> Path:
    folder = choose(root, "identity", code)
    (folder / "checkpoint.pt").write_text(str(code))
    then = (folder / "code.json").stat().st_mtime - age
    os.utime(folder / "code.json", (then, then))
    return folder


def test_same_code_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = trained(tmp_path, OLD)
    assert choose(tmp_path, "identity", dict(reversed(OLD.items()))) == folder
    assert choose(tmp_path, "another", OLD) != folder
    assert capsys.readouterr().out == ""


def test_a_change_is_named_before_anything_is_thrown_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = trained(tmp_path, OLD)
    new = choose(tmp_path, "identity", NEW)
    assert new != old
    said = capsys.readouterr().out
    assert f"{old} was made: {CHANGED}." in said
    assert "sampling" not in said
    assert "keep_training_state=true" in said
    assert (old / "checkpoint.pt").exists()
    choose(tmp_path, "identity", NEW)  # a repeat goes on, and does not say it again
    assert capsys.readouterr().out == ""
    lineage.forget_others(new)
    assert not old.exists()
    assert new.exists()


def test_other_settings_are_left_alone(tmp_path: Path) -> None:
    other = choose(tmp_path, "other settings", OLD)
    lineage.forget_others(choose(tmp_path, "identity", NEW))
    assert other.exists()


def test_an_accepted_change_goes_on_and_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    oldest = trained(tmp_path, {"urfm.models.mim:patchify": "d" * 12}, age=60)
    old = trained(tmp_path, OLD)
    begun = choose(tmp_path, "identity", NEW)  # the user saw the message, and stopped
    new = choose(tmp_path, "identity", NEW, keep=True)
    assert new == begun
    assert (new / "checkpoint.pt").read_text() == str(OLD)  # the newest of the others
    assert not old.exists()
    assert oldest.exists()
    assert lineage.accepted_changes(new) == [CHANGED]
    assert CHANGED in capsys.readouterr().out
    third = choose(tmp_path, "identity", OLD, keep=True)
    assert lineage.accepted_changes(third) == [CHANGED]
    assert choose(tmp_path, "identity", OLD) == third
    assert lineage.accepted_changes(third) == [CHANGED]


def test_state_at_work_is_not_deleted(tmp_path: Path) -> None:
    old = trained(tmp_path, OLD)
    new = trained(tmp_path, NEW)
    with held(old):
        lineage.forget_others(new)
        assert (old / "checkpoint.pt").exists()
    lineage.forget_others(new)
    assert not old.exists()
