"""Snakemake's limit of submissions, which workflow/rules/common.smk takes away on one machine, by a private name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake
from packaging.version import Version
from working_copy import HOME

JOBS = 5
SNAKEFILE = """
timers = []

onstart:
    workflow.scheduler._schedule_reevalutation = timers.append
    if {without}:
        workflow.scheduler.job_rate_limiter = None

onsuccess:
    print("timers:", len(timers))

rule all:
    input: expand("{{number}}.txt", number=range({jobs}))

rule job:
    output: "{{number}}.txt"
    shell: "touch {{output}}"
"""


def timers(folder: Path, without: bool) -> int:
    """How many timers, each of which wakes the scheduler again, a run of JOBS jobs sets."""
    (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=JOBS, without=without))
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert len(list(folder.glob("*.txt"))) == JOBS
    return int(done.stdout.split("timers:")[1].split()[0])


@pytest.mark.parametrize("without", [False, True], ids=["with its limit", "without"])
def test_the_limit_wakes_the_scheduler_for_every_job(tmp_path: Path, without: bool) -> None:
    """Fails when Snakemake no longer does: then the statement in common.smk goes."""
    found = timers(tmp_path, without)
    assert found == 0 if without else found >= JOBS


def test_the_installed_version_is_one_for_which_this_is_known() -> None:
    """A newer one is for a person to look at: if the test above holds, the bound moves, else the statement goes."""
    text = (HOME / "workflow" / "rules" / "common.smk").read_text()
    (bound,) = re.findall(r'Version\(snakemake.__version__\) < Version\("([\d.]+)"\)', text)
    assert Version(snakemake.__version__) < Version(bound)
