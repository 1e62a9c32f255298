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
        assert "--workers 7 " in job
    for job in set.union(*jobs.values()):
        assert re.search(r"\bgpu=1\b", job), job
        assert f'"precision":"{precision}"' in job


def test_v100s_of_a_cluster(repository: Repository) -> None:
    """The overlay alone leaves a run its eight cards."""
    jobs = plan(repository, "--profile", "slurm", "--configfile", "workflow/profiles/v100/config.yaml")
    assert all(re.search(r"\bgpu=8\b", job) for job in jobs["pretrain"])
    assert all('"precision":"fp16"' in job for job in set.union(*jobs.values()))
