"""`sh envs/run demo` by whatever end it comes to: nothing is left behind, and the same command goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from working_copy import HOME, Repository

MANIFEST = "results/demo/manifests/busbra.json"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A clone that is installed already, in a folder with an odd name."""
    folder = tmp_path / "My scans & Größe's $(touch executed)"
    folder.mkdir()
    repository = Repository(folder)
    installed = folder / ".venv"
    installed.mkdir()
    for name in ("bin", "lib"):
        (installed / name).symlink_to(Path(sys.prefix) / name)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", installed)
    (installed / "torch").write_text("cuda\n")
    requirements = sorted((folder / "envs").glob("requirements*.txt"))
    for path in requirements:
        (installed / f"{path.name}.installed").write_text("".join(path.read_text() for path in requirements))
    return repository


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Without a home that can be written to; what it leaves in its folder for temporary files is seen."""
    (tmp_path / "temporary").mkdir()
    left_out = {"XDG_CACHE_HOME", "SNAKEMAKE_PROFILE"}
    places = {"HOME": f"{os.devnull}/home", "TMPDIR": str(tmp_path / "temporary")}
    return {name: value for name, value in os.environ.items() if name not in left_out} | places


def until(true: Callable[[], object], seconds: float = 300) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


def server(folder: Path) -> psutil.Process | None:
    """That of the demo in this folder."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        if "urfm.core.warm" in command and process.info["cwd"] == str(folder):
            return process
    return None


def demo(repository: Repository, environment: dict[str, str], *targets: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "envs/run", "demo", *targets]
    return subprocess.run(
        command, cwd=repository.folder, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600,
    )  # fmt: skip


def test_without_a_home_or_a_server(repository: Repository, environment: dict[str, str], tmp_path: Path) -> None:
    """The demo does not need its server, and Snakemake's cache is in the clone."""
    command = ["sh", "envs/run", "demo", "table_4"]
    process = subprocess.Popen(command, cwd=repository.folder, env=environment, stdout=subprocess.PIPE, text=True)
    until(lambda: server(repository.folder))
    if (found := server(repository.folder)) is not None:
        found.kill()
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "Report:" in output
    assert (repository.folder / "results" / "demo" / "tables" / "table_4.csv").is_file()
    assert (repository.folder / ".snakemake" / "cache" / "snakemake").is_dir()
    assert not list(tmp_path.rglob("executed"))


TARGET = {"success": "table_4", "SIGKILL": MANIFEST}  # else all, which does not end before it is stopped


@pytest.mark.parametrize("end", ["success", "Ctrl-C", "terminal", "SIGKILL"])
def test_nothing_is_left(repository: Repository, environment: dict[str, str], tmp_path: Path, end: str) -> None:
    """The server ends with the demo; and unless that was killed, the same command goes on at once."""
    terminal, inner = os.openpty() if end == "terminal" else os.pipe()
    leader = os.fork()
    if leader == 0:
        os.chdir(repository.folder)
        if end == "terminal":
            os.login_tty(inner)
        else:  # without a terminal, whose end would end the server
            os.setsid()
            os.dup2(inner, 1)
            os.dup2(inner, 2)
        os.execvpe("sh", ["sh", "envs/run", "demo", TARGET.get(end, "all")], environment)
    os.close(inner)
    said = b""
    while end != "success" and b"rule simulate:" not in said:
        said += os.read(terminal, 1000)
    until(lambda: server(repository.folder) or end == "success")
    snakemake = [one for one in psutil.Process(leader).children(recursive=True) if "snakemake" in one.cmdline()]
    if end == "Ctrl-C":
        os.killpg(leader, signal.SIGINT)
    elif end == "terminal":
        os.close(terminal)
    elif end == "SIGKILL":
        for process in [psutil.Process(leader), *snakemake]:
            process.kill()
    if end != "terminal":
        while os.read(terminal, 1000):  # until the last program has ended
            pass
        os.close(terminal)
    _, status = os.waitpid(leader, 0)
    assert (os.waitstatus_to_exitcode(status) == 0) == (end == "success")
    psutil.wait_procs(snakemake, timeout=300)
    until(lambda: server(repository.folder) is None)
    assert list((tmp_path / "temporary").glob("*/socket")) == []
    if end == "success":
        return

    again = demo(repository, environment, MANIFEST)
    if end == "SIGKILL":
        assert "LockException" in again.stdout
        commands = re.findall(r"^snakemake (--unlock|--rerun-incomplete)", RELIABILITY, flags=re.MULTILINE)
        assert commands == ["--unlock", "--rerun-incomplete"]  # the second is in the profile
        repository.snakemake("--unlock")
        again = demo(repository, environment, MANIFEST)
    assert again.returncode == 0, again.stdout
    assert (repository.folder / MANIFEST).is_file()


RELIABILITY = (HOME / "docs" / "reliability.md").read_text()
TINY = [
    "out/raw/BUSBRA/SIMULATED.json",
    "--cores",
    "1",
    "--configfile",
    "workflow/profiles/demo/config.yaml",
    "tiny.yaml",
]


def test_after_sigkill_without_a_profile(tmp_path: Path) -> None:
    """What docs/reliability.md says to do."""
    repository = Repository(tmp_path)
    shutil.copy(HOME / "tests" / "workflow" / "tiny.yaml", tmp_path)
    command = [sys.executable, "-m", "snakemake", *TINY]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "rule simulate:" in line:
            break
    until(lambda: len(psutil.Process(process.pid).children(recursive=True)) > 1)
    orphans = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    psutil.wait_procs(orphans, timeout=300)
    block = RELIABILITY.split("After `kill -9`", 1)[1].split("```")[1]
    unlock, again = re.findall(r"^snakemake (--\S+)", block, flags=re.MULTILINE)
    repository.snakemake(unlock)
    assert "IncompleteFilesException" in repository.snakemake(*TINY, check=False)
    repository.snakemake(again, *TINY)
