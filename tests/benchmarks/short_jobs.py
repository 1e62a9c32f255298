"""What starting costs short jobs, and what saves it: ratios, each measured side by side.

First, CPU seconds of Snakemake's own process for jobs of ten input files that only sleep, with its limit of submissions
(its default) and without (onstart of workflow/rules/common.smk). Then, seconds to start a stage that does nothing, in a
fresh process and from the server of urfm.core.warm.

    PYTHONPATH=workflow python tests/benchmarks/short_jobs.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

JOBS = 300
SNAKEFILE = """
import resource

onstart:
    if not {limited}:
        workflow.scheduler.job_rate_limiter = None

onsuccess:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"seconds {{used.ru_utime + used.ru_stime}}")

rule all:
    input: expand("{{number}}.txt", number=range({jobs}))

rule job:
    input: expand("{{{{number}}}}-{{part}}.input", part=range(10))
    output: "{{number}}.txt"
    shell: "sleep 0.2; touch {{output}}"
"""
WORKFLOW = Path(__file__).parents[2] / "workflow"


def scheduler(limited: bool) -> float:
    """CPU seconds of Snakemake for JOBS jobs, two at a time; a run of one job, the start, is taken off."""
    seconds = []
    for jobs in (1, JOBS):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "Snakefile").write_text(SNAKEFILE.format(limited=limited, jobs=jobs))
            for name in range(jobs):
                for part in range(10):
                    Path(folder, f"{name}-{part}.input").touch()
            command = [sys.executable, "-m", "snakemake", "--cores", "2"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        seconds.append(float(done.stdout.split("seconds ")[1].split()[0]))
    return seconds[1] - seconds[0]


def start(socket: str, module: str) -> float:
    """Seconds until a stage has printed its help, from the server at `socket`; if none answers, in a fresh process."""
    client = [sys.executable, "-I", "-S", str(WORKFLOW / "urfm" / "core" / "warm.py")]
    began = time.perf_counter()
    subprocess.run([*client, socket, module, "--help"], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    """Print one line a comparison."""
    usual, without = scheduler(limited=True), scheduler(limited=False)
    ratio = f"1 : {without / usual:.2f}"
    print(f"{JOBS} jobs: Snakemake itself took {usual:.1f} s with its limit, {without:.1f} s without, {ratio}")
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder) / "socket")
        environment = {**os.environ, "PYTHONPATH": str(WORKFLOW)}
        server = subprocess.Popen([sys.executable, "-m", "urfm.core.warm", socket], env=environment)
        while not Path(socket).exists():
            time.sleep(0.1)
        for module in ("urfm.training.finetune.stage", "urfm.figures.figure_2", "urfm.data.manifest"):
            fresh, warm = (min(start(at, module) for _ in range(5)) for at in (str(Path(folder) / "none"), socket))
            print(f"{module}: {fresh:.2f} s fresh, {warm:.2f} s from the server: 1 : {warm / fresh:.2f}")
        server.kill()


if __name__ == "__main__":
    main()
