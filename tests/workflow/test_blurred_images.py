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


def test_every_job_reads_the_images_that_its_model_sees(repository: Repository) -> None:
    """Of all figures of the paper, probes and reconstructions, with Deblur-MIM as the model that figures 6 and 7 show."""
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


@pytest.fixture(scope="module")
def deblurred(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The smallest workflow, run up to all that sees the images of Deblur-MIM."""
    repository = Repository(tmp_path_factory.mktemp("deblurred"))
    tiny = yaml.safe_load((Path(__file__).parent / "tiny.yaml").read_text())
    tiny["pretraining"]["runs"]["deblur_mim"] = {"mask_ratio": 0.75}
    tiny["comparisons"]["figure_2"]["models"] = ["mim_us", "deblur_mim"]
    tiny["probes"] |= {"runs": [["mim_us"], ["deblur_mim"]], "random_seeds": []}
    tiny["reconstructions"]["runs"] = ["deblur_mim"]
    tiny["figures"] |= {"model": "deblur_mim"}
    (repository.folder / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    repository.run(*WANTED)
    return repository


WANTED = [
    "out/pretrain_sets/mim_us.json",  # with the sharp stores: what does not see the blur
    "out/finetune/deblur_mim/breast_tumor/100/cell.json",
    "out/probes/runs/deblur_mim/breast_tumor.json",
    "out/reconstructions/deblur_mim.json",
    "out/attention/breast_tumor.json",
    "out/embeddings/deblur_mim.json",
    "out/embeddings/finetuned/breast_tumor.json",
]
# What sees blurred images of the two sets.
FOLLOWERS = Counter(pretrain=1, encoder_from_run=1, finetune=1, probe_run=1, reconstruct=1, attention=1, embeddings=1,
                    finetuned_embeddings=1)  # fmt: skip


def test_the_second_store_is_like_the_first(deblurred: Repository) -> None:
    out = deblurred.folder / "out"
    assert sorted(path.parent.name for path in out.glob("images_blurred/1.1/*/store.json")) == ["aul", "busbra"]
    for name in ("aul", "busbra"):
        sharp, soft = (json.loads((out / part / name / "store.json").read_text()) for part in ("images", BLURRED))
        assert soft.pop("blur_sigma") == 1.1
        assert soft.keys() == sharp.keys()
        same = ("images", "bytes", "long_side", "index_sha256", "manifest_sha256", "simulated")
        assert {key: soft[key] for key in same} == {key: sharp[key] for key in same}
        assert soft["sha256"] != sharp["sha256"]
    record = json.loads((out / "encoders" / "deblur_mim.json").read_text())
    assert record["blur_sigma"] == 1.1


def test_the_blur_concerns_those_who_see_it(deblurred: Repository) -> None:
    assert deblurred.plan(*WANTED)[0] == Counter()
    sharp = ["out/images/busbra/store.json", "out/images/aul/store.json"]
    with deblurred.replaced("workflow/urfm/data/images/blur.py", 'mode="mirror"', 'mode="nearest"'):
        jobs, output = deblurred.plan(*WANTED)
        assert deblurred.plan(*sharp)[0] == Counter()
    assert jobs == Counter(blurred_images=2) + FOLLOWERS
    assert "urfm.data.images.blur@" in output
    with deblurred.configured(**{"pretraining.runs.deblur_mim.blur_sigma": 2}):
        jobs, output = deblurred.plan(*WANTED)
        assert deblurred.plan(*sharp)[0] == Counter()
    assert jobs == Counter(blurred_images=2) + FOLLOWERS
    assert "images_blurred/2.0/busbra" in output


def test_without_such_a_model_there_is_no_second_store(deblurred: Repository) -> None:
    with deblurred.configured(**{"comparisons.figure_2.models": ["mim_us"], "figures.model": "mim_us"}):
        jobs, output = deblurred.plan("figure_2", "figure_6", "figure_7")
    assert jobs["finetune"] > 0
    assert "images_blurred" not in output
