"""The smallest workflow, job by job: the module and the arguments that each rule calls, and the results undisturbed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.workflow.working_copy import HOME, OVERLAYS, Repository

# Enough work for kills in the midst of it, children in every stage that has them, and classifiers on frozen features.
LARGER: dict[str, Any] = {
    "stand_ins.models": [],
    "pretraining.defaults.epochs": 3,
    "pretraining.defaults.batch_size": 16,
    "pretraining.defaults.snapshot_every": 1,
    "pretraining.defaults.views": 2,
    "models.frozen": {
        "title": "Frozen",
        "mode": "linear_probe",
        "checkpoint": {
            "format": "random",
            "architecture": "vit_tiny_patch16_224",
            "model_args": {"embed_dim": 32, "depth": 2, "num_heads": 2},
            "input_size": 64,
        },
    },
    "finetuning.epochs": 2,
    "comparisons.figure_2.models": ["random", "frozen", "urfm"],
    "resources": {name: {"threads": 2} for name in ("manifest", "images", "targets", "pretrain", "finetune", "probe")},
}
# Seconds of work that a kill may lose, in the copy: as many states as can be are met in a short run.
HURRIED = {"workflow/urfm/targets/build.py": {"SAVE_SECONDS = 60.0": "SAVE_SECONDS = 0.05", "BATCH = 64": "BATCH = 8"}}
OPTIONS = {
    "urfm.training.pretrain.stage": ["--checkpoint-minutes", "0.001"],
    "urfm.training.finetune.stage": ["--save-seconds", "0.05"],
}
# What a command does with its arguments, in place of the programs that it calls: they are printed, a zero after each.
STUBS = (
    "set -euo pipefail; python() { printf '%s\\0' \"$@\"; }; sh() { printf '%s\\0' -m \"${@:5}\"; }; tee() { cat; }; "
)


@dataclass(frozen=True)
class Job:
    """What a rule starts, and what it makes."""

    rule: str
    module: str
    arguments: list[str]
    outputs: list[str]
    state: list[str] = field(default_factory=list)  # folders that survive kills


class House:
    """A working copy with the results of an undisturbed run, and what they were."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.repository = Repository(folder)
        self.folder, self.results = folder, folder / "out"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        content = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
        for key, value in LARGER.items():
            *parents, last = key.split(".")
            place = content
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
        for name, changes in HURRIED.items():
            text = (folder / name).read_text()
            for old, new in changes.items():
                assert old in text, f"{name} no longer holds {old!r}"
                text = text.replace(old, new)
            (folder / name).write_text(text)
        # As workflow/rules/common.smk sets it.
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "workflow"),
            "URFM_DATA": "out/raw",
            "URFM_CHECKPOINTS": "out/checkpoints",
            "URFM_STATE": "out/state",
            "URFM_KEEP_STATE": "",
            "URFM_LAUNCH": str(folder / "workflow" / "launch.sh"),
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.temporary),
        }

    def jobs(self, *targets: str) -> list[Job]:
        """All jobs that make these targets, in an order in which they can run."""
        plan = self.repository.snakemake(*targets, "--dry-run", "--printshellcmds", "--configfile", *OVERLAYS)
        blocks = re.findall(r"rule (\w+):\n((?: {4}.*\n)+)Shell command: \n((?: {8}.*\n)+)", plan)
        return [self.job(rule, properties, command) for rule, properties, command in blocks]

    def job(self, rule: str, properties: str, command: str) -> Job:
        done = subprocess.run(
            ["bash", "-c", STUBS + command], cwd=self.folder, env=self.environment, capture_output=True, check=True
        )
        flag, module, *arguments = done.stdout.decode().rstrip("\0").split("\0")
        assert flag == "-m", command
        outputs = re.findall(r"^ {4}output: (.*)$", properties, flags=re.MULTILINE)[0].split(", ")
        state = [arguments[place + 1] for place, name in enumerate(arguments) if name == "--state"]
        return Job(rule, module, arguments + OPTIONS.get(module, []), outputs, state)

    def files(self) -> set[str]:
        """Everything below the results but logs and what Snakemake measured, by its path."""
        found = (path.relative_to(self.folder) for path in self.results.rglob("*") if path.is_file())
        return {str(path) for path in found if path.parts[1] not in ("logs", "benchmarks")}

    def digest(self, name: str) -> str:
        """Hash of what a result says: all its bits but for the seconds that work took, and the time of the report."""
        content = (self.folder / name).read_bytes()
        if name.endswith("report.html"):
            content = re.sub(rb"<p>By stage, as Snakemake measured.*?</div>", b"", content, flags=re.DOTALL)
            content = re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC|[\d.]+ (s|min|h)\b", b"", content)
        with suppress(ValueError, IndexError):  # of a file that is not whole
            if name.endswith(".json"):
                content = json.dumps(timeless(json.loads(content))).encode()
            if name.endswith("/history.csv"):
                header, *rows = [line.split(",") for line in content.decode().splitlines()]
                place = header.index("seconds")
                content = json.dumps([header, *(row[:place] + row[place + 1 :] for row in rows)]).encode()
        return hashlib.sha256(content).hexdigest()

    def remove(self, job: Job, state: bool = True) -> None:
        """What a job made; its state too, unless it is to go on."""
        for name in job.outputs:
            (self.folder / name).unlink(missing_ok=True)
        if state and job.rule == "simulate":  # it declares its record alone
            shutil.rmtree((self.folder / job.outputs[0]).parent)
        for folder in {(self.folder / name).parent for name in job.outputs} if state else ():
            for kept in folder.glob(".kept-*"):  # of urfm.core.kept, which the forks must import for themselves
                shutil.rmtree(kept)
        for name in job.state if state else ():
            shutil.rmtree(self.folder / name, ignore_errors=True)


def timeless(content: Any) -> Any:
    """JSON without the seconds that were spent, and the seal over them, which whoever reads the record compares."""
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if key not in ("seconds", "record_sha256")}
    return [timeless(value) for value in content] if isinstance(content, list) else content
