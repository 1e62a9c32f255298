"""The profiles of one workstation, and what short jobs become on a cluster, as dry runs."""

import re

import pytest
from working_copy import Repository

STAGES = ("pretrain", "finetune")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A fresh clone: no data, no results."""
    return Repository(tmp_path_factory.mktemp("fresh"))


def plan(repository: Repository, *arguments: str) -> dict[str, set[str]]:
    """Of the jobs of each stage that use a card: what one asks for, and how its program is started."""
    output = repository.snakemake("figure_2", "--dry-run", "--printshellcmds", *arguments)
    blocks = re.findall(r"rule (\w+):\n((?: {4}.*\n)+)Shell command: \n((?: {8}.*\n)+)", output)
    return {stage: {properties + command for rule, properties, command in blocks if rule == stage} for stage in STAGES}


@pytest.mark.parametrize(("profile", "precision", "part"), [("gpu", "bf16", 128), ("v100", "fp16", 64)])
def test_one_card(repository: Repository, profile: str, precision: str, part: int) -> None:
    """No job asks for more than the card, nor starts more processes; precision is the card's."""
    jobs = plan(repository, "--profile", f"workflow/profiles/{profile}", "--cores", "16")
    assert len(jobs["pretrain"]) == 3
    assert len(jobs["finetune"]) == 50
    for job in jobs["pretrain"]:
        assert re.search(r'sh "\$URFM_LAUNCH" 1 1 8 urfm\.training\.pretrain\.stage', job), job
        assert f"--micro-batch {part})" in job
        assert "--workers $(((8 - 1) / 1)) " in job
    for job in set.union(*jobs.values()):
        assert re.search(r"\bgpu=1\b", job), job
        assert f'"precision":"{precision}"' in job


def test_four_cards_of_a_workstation(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are shown: pre-training has all, other jobs one each; loaders follow the cores that are granted."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    jobs = plan(repository, "--profile", "workflow/profiles/workstation", "--cores", "6")
    for job in jobs["pretrain"]:
        assert re.search(r"\bgpu=4\b", job), job
        assert re.search(r'sh "\$URFM_LAUNCH" 1 4 \d+ urfm\.training\.pretrain\.stage', job), job
        threads = re.search(r"LAUNCH\" 1 4 (\d+) ", job)
        assert threads, job
        assert f"--workers $((({threads[1]} - 4) / 4))" in job
    assert all(re.search(r"\bgpu=1\b", job) for job in jobs["finetune"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    jobs = plan(repository, "--profile", "workflow/profiles/workstation", "--cores", "6")
    assert all(re.search(r'gpu=1\b.*LAUNCH" 1 1 ', job, flags=re.DOTALL) for job in jobs["pretrain"])


def test_v100s_of_a_cluster(repository: Repository) -> None:
    """The overlay alone leaves a run its eight cards."""
    jobs = plan(repository, "--profile", "slurm", "--configfile", "workflow/profiles/v100/config.yaml")
    assert all(re.search(r"\bgpu=8\b", job) for job in jobs["pretrain"])
    assert all('"precision":"fp16"' in job for job in set.union(*jobs.values()))
