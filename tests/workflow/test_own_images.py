"""A user's own images become a task or a pre-training source with the lines that docs/datasets.md prints."""

import json
import re

import pytest
from configurations import overlaid
from PIL import Image
from urfm.plan import configuration
from working_copy import HOME, Repository


def documented(heading: str) -> str:
    """The first YAML block below a heading of docs/datasets.md."""
    section = (HOME / "docs" / "datasets.md").read_text().split(heading, 1)[1]
    block = re.search(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
    assert block
    return block[1]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A fresh clone beside a data root that holds two folders of images in the generic format, and nothing else."""
    repository = Repository(tmp_path_factory.mktemp("own"))
    for name, label in (("MySet", "benign"), ("MyScans", "")):
        folder = repository.folder / "data" / name / "images"
        folder.mkdir(parents=True)
        rows = ["image,patient_id,label"]
        for number in range(4):
            Image.radial_gradient("L").crop((number, 0, number + 40, 30)).save(folder / f"{number}.png")
            rows.append(f"{number}.png,{label and number},{label}")
        (folder.parent / "metadata.csv").write_text("\n".join(rows) + "\n")
    return repository


def planned(repository: Repository, overlay: str, target: str) -> str:
    configuration.check(overlaid(overlay))
    assert len(overlay.splitlines()) <= 6
    (repository.folder / "my.yaml").write_text(overlay)
    return repository.snakemake(target, "--configfile", "my.yaml", "--dry-run")


@pytest.mark.parametrize("target", ["splits", "manifests"])
def test_a_task(repository: Repository, target: str) -> None:
    output = planned(repository, documented("## Your own images as a task"), target)
    assert "figure_2: 0 of 6 models on 1 of 2 tasks" in output
    assert "results/manifests/my_set.json" in output
    assert ("results/splits/my_task/paper.json" in output) == (target == "splits")


def test_a_pretraining_source(repository: Repository) -> None:
    manifest = "results/manifests/my_scans.json"
    output = planned(repository, documented("## Your own images for pre-training"), "manifests")
    assert manifest in output
    assert "MIM-US: pre-trained on 1 of 2 data sets (MyScans)." in output
    repository.snakemake(manifest, "--configfile", "my.yaml", "--cores", "1")
    summary = json.loads((repository.folder / manifest).read_text())
    assert (summary["images"], summary["patients"], summary["labels"]) == (4, 4, {})


def test_class_folders_of_other_names(repository: Repository) -> None:
    configuration.check(overlaid(documented("### Class folders of other names")))
