"""Another teacher file in the place of one makes exactly the targets stale that it gave."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest
from working_copy import Repository

FILES = {
    "clip": "clip/vit_base_patch16_clip_224.openai.safetensors",
    "biomedclip": "biomedclip/open_clip_pytorch_model.bin",
}
DATASETS = {"busbra": "BUSBRA", "aul": "AUL"}
ENDINGS = ("parquet", "rejected.csv", "json", "files.parquet", "images.json")  # of a manifest
TARGETS = [f"out/targets/{teacher}/{dataset}/targets.json" for teacher in FILES for dataset in DATASETS]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Targets of two teachers and two data sets; empty files, which a plan does not read."""
    repository = Repository(tmp_path)
    (tmp_path / "tiny.yaml").write_text((Path(__file__).parent / "tiny.yaml").read_text())
    stored = ("tokens.bin", "views.parquet", "targets.json")
    names = [f"out/checkpoints/{file}" for file in FILES.values()]
    for dataset, folder in DATASETS.items():
        names += [f"out/raw/{folder}/SIMULATED.json", f"out/images/{dataset}/pixels.bin"]
        names += [f"out/images/{dataset}/{name}" for name in ("index.parquet", "store.json")]
        names += [f"out/manifests/{dataset}.{suffix}" for suffix in ENDINGS]
        names += [f"out/targets/{teacher}/{dataset}/{name}" for teacher in FILES for name in stored]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for file in FILES.values():  # of the year after next: no reason to run anything
        os.utime(tmp_path / "out" / "checkpoints" / file, (later := time.time() + 5e7, later))
    repository.run(*TARGETS, "--touch", "--forceall")
    return repository


def test_only_the_targets_of_the_changed_file(repository: Repository) -> None:
    assert repository.plan(*TARGETS)[0] == Counter()
    path = repository.folder / "out" / "checkpoints" / FILES["clip"]
    path.write_text("another version")
    jobs, output = repository.plan(*TARGETS)
    assert jobs == Counter(cache_targets=len(DATASETS))
    assert set(re.findall(r"wildcards: teacher=(\w+)", output)) == {"clip"}
    assert re.search(rf"now: \['{re.escape(FILES['clip'])}@\w{{12}}'", output)
