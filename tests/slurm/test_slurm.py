"""The workflow under a real Slurm, as `snakemake --profile slurm` starts it, and what goes wrong on clusters.

Everything from data to a figure; memory that runs out. Pre-training: resources, requeue, time limit, nodes, cancelled
and drained; submissions that are refused. In the tests of pre-training the engine of the copied repository waits in its
fourth step until it is sent a signal, so that no run can end before it was stopped, on however slow a machine; a run
that goes on begins with that step and waits no more.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml
from slurm_cluster import cluster, run
from working_copy import HOME, OVERLAYS, Repository

LOG = "out/logs/pretrain/mim_us.log"
WAIT = """                if training.step == 3 > saved_step:
                    say("waiting in step 3")
                    while not stop:
                        time.sleep(0.1)
"""
SIZES = {
    "simulation": {"busbra": {"patients": 15, "seed": 0}, "aul": {"patients": 20, "seed": 1}},
    "pretraining": {"defaults": {"epochs": 4, "batch_size": 16}},
}


@pytest.fixture(scope="module")
def slurm() -> Iterator[Path]:
    """The folder of the cluster."""
    with cluster() as folder:
        yield folder


@pytest.fixture(scope="module")
def repository(slurm: Path, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A working copy with all that a run of pre-training needs, made without Slurm; for it, a cluster."""
    return prepared(sized(Repository(tmp_path_factory.mktemp("repository"))))


def sized(repository: Repository) -> Repository:
    """With an overlay for size, tiny.yaml."""
    tiny = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
    tiny["simulation"].update(SIZES["simulation"])
    tiny["pretraining"]["defaults"].update(SIZES["pretraining"]["defaults"])
    tiny["comparisons"]["figure_2"].update(models=["mim_us", "urfm"], lines=["majority"])
    tiny["resources"] = {
        name: {"threads": 1, "mem_mb": 1500, "gpus": 1} for name in ("targets", "finetune", "probe")
    } | {name: {"threads": 1, "mem_mb": 1000} for name in ("manifest", "images", "small")}
    tiny["resources"]["pretrain"] = {"nodes": 1, "gpus": 1, "threads": 1, "mem_mb": 1500}
    (repository.folder / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    return repository


def prepared(repository: Repository) -> Repository:
    """Its data simulated, listed and decoded; its engine waiting."""
    engine = repository.folder / "workflow" / "urfm" / "training" / "pretrain" / "loop.py"
    before, comment, after = engine.read_text().partition("                # Not put back into `stop`")
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


def arguments(*targets: str) -> list[str]:
    """Of `snakemake --profile slurm`, which asks earlier than it would on a large cluster how its jobs are."""
    hurry = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"]
    return [*targets, "--profile", "slurm", *hurry, "--configfile", *OVERLAYS]


@contextmanager
def started(repository: Repository, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A run of the workflow in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *command],
        cwd=repository.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        run("scancel", "--user", "root")


@contextmanager
def pretraining(repository: Repository, resources: str) -> Iterator[subprocess.Popen[str]]:
    """The workflow that makes the run, with the resources of the cluster's small computers."""
    (repository.folder / "resources.yaml").write_text(f"resources: {{pretrain: {resources}}}")
    with started(repository, *arguments("out/pretrain/mim_us/encoder.json"), "resources.yaml") as process:
        yield process


def submitted(output: str) -> list[str]:
    """Numbers of the jobs that Slurm was given, in their order."""
    return re.findall(r"with SLURM jobid (\d+)", output)


def log(repository: Repository) -> str:
    path = repository.folder / LOG
    return path.read_text() if path.exists() else ""


def job() -> str:
    """The number of the cluster's one job."""
    (number,) = run("squeue", "--noheader", "--format=%A").split()
    return number


def test_a_requeued_run_goes_on_and_the_workflow_does_not_notice(repository: Repository) -> None:
    with pretraining(repository, "{nodes: 1, gpus: 2, threads: 2, mem_mb: 3500, minutes: 5}") as process:
        wait_for(lambda: "waiting in step 3" in log(repository), "the first attempt's fourth step")
        number = job()
        asked = run("scontrol", "show", "job", number)
        for wanted in ("TimeLimit=00:05:00", "mem=3500M", "NumNodes=1 NumCPUs=2", "TresPerJob=gres:gpu:2"):
            assert wanted in asked, asked
        run("scontrol", "requeue", number)
        wait_for(lambda: "PENDING" in run("scontrol", "show", "job", number), "requeueing")
        assert "stopped by SIGTERM; the state is saved" in log(repository)
        run("scontrol", "update", f"JobId={number}", "StartTime=now")  # Slurm would let two minutes pass
        output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "on 2 x cpu, peak lr" in log(repository)
    assert "going on at step 3" in log(repository)
    assert submitted(output) == [number], "Slurm started it again, not Snakemake"
    assert "Restarts=1" in run("scontrol", "show", "job", number)


def test_two_nodes_warned_before_the_time_limit(repository: Repository) -> None:
    """The same run on two computers; its bits are those of two processes on one."""
    encoder, history = (
        repository.folder / "out/pretrain/mim_us" / name for name in ("encoder.safetensors", "history.csv")
    )
    one_node = encoder.read_bytes(), pd.read_csv(history).drop(columns="seconds")
    forget_pretraining(repository)

    with pretraining(repository, "{nodes: 2, gpus: 1, threads: 2, mem_mb: 3500, minutes: 10}") as process:
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
    first, second = submitted(output)
    assert first == number
    assert "JobState=FAILED" in run("scontrol", "show", "job", first), "ended in time, not killed"
    assert "TimeLimit=00:20:00" in run("scontrol", "show", "job", second), "another attempt gets more time"
    assert encoder.read_bytes() == one_node[0]
    pd.testing.assert_frame_equal(pd.read_csv(history).drop(columns="seconds"), one_node[1], check_exact=True)


def forget_pretraining(repository: Repository) -> None:
    """As before the first run of it."""
    for path in (repository.folder / "out/pretrain/mim_us").glob("*"):
        path.unlink()
    for path in (repository.folder / "out/state/pretrain/mim_us").glob("*/*/*.pt*"):
        path.unlink()
    (repository.folder / LOG).unlink(missing_ok=True)


def test_a_node_is_emptied(repository: Repository) -> None:
    """Drained, and its job cancelled: Snakemake submits it again, and it goes on elsewhere."""
    forget_pretraining(repository)
    with pretraining(repository, "{nodes: 1, gpus: 1, threads: 1, mem_mb: 3500, minutes: 5}") as process:
        wait_for(lambda: "waiting in step 3" in log(repository), "the first attempt's fourth step")
        node = run("squeue", "--noheader", "--format=%N").strip()
        run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=maintenance")
        try:
            assert "JobState=RUNNING" in run("scontrol", "show", "job", job()), "a drained node's job goes on"
            run("scancel", job())
            output = process.communicate(timeout=600)[0]
        finally:
            run("scontrol", "update", f"NodeName={node}", "State=RESUME")
    assert process.returncode == 0, output
    assert "going on at step 3" in log(repository)
    first, second = submitted(output)
    assert "JobState=CANCELLED" in run("scontrol", "show", "job", first)
    assert f"NodeList={node}" not in run("scontrol", "show", "job", second)


REFUSED = {
    "an option": (["--set-resources", "manifest:constraint=a100"], {}, "Invalid feature specification"),
    "a partition": ([], {"SBATCH_PARTITION": "nowhere"}, "invalid partition specified: nowhere"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_submission_that_is_refused(repository: Repository, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The run ends soon, with Slurm's own words."""
    options, environment, words = REFUSED[what]
    manifest = repository.folder / "out/manifests/aul.json"
    manifest.unlink(missing_ok=True)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with started(repository, *arguments("out/manifests/aul.json"), *options) as process:
        output = process.communicate(timeout=600)[0]
    assert process.returncode == 1, output
    assert words in output, output
    assert submitted(output) == []


def test_more_jobs_than_a_site_takes(slurm: Path, repository: Repository) -> None:
    """Those that were taken are done, the message says what was refused; with fewer at a time all goes well."""
    targets = [f"out/manifests/{name}.json" for name in ("busbra", "aul")]
    for name in targets:
        (repository.folder / name).unlink(missing_ok=True)
    command = arguments(*targets)
    (slurm / "limit").write_text("1")
    try:
        with started(repository, *command) as process:
            output = process.communicate(timeout=600)[0]
        assert process.returncode == 1, output
        assert "job submit limit" in output, output
        assert [(repository.folder / name).is_file() for name in targets].count(True) == 1, output
        for name in targets:
            (repository.folder / name).unlink(missing_ok=True)
        repository.snakemake(*command, "--jobs", "1")
    finally:
        (slurm / "limit").unlink()
    assert all((repository.folder / name).is_file() for name in targets)


# More than the first attempt has; once.
GREEDY = """if __name__ == "__main__":
    import numpy, time
    if not Path("tried").exists():
        Path("tried").touch()
        kept = numpy.ones(150_000_000)
        time.sleep(60)
"""


def test_memory_that_runs_out(slurm: Path, repository: Repository) -> None:
    """Slurm ends the first attempt, and says so in its daemon's log alone; the second gets half as much again."""
    manifest = repository.folder / "out/manifests/aul.json"
    manifest.unlink(missing_ok=True)
    with (
        repository.replaced("workflow/urfm/data/manifest.py", 'if __name__ == "__main__":\n', GREEDY),
        started(repository, *arguments("out/manifests/aul.json")) as process,
    ):
        output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert manifest.is_file()
    numbers = submitted(output)
    first, second = (run("scontrol", "show", "job", number) for number in numbers)
    assert "JobState=FAILED" in first, first
    assert f"StepId={numbers[0]}.0 exceeded memory limit" in "".join(
        path.read_text() for path in slurm.glob("slurmd-*.log")
    )
    assert "mem=1000M" in first, first
    assert "JobState=COMPLETED" in second, second
    assert "mem=1500M" in second, second


def test_everything_up_to_a_figure(slurm: Path, tmp_path: Path) -> None:
    """From nothing to figure 2: every job is a completed job of Slurm's."""
    (tmp_path / "whole").mkdir()
    repository = sized(Repository(tmp_path / "whole"))
    with started(repository, *arguments("figure_2")) as process:
        output = process.communicate(timeout=1200)[0]
    assert process.returncode == 0, output
    figures = repository.folder / "out" / "figures"
    assert {path.suffix for path in figures.glob("figure_2.*")} == {".pdf", ".png", ".csv"}, output
    numbers = submitted(output)
    for number in numbers:
        assert "JobState=COMPLETED" in run("scontrol", "show", "job", number)
    rules = Counter(re.findall(r"^rule (\w+):", output, flags=re.MULTILINE))
    assert rules.keys() >= {"simulate", "manifest", "images", "split", "cache_targets", "pretrain", "figure_2"}, rules
    assert len(numbers) == rules.total(), output
