"""Another teacher file in the place of one makes exactly the targets stale that it gave."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
from working_copy import Repository

FILES = {
    "clip": "clip/vit_base_patch16_clip_224.openai.safetensors",
    "biomedclip": "biomedclip/open_clip_pytorch_model.bin",
}
DATASETS = {"busbra": "BUSBRA", "aul": "AUL"}
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
        names += [f"out/manifests/{dataset}.{suffix}" for suffix in ("parquet", "rejected.csv", "json")]
        names += [f"out/targets/{teacher}/{dataset}/{name}" for teacher in FILES for name in stored]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    repository.run(*TARGETS, "--touch")
    return repository


def test_only_the_targets_of_the_changed_file(repository: Repository) -> None:
    assert repository.plan(*TARGETS)[0] == Counter()
    path = repository.folder / "out" / "checkpoints" / FILES["clip"]
    path.write_text("another version")
    os.utime(path, (later := path.stat().st_mtime + 10, later))
    jobs, output = repository.plan(*TARGETS)
    assert jobs == Counter(cache_targets=len(DATASETS))
    assert set(re.findall(r"wildcards: teacher=(\w+)", output)) == {"clip"}
    assert "Updated input files: out/checkpoints/clip" in output
