"""Target `cost`, and what is measured of jobs."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from configurations import PAPER, load
from urfm.cost import jobs
from working_copy import HOME, OVERLAYS, Repository

STAGES = {
    "simulated archives and stand-ins": {"simulate", "stand_in"},
    "manifests": {"manifest"},
    "image stores": {"images", "blurred_images"},
    "splits and lists of images": {"split", "pretrain_set"},
    "stored targets": {"cache_targets"},
    "pre-training": {"pretrain"},
    "encoders": {"encoder_from_run", "encoder_from_checkpoint"},
    "fine-tuning": {"finetune", "finetune_with_weights"},
    "baselines and frozen encoders": {"frozen", "baseline"},
    "probes and reconstructions": {"probe_run", "probe_model", "reconstruct"},
    "attention and embeddings": {"attention", "embeddings", "finetuned_embeddings"},
    "statistics": {"comparison_statistics"},
}
TINY = Path(__file__).with_name("tiny.yaml")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A fresh clone: no data, no results."""
    repository = Repository(tmp_path_factory.mktemp("fresh"))
    shutil.copy(TINY, repository.folder)
    return repository


def by_stage(plan: str) -> Counter[str]:
    """Jobs of a dry run of `all`; whatever is of no stage draws or writes tables."""
    found: Counter[str] = Counter()
    for rule in re.findall(r"^rule (?!all:)(\w+):", plan, flags=re.MULTILINE):
        found[next((stage for stage, rules in STAGES.items() if rule in rules), "figures, tables, report")] += 1
    return found


def test_the_papers_cost_needs_no_data(repository: Repository) -> None:
    """Jobs as Snakemake plans them, hours by card, days, storage; nothing else is made."""
    output = repository.snakemake("cost", "--cores", "1")
    lines = [line.strip() for line in output.splitlines()]
    for begin in ("pre-training", "days on 8 cards", "urfm_huge", "image stores", "while a run trains, at most"):
        assert any(line.startswith(f"{begin} ") for line in lines), begin
    assert "Images: 0 of 20 data sets as their manifests say" in output
    assert [path.name for path in sorted((repository.folder / "results").iterdir())] == ["cost", "logs"]
    made = {path.name for path in (repository.folder / "results" / "cost").iterdir()}
    names = ("total", "stages", "pretraining", "finetuning", "cells", "storage")
    assert made == {f"{name}.{suffix}" for name in names for suffix in ("csv", "md", "tex")}
    assert (repository.folder / "results" / "cost" / "cells.csv").read_text().count("\n") == 255
    plan = by_stage(repository.snakemake("all", "--dry-run"))
    assert {stage: number for stage, (_, number) in jobs.count(PAPER).items()} == plan
    assert f"all {plan.total()}" in re.sub(r" +", " ", output)


def test_jobs_of_the_demo(repository: Repository) -> None:
    """With simulated archives, stand-ins, stored targets and baselines; and of the smallest run."""
    demo = HOME / "workflow" / "profiles" / "demo" / "config.yaml"
    for overlays in ([OVERLAYS[0]], OVERLAYS):
        plan = by_stage(repository.snakemake("all", "--dry-run", "--configfile", *overlays))
        config = load(demo, *([TINY] if len(overlays) > 1 else []))
        assert {stage: number for stage, (_, number) in jobs.count(config).items()} == plan


def test_jobs_that_make_something_by_wildcards_are_measured() -> None:
    """Others are targets by name: `snakemake figure_2` would draw again where the measurement is missing."""
    for path in (HOME / "workflow" / "rules").glob("*.smk"):
        for place, measured in re.findall(
            r'\n    log:\n        "<logs>/(.*)\.log",\n(?:    benchmark:\n        "<results>/benchmarks/(.*)\.tsv"\n)?',
            path.read_text(),
        ):
            named = re.match(r"(figures|tables|audit)/|(report|download|doctor|check_data|cost)$", place)
            assert measured == ("" if named else place), f"{path.name}: {place}"


def test_measurements_cause_no_job(repository: Repository) -> None:
    """Neither those that are there nor those that are not."""
    targets = ("manifests", "out/splits/breast_tumor/paper.json", "table_4")
    repository.run(*targets)
    folder = repository.folder / "out" / "benchmarks"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.tsv")}
    assert found >= {"manifest/busbra.tsv", "split/breast_tumor-paper.tsv", "simulate/BUSBRA.tsv"}
    header, numbers = (folder / "manifest" / "busbra.tsv").read_text().splitlines()
    assert {"s", "max_rss", "max_pss"} <= set(header.split("\t"))
    assert float(numbers.split("\t")[0]) > 0
    assert repository.plan(*targets)[0] == Counter()
    shutil.rmtree(folder)
    assert repository.plan(*targets)[0] == Counter()
