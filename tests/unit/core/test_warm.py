"""The server that starts stages: what a fresh process would do, without the imports."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

WORKFLOW = Path(__file__).parents[3] / "workflow"
CLIENT = [sys.executable, "-I", "-S", str(WORKFLOW / "urfm" / "core" / "warm.py")]
MODULE = """
import os, sys, signal, time
print("arguments", sys.argv[1:], "in", os.path.basename(os.getcwd()), os.environ.get("MINE"), "torch" in sys.modules)
print(__name__, sys.stdin.read(), file=sys.stderr)
if "wait" in sys.argv:
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(138))
    open("waiting", "w").close()
    time.sleep(60)
if "fail" in sys.argv:
    raise ValueError("no such thing")
if "leave" in sys.argv:
    sys.exit("not like this")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("warm")
    (folder / "stage.py").write_text(MODULE)
    environment = {**os.environ, "PYTHONPATH": f"{WORKFLOW}:{folder}"}
    path = str(folder / "socket")
    process = subprocess.Popen([sys.executable, "-m", "urfm.core.warm", path], env=environment)
    while not Path(path).exists():
        assert process.poll() is None
        time.sleep(0.1)
    yield path, folder
    process.kill()
    process.wait()


def run(socket: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as the workflow's shell starts it."""
    environment = {**os.environ, "MINE": "own", "PYTHONPATH": str(folder)}
    command = [*CLIENT, socket, "stage", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, input="typed", capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize("arguments", [[], ["fail"], ["leave"], ["--key", "a b"]])
def test_as_a_fresh_process(server: tuple[str, Path], arguments: list[str]) -> None:
    socket, folder = server
    warm, fresh = run(socket, folder, *arguments), run(str(folder / "none"), folder, *arguments)
    assert warm.returncode == fresh.returncode == int(bool({"fail", "leave"} & set(arguments)))
    assert warm.stdout.replace("True", "False") == fresh.stdout
    assert "True" in warm.stdout  # torch was there
    assert fresh.stderr.splitlines()[0] == warm.stderr.splitlines()[0] == "__main__ typed"
    assert fresh.stderr.splitlines()[-1] == warm.stderr.splitlines()[-1]


def test_commands_know_nothing_of_each_other(server: tuple[str, Path]) -> None:
    first, second = run(*server, "one"), run(*server, "two")
    assert "['one']" in first.stdout
    assert "['two']" in second.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 138), (signal.SIGTERM, 1), (signal.SIGHUP, 1)])
def test_signals_reach_the_command(server: tuple[str, Path], number: signal.Signals, code: int) -> None:
    socket, folder = server
    (folder / "waiting").unlink(missing_ok=True)
    client = subprocess.Popen([*CLIENT, socket, "stage", "wait"], cwd=folder, stdin=subprocess.DEVNULL)
    while not (folder / "waiting").exists():
        assert client.poll() is None
        time.sleep(0.05)
    client.send_signal(number)
    assert client.wait(timeout=600) == code


def test_a_server_that_dies_before_it_answers_is_done_without(tmp_path: Path) -> None:
    """The command runs in a process of its own."""
    (tmp_path / "stage.py").write_text(MODULE)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [*CLIENT, str(tmp_path / "socket"), "stage", "one"]
    client = subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    connection, _ = listener.accept()
    connection.close()
    listener.close()
    said = client.communicate(timeout=600)[0]
    assert client.returncode == 0
    assert b"arguments ['one']" in said


def test_the_server_ends_with_its_starter(tmp_path: Path) -> None:
    """However that ends, by SIGKILL too; nothing is left."""
    folder = tmp_path / "warm"
    folder.mkdir()
    script = f"{shlex.quote(sys.executable)} -m urfm.core.warm {folder}/socket & echo $!; exec sleep 600"
    environment = {**os.environ, "PYTHONPATH": str(WORKFLOW)}
    starter = subprocess.Popen(["sh", "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    server = psutil.Process(int(starter.stdout.readline()))
    while server.status() != psutil.STATUS_ZOMBIE and not (folder / "socket").exists():
        time.sleep(0.1)
    starter.kill()
    starter.wait()
    server.wait(timeout=600)
    assert not folder.exists()
