"""A short run of the kill harness, and that it would notice; the long run's table is in docs/reliability.md."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parents[2]
RESULTS = ["out/finetune/urfm/breast_tumor/100/cell.json", "out/finetune/frozen/breast_tumor/100/cell.json"]


def kills(home: Path, output: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run the harness of a clone: its exit code, all kills, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--output", str(output), *arguments],
        cwd=home, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, timeout=900,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert output.exists(), done.stdout
    return done.returncode, json.loads(output.read_text()), done.stdout


def test_nothing_is_lost(tmp_path: Path) -> None:
    """Stages from manifest to fine-tuning, killed whole or in part, and Snakemake itself."""
    code, found, printed = kills(
        HOME, tmp_path / "kills.json", "--kills", "8", "--snakemake", "0.125", "--seed", "1", "--targets", *RESULTS,
        "--rules", "manifest", "images", "cache_targets", "pretrain", "finetune_with_weights", "frozen",
    )  # fmt: skip
    assert [kill for kill in found if kill["faults"]] == [], printed
    assert code == 0
    assert len(found) == 8
    assert len({kill["rule"] for kill in found}) == 6
    assert {kill["killed"] for kill in found} >= {"process group", "main process"}
    assert any(kill["killed"].startswith("Snakemake") for kill in found)


def test_a_fault_is_noticed(tmp_path: Path) -> None:
    """A library that leaves temporary files of a killed writer where they are."""
    for name in ("workflow", "slurm", "envs", "tests"):
        shutil.copytree(HOME / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "golden"))
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(HOME / name, tmp_path / name)
    files = tmp_path / "workflow" / "urfm" / "core" / "files.py"
    text = files.read_text()
    assert text.count("stale.unlink(missing_ok=True)") == 1
    files.write_text(text.replace("stale.unlink(missing_ok=True)", "pass"))
    code, found, printed = kills(
        tmp_path, tmp_path / "kills.json", "--kills", "6", "--snakemake", "0", "--seed", "1",
        "--targets", "out/manifests/busbra.json", "--rules", "manifest",
    )  # fmt: skip
    assert code == 1, printed
    assert any("left behind: out/manifests/." in fault for kill in found for fault in kill["faults"]), printed
