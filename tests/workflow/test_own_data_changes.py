"""What follows when something happens in a folder of own data: what must, and nothing for junk, times and labels."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from urfm.config import parts
from working_copy import HOME, Repository

OWN = """
data_root: data
simulation: {}
datasets:
  my_set: {reader: generic, folder: MySet, organ: kidney, source: My hospital}
tasks:
  my_task: {title: Mine, dataset: my_set, group: other, classes: {benign: Benign, malignant: Malignant}}
pretraining: {defaults: {datasets: [my_set]}}
comparisons:
  figure_2: {models: [random], reference: random, tasks: [my_task]}
"""
STORED = "out/targets/efficientnet_lite0/my_set/targets.json"
FILES = ["out/pretrain/urfm/encoder.json", "out/finetune/random/my_task/100/cell.json"]
NOTHING: Counter[str] = Counter()
EVERYTHING = Counter(manifest=1, images=1, split=1, pretrain_set=1, cache_targets=1, pretrain=1, finetune=1)


def picture(path: Path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (60, 50), dtype=np.uint8)).save(path)


def date(folder: Path, when: float) -> None:
    for path in (folder, folder / "images", folder / "metadata.csv"):
        os.utime(path, (when, when))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Pre-training and a cell on forty pictures, finished although folders and table are of the year after next."""
    repository = Repository(tmp_path_factory.mktemp("own"))
    content = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
    parts.merge(content, yaml.safe_load(OWN))
    content["simulation"] = {}
    (repository.folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    folder = repository.folder / "data" / "MySet"
    (folder / "images").mkdir(parents=True)
    rows = ["image,patient_id,label"]
    for number in range(40):
        picture(folder / "images" / f"{number}.png", number)
        rows.append(f"{number}.png,{number},{('benign', 'malignant')[number % 2]}")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    date(folder, time.time() + 5e7)
    repository.run(*FILES)
    return repository


@pytest.fixture
def folder(repository: Repository) -> Iterator[Path]:
    """The data, which are put back afterwards."""
    folder = repository.folder / "data" / "MySet"
    before = {path: (path.read_bytes(), path.stat()) for path in folder.rglob("*") if path.is_file()}
    yield folder
    for path in folder.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, (content, state) in before.items():
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    date(folder, time.time())


@contextmanager
def watching(repository: Repository, *names: str) -> Iterator[None]:
    """Files that stay themselves, bit by bit."""
    paths = [repository.folder / name for name in names]
    before = [(path.stat().st_ino, path.read_bytes()) for path in paths]
    yield
    assert [(path.stat().st_ino, path.read_bytes()) for path in paths] == before


def test_times_in_the_future(repository: Repository) -> None:
    assert repository.plan(*FILES)[0] == NOTHING


def test_junk_and_touched_files(repository: Repository, folder: Path) -> None:
    for name in (".DS_Store", "images/.DS_Store", "images/Thumbs.db", "images/._1.png", "desktop.ini"):
        (folder / name).write_text("junk")
    (folder / "metadata.csv").touch()
    assert repository.plan(*FILES)[0] == NOTHING


def test_an_image_comes(repository: Repository, folder: Path) -> None:
    picture(folder / "images" / "40.png", 40)
    jobs, output = repository.plan(*FILES)
    assert jobs == EVERYTHING
    assert re.search(r"now: \['MySet@\w{12}'", output)


def test_an_image_goes(repository: Repository, folder: Path) -> None:
    (folder / "images" / "7.png").unlink()
    assert repository.plan(*FILES)[0] == EVERYTHING


def test_an_image_is_replaced(repository: Repository, folder: Path) -> None:
    """Under a temporary name first, as rsync and archives do."""
    picture(folder / "images" / "new.png", 99)
    (folder / "images" / "new.png").rename(folder / "images" / "7.png")
    assert repository.plan(*FILES)[0] == EVERYTHING


def relabel(folder: Path, number: int) -> None:
    """Correct the label of an image in place."""
    table = folder / "metadata.csv"
    before = table.read_text()
    table.write_text(before.replace(f"\n{number}.png,{number},benign\n", f"\n{number}.png,{number},malignant\n"))
    assert table.read_text() != before


def test_a_label(repository: Repository, folder: Path) -> None:
    """Once the lists are made, only what labels change is left: no store, no targets and no pre-training."""
    relabel(folder, 0)
    output = repository.run("out/splits/my_task/paper.json", "out/pretrain_sets/urfm.json")
    assert set(re.findall(r"rule (\w+):", output)) == {"manifest", "split", "pretrain_set"}
    assert repository.plan(*FILES)[0] == Counter(finetune=1)


def test_a_label_in_one_command(repository: Repository, folder: Path) -> None:
    """Who does not know yet what the manifest will say begins, and ends at once with the same files."""
    relabel(folder, 2)
    assert repository.plan(*FILES)[0] == EVERYTHING
    stores = [f"out/images/my_set/{name}" for name in ("pixels.bin", "index.parquet", "store.json")]
    stored = [str(Path(STORED).with_name(name)) for name in ("tokens.bin", "views.parquet", "targets.json")]
    with watching(repository, *stores, *stored):
        output = repository.run(STORED)
    assert "those of the store that is there" in output
    assert "those of the targets that are there" in output
