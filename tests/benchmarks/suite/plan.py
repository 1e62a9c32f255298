"""Parsing and planning all of the paper, and a rerun that has nothing to do, beside bare Snakemake.

Bare Snakemake has the same jobs with the same numbers of files and the same edges, taken from a dry run of ours, and no
more: rules with inputs and outputs by name, no settings, no resources, no logs. `each further job` is the difference of
a plan with MORE models of a linear layer on a frozen encoder and one without, over the difference in jobs. For the
rerun all files are there, empty, and Snakemake has recorded them. The amounts are Snakemake's own seconds of CPU.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.suite.harness import Amounts, Result, take_turns
from tests.benchmarks.suite.pictures import Bench, configuration
from tests.workflow.working_copy import Repository

MORE = 60
BARE = "bare Snakemake"
OVERLAY = ("--configfile", "more.yaml")
HEAD = """import json

with open("jobs.json") as stream:
    JOBS = json.load(stream)

rule all:
    input: JOBS["all"]
"""
RULE = """
rule {rule}:
    input: lambda wildcards: JOBS["{rule}"][wildcards.job]
    output: expand("made/{rule}/{{{{job}}}}/{{part}}", part=range({outputs}))
    shell: "touch {{output}}"
"""


def snakemake(folder: Path, *options: str) -> str:
    """Run it, in peace."""
    command = [sys.executable, "-m", "snakemake", "all", *options]
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f"{folder}: {' '.join(command)}\n{done.stdout[-4000:]}")
    return done.stdout


def jobs(output: str) -> list[tuple[str, list[str], list[str]]]:
    """Rule, inputs and outputs of every job of a dry run but `all`."""
    found = []
    for text in re.split(r"\n(?=\[|(?:local)?rule )", output):
        if not (rule := re.match(r"(?:local)?rule (\w+):", text)) or rule[1] == "all":
            continue
        listed = {
            key: value.split(", ") for key, value in re.findall(r"^    (input|output): (.*)$", text, re.MULTILINE)
        }
        found.append((rule[1], listed.get("input", []), listed["output"]))
    return found


def bare_copy(planned: list[tuple[str, list[str], list[str]]], folder: Path) -> None:
    """The same jobs without us."""
    folder.mkdir(parents=True)
    names: dict[str, str] = {}
    widths: dict[str, int] = {}
    for rule, _, outputs in planned:
        widths[rule] = max(len(outputs), widths.get(rule, 0))
    for number, (rule, _, outputs) in enumerate(planned):
        names |= {output: f"made/{rule}/{number}/{part}" for part, output in enumerate(outputs)}
    known: dict[str, dict[str, list[str]]] = {}
    for number, (rule, inputs, _) in enumerate(planned):
        for place in inputs:
            if place not in names:  # it is there before anything is made
                names[place] = f"raw/{len(names)}"
                (folder / "raw").mkdir(exist_ok=True)
                (folder / names[place]).touch()
        known.setdefault(rule, {})[str(number)] = [names[place] for place in inputs]
    wanted = [name for name in names.values() if name.startswith("made/")]
    (folder / "jobs.json").write_text(json.dumps({**known, "all": wanted}))
    rules = "".join(RULE.format(rule=rule, outputs=count) for rule, count in widths.items())
    (folder / "Snakefile").write_text(HEAD + rules)


def overlay(models: int) -> str:
    """So many frozen encoders more, as lines of figure 2."""
    names = [f"frozen_{number}" for number in range(models)]
    told = ", ".join(f"{name}: {{title: {name}, pretraining: urfm, mode: linear_probe}}" for name in names)
    return f"models: {{{told}}}\ncomparisons: {{figure_2: {{lines: [{', '.join(names)}]}}}}\n"


def lay_out(folder: Path) -> None:
    """Every data set's folder and every checkpoint, all of them empty: enough to be planned with."""
    config = configuration()
    for dataset in config["datasets"].values():
        (folder / config["data_root"] / dataset["folder"]).mkdir(parents=True, exist_ok=True)
    checkpoints = [model["checkpoint"] for model in config["models"].values() if "checkpoint" in model]
    for record in [*checkpoints, *config["teachers"].values()]:
        if "file" in record:
            path = folder / config["checkpoint_root"] / record["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def finish(folder: Path, files: list[str], *options: str) -> None:
    """As after a run to the end: every file is there, and recorded."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    snakemake(folder, "--touch", "--forceall", "--cores", "1", *options)
    said = snakemake(folder, "--dry-run", *options)
    if "Nothing to be done" not in said or "missing provenance" in said:
        raise RuntimeError(f"{folder}: there is something to do\n{said[-4000:]}")


def results(bench: Bench) -> Iterator[Result]:
    counts, folders = {}, {}
    for size, models in (("", 0), ("-more", 2 if bench.quick else MORE)):
        ours, bare = bench.folder / f"ours{size}", bench.folder / f"bare{size}"
        ours.mkdir()
        repository = Repository(ours)
        lay_out(ours)
        (repository.folder / "more.yaml").write_text(overlay(models) if models else "{}\n")
        planned = jobs(snakemake(ours, "--dry-run", *OVERLAY))
        bare_copy(planned, bare)
        counts[size] = len(planned)
        if len(jobs(snakemake(bare, "--dry-run"))) != len(planned):
            raise RuntimeError("bare Snakemake plans other jobs than ours")
        folders[size] = ours, bare, planned
    sides = {}
    for size, (ours, bare, _) in folders.items():
        sides[f"urfm{size}"] = partial(snakemake, ours, "--dry-run", "--quiet", *OVERLAY)
        sides[f"{BARE}{size}"] = partial(snakemake, bare, "--dry-run", "--quiet")
    amounts = take_turns(sides, bench.rounds(3), warm_up=0)
    first: Amounts = {name: amounts[name] for name in ("urfm", BARE)}
    yield Result("plan of all", f"{counts['']} jobs", "s", first, bars={BARE: 1.3})
    further = counts["-more"] - counts[""]
    each = {
        name: [1000 * (more - few) / further for more, few in zip(amounts[f"{name}-more"], few_of, strict=True)]
        for name, few_of in first.items()
    }
    yield Result("each further job", f"{further} jobs more", "ms", each, bars={BARE: 1.15})

    ours, bare, planned = folders["-more"]
    finish(ours, [name for _, _, outputs in planned for name in outputs], *OVERLAY)
    finish(bare, json.loads((bare / "jobs.json").read_text())["all"])
    sides = {name: sides[f"{name}-more"] for name in ("urfm", BARE)}
    amounts = take_turns(sides, bench.rounds(3), warm_up=0)
    yield Result("rerun with nothing to do", f"{counts['-more']} jobs", "s", amounts, bars={BARE: 1.3})
