"""Files are whole or absent, hashed right, and mistakes are sentences."""

import errno
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from urfm.core import files
from urfm.core.cli import Settings, parse_settings
from urfm.core.errors import UrfmError
from urfm.core.progress import progress


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    files.write_text(path, "old")

    def fail() -> None:
        with files.atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["table.csv"]


def test_what_a_kill_left_goes_with_the_next_write(tmp_path: Path) -> None:
    others = [".a1.json.77.tmp", ".a[1].json.gz.77.tmp", ".b.json.78.tmp"]
    for name in [*others, ".a[1].json.77.tmp"]:
        (tmp_path / name).touch()
    files.write_text(tmp_path / "a[1].json", "new")
    assert sorted(item.name for item in tmp_path.iterdir()) == [*others, "a[1].json"]


def test_a_scratch_file_is_gone_in_the_end_and_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / ".x.77.tmp").touch()
    with files.scratch_path(tmp_path / "x") as scratch:
        assert [item.name for item in tmp_path.iterdir()] == [".x.lock"]
        scratch.touch()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_a_file_has_the_mode_of_the_umask_whatever_its_writer_chose(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        for name in ("a.safetensors", "a.pt", "a.csv"):
            with files.atomic_path(tmp_path / name) as temporary:
                if name == "a.safetensors":  # with its own, nobody else could read it
                    save_file({"a": torch.zeros(3)}, temporary)
                    assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
                elif name == "a.pt":
                    torch.save({"a": torch.zeros(3)}, temporary)
                else:
                    temporary.write_text("a")
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask
    finally:
        os.umask(before)


def test_room_is_asked_for_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5_000_000))
    with files.atomic_path(tmp_path / "small", size=5_000_000) as temporary:
        temporary.touch()
    with (
        pytest.raises(
            UrfmError, match=r"large: 6\.0 MB are needed and 5\.0 MB are free; delete something there or let"
        ),
        files.atomic_path(tmp_path / "large", size=6_000_000),
    ):
        pytest.fail("too late")
    assert [item.name for item in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize(
    ("error", "free", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            0,
            "the disk is full: more than 4 bytes needed, 0 bytes free",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 10**9, "the disk or a quota on it is full: .* 1.0 GB free"),
        (RuntimeError("[enforce fail at inline_container.cc:672]"), 0, "the disk is full"),
        (
            SafetensorError("I/O error: No space left on device (os error 28)"),
            9**9,
            "the disk or a quota on it is full",
        ),
    ],
)
def test_a_disk_that_fills_up_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, free: int, said: str
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=free))

    def fail() -> None:
        with files.atomic_path(tmp_path / "x.pt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(
        UrfmError, match=rf"x\.pt: {said}.*; delete something there or let results lie on a larger disk"
    ):
        fail()
    assert list(tmp_path.iterdir()) == []


def write_tensors(path: Path) -> None:
    save_file({"a": torch.zeros(10**6)}, path)


def write_state(path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, path)


def write_frame(path: Path) -> None:
    pd.DataFrame({"a": np.random.default_rng(0).random(10**6)}).to_parquet(path)


def write_array(path: Path) -> None:
    with open(path, "wb") as stream:
        np.savez(stream, a=np.zeros(10**6))


def write_picture(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000), np.uint8)
    Image.fromarray(noise).save(path, format="png")


@pytest.mark.parametrize("write", [write_tensors, write_state, write_frame, write_array, write_picture])
def test_every_writer_is_understood_on_a_disk_that_is_full(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """On a real one, of 500 kB, in a process that may mount it in a world of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk; the cases above pretend one")
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]\nfrom pathlib import Path\nimport test_files\n"
        "from urfm.core.cli import run\nfrom urfm.core.files import atomic_path\n"
        "def main():\n    with atomic_path(Path(sys.argv[3]) / 'x') as path:\n"
        f"        test_files.{write.__name__}(path)\n"
        "run(main)"
    )
    mount = f'mount -t tmpfs -o size=500k tmpfs "{tmp_path}" && exec "$@"'
    library, here = Path(files.__file__).parents[2], Path(__file__).parent
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", program, library, here, tmp_path],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"error: \S+/x: the disk is full: .* needed, .* free; delete .*\n", done.stderr), done.stderr


@pytest.mark.parametrize("count", [0, 1, 6, 7, 9])
def test_a_table_written_and_read_in_blocks_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(files, "ROWS", 3)
    schema = pa.schema({"name": pa.string(), "kind": pa.string(), "number": pa.int32()})
    rows = [{"name": f"{number}", "kind": "ab"[number % 2], "number": number} for number in range(count)]
    with files.parquet_rows(tmp_path / "x.parquet", schema) as append:
        for row in rows:
            append(row)
    blocks = list(files.parquet_blocks(tmp_path / "x.parquet"))
    assert [row for block in blocks for row in block.to_pylist()] == rows
    assert all(len(block) <= 3 for block in blocks)
    kinds = files.parquet_blocks(tmp_path / "x.parquet", ["kind"], categories=["kind"])
    assert [kind for block in kinds for kind in block["kind"].to_pylist()] == [row["kind"] for row in rows]


def test_json_has_one_form(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"b": 1, "a": "é"})
    files.write_json(tmp_path / "b.json", {"a": "é", "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"a": "é", "b": 1}


def test_unreadable_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"a": ')
    with pytest.raises(UrfmError, match=r"torn\.json: not valid JSON"):
        files.read_json(tmp_path / "torn.json")
    with pytest.raises(UrfmError, match=r"absent\.json: no such file"):
        files.read_json(tmp_path / "absent.json")


def test_sha256_is_the_one_of_hashlib(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert files.sha256(tmp_path / "x") == digest
    files.verify_sha256(tmp_path / "x", digest)
    with pytest.raises(UrfmError, match="its content changed"):
        files.verify_sha256(tmp_path / "x", "0" * 64)


class Example(Settings):
    epochs: int
    rate: float = 0.1


def test_settings_refuse_what_they_do_not_know() -> None:
    assert parse_settings(Example, '{"epochs": 3}') == Example(epochs=3)
    with pytest.raises(UrfmError, match=r"epochz: Extra inputs are not permitted"):
        parse_settings(Example, '{"epochs": 3, "epochz": 4}')
    with pytest.raises(UrfmError, match=r"epochs: .*valid integer"):
        parse_settings(Example, '{"epochs": "many"}')


def test_a_mistake_is_a_sentence_without_traceback() -> None:
    program = (
        "from urfm.core.cli import run\nfrom urfm.core.errors import UrfmError\n"
        "def main(): raise UrfmError('bus_data.csv: no column Case')\nrun(main)"
    )
    environment = {"PYTHONPATH": str(Path(files.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (1, "error: bus_data.csv: no column Case\n")


def test_progress_counts_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), "reading", every=0.0)) == [0, 1, 2]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("reading: 1/3, about ")
    assert lines[-1].startswith("reading: 3 done in ")
