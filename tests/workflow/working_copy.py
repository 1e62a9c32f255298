"""A copy of the repository in which the workflow runs, so that tests may edit it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

HOME = Path(__file__).resolve().parents[2]
OVERLAYS = ["workflow/profiles/demo/config.yaml", "tiny.yaml"]


class Repository:
    """A working copy: `run` calls snakemake in it, `plan` says which jobs a dry run wants and why."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("workflow", "slurm", "envs"):
            shutil.copytree(HOME / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(HOME / name, folder / name)

    def snakemake(self, *arguments: str, check: bool = True, where: Path | None = None) -> str:
        command = [sys.executable, "-m", "snakemake", *arguments]
        done = subprocess.run(
            command, cwd=where or self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200
        )
        assert not check or done.returncode == 0, done.stdout[-8000:]
        return done.stdout

    def run(self, *targets: str, check: bool = True) -> str:
        return self.snakemake(*targets, "--cores", "2", "--configfile", *OVERLAYS, check=check)

    def plan(self, *targets: str) -> tuple[Counter[str], str]:
        """Jobs by rule, all fine-tuning under one name, and the whole output with its reasons.

        `all` and the report are left out, because they follow every change.
        """
        output = self.snakemake(*targets, "--dry-run", "--configfile", *OVERLAYS)
        rules = re.findall(r"^\s*(?:local)?rule (\w+?)(?:_with_weights)?:", output, flags=re.MULTILINE)
        return Counter(rules) - Counter(all=1, report=1), output

    @contextmanager
    def edited(self, name: str, text: str) -> Iterator[None]:
        path = self.folder / name
        before = path.read_text()
        path.write_text(text)
        try:
            yield
        finally:
            path.write_text(before)

    @contextmanager
    def configured(self, **changes: Any) -> Iterator[None]:
        """Change the last overlay: keys with dots, e.g. {"finetuning.mixup": 0.5}."""
        content = yaml.safe_load((self.folder / "tiny.yaml").read_text())
        for key, value in changes.items():
            place = content
            *parents, last = key.split(".")
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = value
        with self.edited("tiny.yaml", yaml.safe_dump(content)):
            yield

    def replaced(self, name: str, old: str, new: str) -> Any:
        text = (self.folder / name).read_text()
        assert old in text, f"{name} no longer holds {old!r}"
        return self.edited(name, text.replace(old, new))
