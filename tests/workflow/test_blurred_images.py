"""Blurred images are a second store: for the models that see them, and for no other."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from working_copy import Repository

BLURRED = "images_blurred/1.1/"
OVERLAY = """
pretraining: {defaults: {snapshot_every: 100}}
models:
  deblur_sharp: {title: Deblur-MIM on sharp images, pretraining: deblur_mim, blur_sigma: 0}
  deblur_frozen: {title: Deblur-MIM (frozen), pretraining: deblur_mim, mode: linear_probe}
  soft:
    title: A random initialisation on blurred images
    checkpoint: {format: random, architecture: vit_tiny_patch16_224}
    blur_sigma: 2
comparisons:
  figure_2: {models: [mim_us, deblur_mim, deblur_sharp, deblur_frozen, soft], lines: [majority], reference: deblur_mim}
probes: {runs: [[mim_us, deblur_mim]], models: [deblur_mim, deblur_sharp]}
reconstructions: {runs: [mim_us, deblur_mim]}
figures: {model: deblur_mim, figure_7: {before: mim_us}}
"""
SEEN = {"deblur_mim": "1.1", "deblur_frozen": "1.1", "soft": "2.0"}  # by whom, and how much blurred


def blocks(output: str) -> list[tuple[str, str]]:
    """Rule, and what a dry run says of it, of each job."""
    return re.findall(r"^(?:local)?rule (\w+):\n(.*?)(?=^\[|\Z)", output, flags=re.MULTILINE | re.DOTALL)


def stores(job: str) -> set[str]:
    """Which kinds of stores a job reads: `sharp`, or by how much they are blurred."""
    inputs = re.search(r"input: (.*)", job)
    return {sigma or "sharp" for sigma in re.findall(r"/images(?:_blurred/([\d.]+))?/", inputs[1] if inputs else "")}


def test_every_job_reads_the_images_that_its_model_sees(tmp_path: Path) -> None:
    """Of all figures of the paper, probes and reconstructions; figures 6 and 7 show Deblur-MIM."""
    repository = Repository(tmp_path)
    (repository.folder / "deblur.yaml").write_text(OVERLAY)
    targets = ["figure_2", "figure_3", "figure_6", "figure_7", "probe_curves", "reconstructions", "finetuning"]
    output = repository.snakemake(*targets, "--dry-run", "--configfile", "deblur.yaml")
    looked_at = Counter()
    for rule, job in blocks(output):
        whose = re.search(r"wildcards: .*?(?:model|run)=(\w+)", job)
        name = whose[1] if whose else "deblur_mim"  # of maps and fine-tuned embeddings, which have none
        expected = {SEEN.get(name, "sharp")}
        if rule in ("pretrain", "reconstruct"):
            expected |= {"sharp"}  # the targets
        if rule in ("figure_1", "cache_targets"):
            expected = {"sharp"}
        if found := stores(job):
            assert found == expected, (rule, job)
            looked_at[rule, name in SEEN] += 1
    both = ["finetune", "frozen", "probe_run", "probe_model", "pretrain", "reconstruct", "embeddings"]
    wanted = {(rule, blurred) for rule in both for blurred in (True, False)} - {("frozen", False)}
    wanted |= {("attention", True), ("finetuned_embeddings", True), ("baseline", False)}
    assert wanted <= set(looked_at)
    external = [job for rule, job in blocks(output) if rule == "finetune" and job.count("pixels.bin") > 1]
    assert {stores(job) == {"1.1"} for job in external} == {True, False}


# What sees blurred images of one set, and the jobs that make it.
WANTED = ["out/finetune/deblur_mim/liver_mass/100/cell.json", "out/reconstructions/deblur_mim.json"]
FOLLOWERS = Counter(pretrain=1, encoder_from_run=1, finetune=1, reconstruct=1)
SHARP, SOFT = "out/images/aul/store.json", f"out/{BLURRED}aul/store.json"


@pytest.fixture(scope="module")
def deblurred(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The smallest workflow with Deblur-MIM, run."""
    repository = Repository(tmp_path_factory.mktemp("deblurred"))
    tiny = yaml.safe_load((Path(__file__).parent / "tiny.yaml").read_text())
    tiny["pretraining"]["defaults"]["datasets"] = ["aul"]
    tiny["pretraining"]["runs"]["deblur_mim"] = {"mask_ratio": 0.75, "snapshot_every": 1}
    tiny["comparisons"]["figure_2"] |= {"models": ["mim_us", "deblur_mim"], "reference": "mim_us"}
    tiny["figures"]["model"] = "deblur_mim"
    (repository.folder / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    repository.run(*WANTED)
    return repository


def test_the_second_store_is_like_the_first(deblurred: Repository) -> None:
    sharp, soft = (json.loads((deblurred.folder / path).read_text()) for path in (SHARP, SOFT))
    assert soft.pop("blur_sigma") == 1.1
    assert soft.keys() == sharp.keys()
    same = ("images", "bytes", "long_side", "index_sha256", "images_sha256", "simulated")
    assert {key: soft[key] for key in same} == {key: sharp[key] for key in same}
    assert soft["sha256"] != sharp["sha256"]
    record = json.loads((deblurred.folder / "out/encoders/deblur_mim.json").read_text())
    assert record["blur_sigma"] == 1.1
    assert record["provenance"]["blurred_stores"] == {"aul": soft["sha256"]}


def test_the_blur_concerns_those_who_see_it(deblurred: Repository) -> None:
    assert deblurred.plan(SHARP, *WANTED)[0] == Counter()
    with deblurred.replaced("workflow/urfm/data/images/blur.py", 'mode="mirror"', 'mode="nearest"'):
        jobs, output = deblurred.plan(SHARP, *WANTED)
    assert jobs == Counter(blurred_images=1) + FOLLOWERS
    assert "urfm.data.images.blur@" in output
    with deblurred.configured(**{"pretraining.runs.deblur_mim.blur_sigma": 2}):
        jobs, output = deblurred.plan(SHARP, *WANTED)
    assert jobs == Counter(blurred_images=1) + FOLLOWERS
    assert "images_blurred/2.0/aul" in output


def test_it_may_be_deleted_when_the_models_are_done(deblurred: Repository) -> None:
    folder, aside = deblurred.folder / "out" / "images_blurred", deblurred.folder / "aside"
    folder.rename(aside)
    try:
        assert deblurred.plan(*WANTED)[0] == Counter()
    finally:
        aside.rename(folder)


def test_without_such_a_model_there_is_no_second_store(deblurred: Repository) -> None:
    with deblurred.configured(**{"comparisons.figure_2.models": ["mim_us"], "figures.model": "mim_us"}):
        jobs, output = deblurred.plan("figure_2", "figure_6", "figure_7")
    assert jobs["finetune"] > 0
    assert "images_blurred" not in output
