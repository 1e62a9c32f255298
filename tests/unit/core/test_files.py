"""Files are whole or absent, hashed right, and mistakes are sentences."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
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
        assert list(tmp_path.iterdir()) == []
        scratch.touch()
    assert list(tmp_path.iterdir()) == []


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


RECORD = {"images": 12, "simulated": False, "mean": (0.485, 0.1), "name": "Größe", "more": {"a": {"10": 1, "2": None}}}


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    files.write_record(tmp_path / "a.json", RECORD)
    assert files.SEAL in (tmp_path / "a.json").read_text()
    assert files.read_json(tmp_path / "a.json") == {**RECORD, "mean": [0.485, 0.1]}
    copy = files.read_json(tmp_path / "a.json")
    copy["name"] = "b"
    files.write_record(tmp_path / "b.json", copy)
    assert files.read_json(tmp_path / "b.json") == copy
    assert pickle.loads(pickle.dumps(copy)) == copy


@pytest.mark.parametrize(
    ("old", "new"), [("12", "13"), ("false", "true"), ("0.485", "4.85"), ("null", "0"), ('"images"', '"imagez"')]
)
def test_a_value_that_was_changed_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "a.json"
    files.write_record(path, RECORD)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UrfmError, match=r"a\.json: its values are not those that were written .*; delete it and run"):
        files.read_json(path)


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"images": 12})
    record = files.read_json(tmp_path / "a.json")
    assert record.get("mean") is None
    with pytest.raises(UrfmError, match=r"a\.json: does not say 'mean': it is damaged, or of another version"):
        record["mean"]
