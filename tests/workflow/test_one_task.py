"""One's own images alone, one task and two models: all that can be made is made, and what cannot be is named."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from working_copy import Repository

OVERLAY = """
pathvars: {results: out}
data_root: raw
datasets:
  my_set: {reader: generic, folder: MySet, organ: breast, source: My hospital}
tasks:
  my_task: {title: My task, dataset: my_set, group: superficial, classes: {benign: Benign, malignant: Malignant}}
models:
  fresh:
    title: Fresh
    checkpoint:
      format: random
      architecture: vit_tiny_patch16_224
      model_args: {embed_dim: 32, depth: 1, num_heads: 2}
      input_size: 64
comparisons:
  figure_2: {models: [fresh, thumbnails], lines: [], reference: fresh, tasks: [my_task]}
finetuning: {epochs: 1, warmup_epochs: 0, precision: fp32}
seeds: [0]
statistics: {bootstrap_resamples: 40, permutations: 400}
figures: {dpi: 72}
resources: {finetune: {gpus: 0, threads: 1}}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone beside sixty pictures in the generic format, and no other data."""
    repository = Repository(tmp_path_factory.mktemp("one"))
    folder = repository.folder / "raw" / "MySet"
    (folder / "images").mkdir(parents=True)
    rows = ["image,patient_id,label"]
    for number in range(60):
        grey = np.random.default_rng(number).normal(100 + 20 * (number % 2), 20, (24, 32)).clip(0, 255)
        Image.fromarray(grey.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        rows.append(f"{number}.png,P{number},{('benign', 'malignant')[number % 2]}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    (repository.folder / "my.yaml").write_text(OVERLAY)
    return repository


def called(repository: Repository, *arguments: str, check: bool = True) -> str:
    return repository.snakemake(*arguments, "--configfile", "my.yaml", check=check)


def planned(output: str) -> Counter[str]:
    return Counter(re.findall(r"^\s*(?:local)?rule (\w+):", output, flags=re.MULTILINE))


def test_all_is_made_and_the_rest_is_named(repository: Repository) -> None:
    output = called(repository, "all", "--cores", "2")
    assert "left out: critical_difference: needs two models and two tasks (here: 2 models, 1 task)" in output
    figures = repository.folder / "out" / "figures"
    made = sorted(path.stem for path in Path(figures).glob("*.png"))
    assert made == ["calibration", "decision_curves", "figure_1", "figure_2"]
    page = " ".join(re.sub(r"<[^>]+>", " ", (repository.folder / "out" / "report.html").read_text()).split())
    assert "Not built here: Ranks over tasks (needs two models and two tasks)." in page


def test_what_cannot_be_made_is_refused_before_the_first_job(repository: Repository) -> None:
    output = called(repository, "critical_difference", "--dry-run", check=False)
    assert "critical_difference: needs two models and two tasks (here: 2 models, 1 task)" in output
    assert planned(output) == Counter()


def test_one_model_and_a_second_task_are_planned_alike(repository: Repository) -> None:
    one = "comparisons={figure_2: {models: [fresh]}}"
    assert "critical_difference" not in planned(called(repository, "all", "--dry-run", "--forceall", "--config", one))
    more = "tasks={again: {title: Again, dataset: my_set, group: other, classes: {benign: B, malignant: M}}}"
    two = "comparisons={figure_2: {tasks: [my_task, again]}}"
    jobs = planned(called(repository, "all", "--dry-run", "--forceall", "--config", more, two))
    assert jobs["critical_difference"] == 1


def test_without_any_data_the_tables_are_planned(repository: Repository) -> None:
    (repository.folder / "empty").mkdir()
    jobs = planned(called(repository, "all", "--dry-run", "--forceall", "--config", "data_root=empty"))
    tables = [f"table_{number}" for number in range(1, 6)]
    assert jobs == Counter([*tables, "comparison_with_paper", "claims", "report", "all"])
