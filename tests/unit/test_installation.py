"""`sh envs/run` installs what is asked for, once: with a Python and a pip that only write down what they are told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ENVS = Path(__file__).resolve().parents[2] / "envs"
TOOLS = ("cat", "cmp", "cp", "dirname", "mkdir", "rm", "sh")
PYTHON = """#!/bin/sh
case "$*" in
-c*) exit 0 ;;
"-m venv --clear .venv") rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo venv >> calls ;;
*requirements-cpu.txt) echo cpu >> calls && exit "$WITHOUT_CUDA" ;;
*requirements-cuda.txt) echo cuda >> calls ;;
*--require-hashes*requirements-build.txt) echo build >> calls ;;
*--require-hashes*requirements.txt) echo all >> calls ;;
esac
"""


class Clone:
    """A folder with `envs` in it and nothing on its path but the stand-ins."""

    def __init__(self, folder: Path, system: str) -> None:
        self.folder = folder
        shutil.copytree(ENVS, folder / "envs")
        self.tools = folder / "tools"
        self.tools.mkdir()
        for name in TOOLS:
            (self.tools / name).symlink_to(str(shutil.which(name)))
        self.tool("python3", PYTHON)
        self.tool("uname", f"#!/bin/sh\necho {system}\n")

    def tool(self, name: str, text: str) -> None:
        (self.tools / name).write_text(text)
        (self.tools / name).chmod(0o755)

    def run(self, torch: str = "", offered: bool = True) -> tuple[list[str], int, str]:
        """What was installed, the exit code and what was said."""
        (self.folder / "calls").unlink(missing_ok=True)
        settings = {"PATH": str(self.tools), "HOME": str(self.folder), "WITHOUT_CUDA": "0" if offered else "1"}
        done = subprocess.run(
            ["sh", "envs/run", "snakemake"], cwd=self.folder, env=settings | ({"URFM_TORCH": torch} if torch else {}),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
        )  # fmt: skip
        calls = self.folder / "calls"
        return calls.read_text().split() if calls.exists() else [], done.returncode, done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path, "Linux")


def test_without_a_gpu_cuda_stays_away_where_an_index_has_torch_without(clone: Clone) -> None:
    calls, code, _ = clone.run()
    assert set(calls) == {"venv", "build", "cpu", "all"}
    assert code == 0
    assert clone.run() == ([], 0, "")


def test_without_a_gpu_and_such_an_index_it_says_so(clone: Clone) -> None:
    calls, code, said = clone.run(offered=False)
    assert calls == ["venv", "build", "cpu", "cuda", "all"]
    assert code == 0
    assert "docs/installation.md" in said
    assert clone.run(offered=False) == ([], 0, "")


def test_with_a_gpu_it_is_cuda(clone: Clone) -> None:
    clone.tool("nvidia-smi", "#!/bin/sh\n")
    assert clone.run()[0] == ["venv", "build", "cuda", "all"]


def test_on_macos_there_is_one_torch(tmp_path: Path) -> None:
    clone = Clone(tmp_path, "Darwin")
    assert clone.run(torch="cpu")[0] == ["venv", "build", "cuda", "all"]
    assert clone.run(torch="cpu") == ([], 0, "")


def test_what_was_chosen_stays_until_the_other_is_asked_for(clone: Clone) -> None:
    assert clone.run(torch="cuda")[0] == ["venv", "build", "cuda", "all"]
    assert clone.run() == ([], 0, "")
    assert clone.run(torch="cpu")[0] == ["venv", "build", "cpu", "all"]
    assert clone.run() == ([], 0, "")
    with (clone.folder / "envs" / "requirements.txt").open("a") as pins:
        pins.write("more==1\n")
    assert clone.run()[0] == ["build", "cpu", "all"]


def test_what_is_asked_for_and_not_there_is_an_error_each_time(clone: Clone) -> None:
    for _ in range(2):
        calls, code, said = clone.run(torch="cpu", offered=False)
        assert code == 1
        assert "all" not in calls
        assert "docs/installation.md" in said
    assert clone.run(torch="gpu")[1:] == (1, "URFM_TORCH is cpu or cuda, not gpu\n")


def test_another_python_is_refused_before_anything_is_fetched(clone: Clone) -> None:
    clone.tool("python3", PYTHON.replace("-c*) exit 0", "-c*) exit 1"))
    calls, code, said = clone.run()
    assert (calls, code) == ([], 1)
    assert "3.11, 3.12 or 3.13" in said
