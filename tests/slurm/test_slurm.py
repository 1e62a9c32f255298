"""Pre-training under a real Slurm, as `snakemake --profile slurm` starts it: resources, requeue, time limit, nodes.

The engine of the copied repository waits in its fourth step until it is sent a signal, so that no run can end before
it was stopped, on however slow a machine; a run that goes on begins with that step and waits no more.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
import pytest
import yaml
from slurm_cluster import cluster, run
from working_copy import HOME, OVERLAYS, Repository

LOG = "out/logs/pretrain/mim_us.log"
WAIT = """            if training.step == 3:
                say("waiting in step 3")
                while not stop:
                    time.sleep(0.1)
"""
SIZES = {
    "simulation": {"busbra": {"patients": 15, "seed": 0}, "aul": {"patients": 20, "seed": 1}},
    "pretraining": {"defaults": {"epochs": 4, "batch_size": 16}},
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """A working copy with all that a run of pre-training needs, made without Slurm, and the cluster for the run."""
    with cluster():
        yield prepared(Repository(tmp_path_factory.mktemp("repository")))


def prepared(repository: Repository) -> Repository:
    """Its data simulated, listed and decoded; its engine waiting."""
    tiny = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
    tiny["simulation"].update(SIZES["simulation"])
    tiny["pretraining"]["defaults"].update(SIZES["pretraining"]["defaults"])
    (repository.folder / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    engine = repository.folder / "workflow" / "urfm" / "training" / "pretrain" / "loop.py"
    before, comment, after = engine.read_text().partition("            # Not put back into `stop`")
    assert comment
    engine.write_text(before + WAIT + comment + after)
    stores = [f"out/images/{name}/store.json" for name in ("busbra", "aul")]
    repository.run("out/pretrain_sets/mim_us.json", *stores)
    return repository


def wait_for(happened: Callable[[], object], what: str, seconds: float = 300) -> None:
    """Bounded against hanging, not against a busy machine."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds:.0f} s"
        time.sleep(0.2)


@contextmanager
def pretraining(repository: Repository, resources: str) -> Iterator[subprocess.Popen[str]]:
    """`snakemake --profile slurm` that makes the run, with the resources of the cluster's small computers."""
    (repository.folder / "resources.yaml").write_text(f"resources: {{pretrain: {resources}}}")
    arguments = ["--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--configfile", *OVERLAYS]
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "out/pretrain/mim_us/encoder.json", *arguments, "resources.yaml"],
        cwd=repository.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        run("scancel", "--user", "root")


def log(repository: Repository) -> str:
    path = repository.folder / LOG
    return path.read_text() if path.exists() else ""


def job() -> str:
    """The number of the cluster's one job."""
    (number,) = run("squeue", "--noheader", "--format=%A").split()
    return number


def test_a_requeued_run_goes_on_and_the_workflow_does_not_notice(repository: Repository) -> None:
    with pretraining(repository, "{nodes: 1, gpus: 2, threads: 2, mem_mb: 1500, minutes: 5}") as process:
        wait_for(lambda: "waiting in step 3" in log(repository), "the first attempt's fourth step")
        number = job()
        asked = run("scontrol", "show", "job", number)
        for wanted in ("TimeLimit=00:05:00", "mem=1500M", "NumNodes=1 NumCPUs=2", "TresPerJob=gres:gpu:2"):
            assert wanted in asked, asked
        run("scontrol", "requeue", number)
        wait_for(lambda: "PENDING" in run("scontrol", "show", "job", number), "requeueing")
        assert "stopped by SIGTERM; the state is saved" in log(repository)
        run("scontrol", "update", f"JobId={number}", "StartTime=now")  # Slurm would let two minutes pass
        output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "on 2 x cpu, peak lr" in log(repository)
    assert "going on at step 3" in log(repository)
    assert re.findall(r"with SLURM jobid (\d+)", output) == [number], "Slurm started it again, not Snakemake"
    assert "Restarts=1" in run("scontrol", "show", "job", number)


def test_two_nodes_warned_before_the_time_limit(repository: Repository) -> None:
    """The same run on two computers; its bits are those of two processes on one."""
    encoder, history = (
        repository.folder / "out/pretrain/mim_us" / name for name in ("encoder.safetensors", "history.csv")
    )
    one_node = encoder.read_bytes(), pd.read_csv(history).drop(columns="seconds")
    for path in encoder.parent.iterdir():
        path.unlink()
    for path in (repository.folder / "out/state/pretrain/mim_us").glob("*/*/*.pt*"):
        path.unlink()
    (repository.folder / LOG).unlink()

    with pretraining(repository, "{nodes: 2, gpus: 1, threads: 2, mem_mb: 1500, minutes: 10}") as process:
        wait_for(lambda: "waiting in step 3" in log(repository), "the first attempt's fourth step")
        number = job()
        asked = run("scontrol", "show", "job", number)
        for wanted in ("NodeList=n[1-2]", "NumNodes=2 NumCPUs=4 NumTasks=2", "TresPerJob=gres:gpu:2"):
            assert wanted in asked, asked
        # Now within the two minutes before the end, of which the profile wants a warning.
        run("scontrol", "update", f"JobId={number}", "TimeLimit=2")
        output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "on 2 x cpu, peak lr" in log(repository)
    assert "going on at step 3" in log(repository)
    first, second = re.findall(r"with SLURM jobid (\d+)", output)
    assert first == number
    assert "JobState=FAILED" in run("scontrol", "show", "job", first), "ended in time, not killed"
    assert "TimeLimit=00:20:00" in run("scontrol", "show", "job", second), "another attempt gets more time"
    assert encoder.read_bytes() == one_node[0]
    pd.testing.assert_frame_equal(pd.read_csv(history).drop(columns="seconds"), one_node[1], check_exact=True)
