"""The benchmark suite: sh envs/run bench [--quick] [--write] [NAME ...].

Every group is a process of its own, with one thread; inside it the sides take turns (harness.py). What was measured
goes to results/benchmarks.json and is printed as tables; --write puts both into docs. `gpu` is no part of the suite: it
looks at this machine's card (gpu.py) and writes one page.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.suite import harness

HOME = Path(__file__).resolve().parents[3]
DOCS = HOME / "docs" / "benchmarks.md"
TITLES = {
    "store": "Building stores",
    "loader": "Loading training crops",
    "deblur": "Loading for Deblur-MIM",
    "finetune": "Loading for fine-tuning",
    "step": "A training step beside a bare loop",
    "targets": "Stored targets beside online ones",
    "precision": "bf16 beside fp32 on this processor",
    "seeds": "Ten seeds in one job beside ten processes",
    "plan": "Planning beside bare Snakemake",
    "memory": "Memory of a loader",
    "statistics": "Resampled scores beside scikit-learn",
}


def here(group: str, quick: bool, output: Path) -> None:
    """Run one group in this process."""
    from tests.benchmarks.suite.pictures import Bench

    module = importlib.import_module(f"tests.benchmarks.suite.{group}")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # stages tell a lot
        rows = list(module.results(Bench(Path(folder), quick)))
    output.write_text(json.dumps([asdict(row) for row in rows]))


def run(groups: list[str], quick: bool) -> tuple[dict[str, list[harness.Result]], list[str]]:
    """Each group in a process of its own; what was measured, and which groups failed."""
    found: dict[str, list[harness.Result]] = {}
    failed = []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(HOME / "workflow")}
    if others := os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] += os.pathsep + others
    for group in groups:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "rows.json"
            command = [sys.executable, "-m", "tests.benchmarks.suite", group, "--here", str(output)]
            start = time.monotonic()
            done = subprocess.run([*command, *(["--quick"] if quick else [])], cwd=HOME, env=environment)
            minutes = (time.monotonic() - start) / 60
            if done.returncode:
                failed.append(group)
                print(f"{group}: failed, see above", file=sys.stderr, flush=True)
                continue
            found[group] = [harness.Result(**row) for row in json.loads(output.read_text())]
        print(f"\n{TITLES[group]} ({minutes:.1f} min)\n\n{harness.table(found[group])}", flush=True)
    return found, failed


def write_docs(content: dict[str, Any]) -> None:
    """Put what was measured into docs; beside it stays what was measured before on the same machine."""
    record = DOCS.with_suffix(".json")
    before = json.loads(record.read_text())
    kept = before["groups"] if before["machine"] == content["machine"] else {}
    merged = {name: content["groups"].get(name) or kept.get(name) for name in TITLES}
    content = {**content, "groups": {name: rows for name, rows in merged.items() if rows}}
    record.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    DOCS.write_text(harness.put_block(DOCS.read_text(), harness.block(content, TITLES)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="sh envs/run bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("groups", nargs="*", metavar="NAME", help=f"{', '.join(TITLES)}: all if none is named; or gpu")
    parser.add_argument("--quick", action="store_true", help="only to see that it works; the numbers mean nothing")
    parser.add_argument("--output", type=Path, default=HOME / "results" / "benchmarks.json", help="JSON file to write")
    parser.add_argument("--write", action="store_true", help="also into docs/benchmarks.md and docs/benchmarks.json")
    parser.add_argument("--against", type=Path, help="JSON file of another run: say where the ranges do not meet")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - {*TITLES, "gpu"}:
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(TITLES)}, and gpu")
    if arguments.here:
        here(arguments.groups[0], arguments.quick, arguments.here)
        return
    if "gpu" in arguments.groups:
        from tests.benchmarks.suite import gpu

        gpu.main(arguments.quick)
        return
    if arguments.quick and arguments.write:
        parser.error("--quick measures nothing that belongs in docs")
    found, failed = run(arguments.groups or list(TITLES), arguments.quick)
    content = harness.to_json(harness.machine(), found)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if arguments.write:
        write_docs(content)
    if arguments.against:
        differing = harness.disagreements(json.loads(arguments.against.read_text()), content)
        print("\n" + ("\n".join(differing) or f"All ratios agree with those of {arguments.against}"))
    if arguments.quick:
        print("\nA quick look: these numbers mean nothing.")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
