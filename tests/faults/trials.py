"""One kill each: a job is killed at a random moment and started again, and everything is compared."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.jobs import House, Job
from tests.faults.processes import Stage, gone, kind_of, session
from tests.workflow.working_copy import OVERLAYS

PATIENCE = 60.0  # for children whose main process is gone to end too
REFUSED = " (refused at once: the first is still at work)"
WHOLE, MAIN, SNAKEMAKE, SNAKEMAKE_GROUP = "process group", "main process", "Snakemake alone", "Snakemake's group"


@dataclass
class Trial:
    """What was killed, and what came of it; `faults` is empty if all is well."""

    rule: str
    killed: str
    moment: str = "work"  # or hashing, writing
    place: str = ""
    orphans_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class Bench:
    """Runs trials in a house.

    Undisturbed runs of all jobs come first: `times` and `operations` say how long each works and what it does to files.
    """

    def __init__(self, house: House, jobs: list[Job], seed: int) -> None:
        self.house, self.jobs = house, jobs
        self.random = random.Random(seed)
        self.logs = house.folder / "trial-logs"
        self.logs.mkdir()
        self.times: dict[int, float] = {}
        self.operations: dict[int, list[str]] = {}
        for number, job in enumerate(jobs):
            log = self.logs / f"undisturbed-{number}.log"
            stage = Stage(house, job, log)
            assert stage.wait() == 0, f"{job.rule} fails undisturbed:\n{log.read_text()[-3000:]}"
            self.times[number] = stage.seconds
            self.operations[number] = json.loads(log.with_suffix(".operations").read_text())
        self.there = house.files()
        self.digests = {name: house.digest(name) for name in self.there if not name.startswith("out/state/")}
        self.stamps = {name: (house.folder / name).stat() for name in self.digests}

    def choose(self, rules: list[str], number: int) -> int:
        """Rules take turns; the job of a rule is random."""
        wanted = rules[number % len(rules)]
        return self.random.choice([place for place, job in enumerate(self.jobs) if job.rule == wanted])

    def moment(self, number: int) -> float | int:
        """Half of them times, half of them file operations, of which each kind is as likely."""
        if self.random.random() < 0.5:
            return self.random.uniform(0, self.times[number])
        operations = self.operations[number]
        kind = self.random.choice(sorted(set(operations)))
        return self.random.choice([place for place, found in enumerate(operations, 1) if found == kind])

    def stage_trial(self, number: int, killed: str) -> Trial | None:
        """Kill a job that works by itself and start it again; None if it had ended before the moment."""
        job = self.jobs[number]
        trial = Trial(job.rule, killed)
        log = self.logs / "killed.log"
        log.unlink(missing_ok=True)
        self.house.remove(job)
        stage = Stage(self.house, job, log, self.moment(number))
        place = stage.stopped()
        if place is not None:
            (os.kill if killed == MAIN else os.killpg)(stage.pid, signal.SIGKILL)
        code = stage.wait()
        if place is None:
            if code != 0:
                trial.faults.append(f"failed undisturbed: {log.read_text()[-300:]}")
            self.restore(job)
            return trial if code else None
        trial.moment, trial.place = kind_of(place), own_frame(place)
        self.nothing_torn(trial, job)
        # Snakemake removes what a job has declared before it starts it again; a person who runs a module does not.
        if self.random.random() < 0.5:
            self.house.remove(job, state=False)
        # Children of a main process that is gone may live for some seconds; who starts again at once is told so.
        if self.random.random() < 0.5:
            self.no_orphans(trial, stage.pid)
        again = Stage(self.house, job, log)
        if again.wait() and session(stage.pid):
            trial.place += REFUSED
            self.no_orphans(trial, stage.pid)
            again = Stage(self.house, job, log)
            again.wait()
        if again.code:
            trial.faults.append(f"started again it ends with {again.code}: {log.read_text()[-300:]}")
        self.no_orphans(trial, stage.pid)
        self.no_orphans(trial, again.pid)
        self.compare(trial, job)
        return trial

    def snakemake_trial(self, number: int, killed: str) -> Trial | None:
        """Kill Snakemake while it runs a job, then what the documentation says: unlock, and the same command."""
        job = self.jobs[number]
        trial = Trial(job.rule, killed, place=job.module)
        self.house.remove(job)
        importing = self.import_seconds(job)
        begun = self.snakemake(job)
        working = job.module.encode()
        deadline = time.monotonic() + 600
        while begun.poll() is None and not at_work(begun.pid, working):
            assert time.monotonic() < deadline, f"Snakemake never started {job.rule}"
            time.sleep(0.05)
        time.sleep(importing + self.random.uniform(0, self.times[number]))
        if begun.poll() is not None:
            self.restore(job)
            return None
        if killed == SNAKEMAKE:
            begun.kill()
        else:
            for pid in session(begun.pid):
                os.kill(pid, signal.SIGKILL)
        begun.wait()
        self.nothing_torn(trial, job)
        self.snakemake(job, "--unlock").wait(timeout=600)
        # Those that Snakemake has left alone may be at work still: the second writer then waits, or says so and ends.
        snakemake = self.snakemake(job)
        snakemake.wait(timeout=600)
        self.no_orphans(trial, begun.pid)
        if snakemake.returncode and killed == SNAKEMAKE:
            trial.place += REFUSED
            snakemake = self.snakemake(job)
            snakemake.wait(timeout=600)
        if snakemake.returncode:
            text = (self.logs / "snakemake.log").read_text()
            trial.faults.append(f"the same command ends with {snakemake.returncode}: {text[-600:]}")
        self.no_orphans(trial, snakemake.pid)
        self.compare(trial, job)
        return trial

    def import_seconds(self, job: Job) -> float:
        """How long a stage imports libraries, in which nothing can go wrong, before it works."""
        begun = time.monotonic()
        command = [sys.executable, "-c", f"import {job.module}"]
        subprocess.run(command, cwd=self.house.folder, env=self.house.environment, check=True)
        return time.monotonic() - begun

    def snakemake(self, job: Job, *more: str) -> subprocess.Popen[bytes]:
        """The workflow for the results of one job, in a session of its own."""
        options = ["--cores", "2", "--rerun-incomplete", "--configfile", *OVERLAYS]
        command = [sys.executable, "-m", "snakemake", *job.outputs, *options, *more]
        with (self.logs / "snakemake.log").open("wb") as log:
            return subprocess.Popen(
                command, cwd=self.house.folder, env=self.house.environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def no_orphans(self, trial: Trial, leader: int) -> None:
        seconds = gone(leader, PATIENCE)
        if seconds is None:
            trial.faults.append(f"processes were left for {PATIENCE:.0f} s")
        trial.orphans_seconds = max(trial.orphans_seconds, seconds or 0)

    def nothing_torn(self, trial: Trial, job: Job) -> None:
        """Results that are there under their names are whole, whenever one looks."""
        for name in job.outputs:
            if (self.house.folder / name).exists() and self.house.digest(name) != self.digests[name]:
                trial.faults.append(f"{name} was there but not whole")

    def compare(self, trial: Trial, job: Job) -> None:
        """The results are the undisturbed run's, and nothing else is there."""
        there = self.house.files()
        if more := sorted(there - self.there):
            trial.faults.append(f"left behind: {', '.join(more)}")
        if fewer := sorted(self.there - there):
            trial.faults.append(f"missing: {', '.join(fewer)}")
        left = sorted(path.name for path in self.house.temporary.iterdir())
        if trial.killed in (SNAKEMAKE, SNAKEMAKE_GROUP):  # it has a folder of its own, which nobody can remove for it
            left = [name for name in left if not name.startswith("snakemake")]
        if left:
            trial.faults.append(f"left in the temporary folder: {', '.join(left)}")
        for name in self.changed():
            if self.house.digest(name) != self.digests[name]:
                trial.faults.append(f"{name} is another one")
        self.restore(job, bool(trial.faults))

    def changed(self) -> list[str]:
        """Results that were written since."""
        stats = {name: self.house.folder / name for name in self.stamps}
        return [
            name for name, path in stats.items()
            if path.exists() and path.stat().st_mtime_ns != self.stamps[name].st_mtime_ns
        ]  # fmt: skip

    def restore(self, job: Job, rebuild: bool = False) -> None:
        """As it was before the trial: what was left behind goes, what failed is made anew, times are the old ones."""
        for name in self.house.files() - self.there:
            (self.house.folder / name).unlink()
        for path in self.house.temporary.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if rebuild:
            self.house.remove(job)
            assert Stage(self.house, job, self.logs / "rebuilt.log").wait() == 0, f"{job.rule} cannot be made any more"
        for name in self.changed():
            stamp = self.stamps[name]
            os.utime(self.house.folder / name, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def at_work(leader: int, module: bytes) -> bool:
    """Whether a process of a session runs a module."""
    for pid in session(leader):
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if module in arguments:
            return True
    return False


def own_frame(stack: str) -> str:
    """The innermost function of the library in a dump of faulthandler."""
    for line in stack.splitlines():
        if "/urfm/" in line and line.lstrip().startswith("File "):
            path, _, function = line.partition('", line ')
            return f"{path.rpartition('/urfm/')[2]}: {function.rpartition(' in ')[2]}"
    return ""
