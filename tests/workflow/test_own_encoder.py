"""A user's own encoder enters figure 2 with the lines that docs/extending.md prints."""

import re
from pathlib import Path

from working_copy import HOME, Repository


def test_own_encoder_in_figure_2(tmp_path: Path) -> None:
    block = re.search(r"```yaml\n(.*?)```", (HOME / "docs" / "extending.md").read_text(), flags=re.DOTALL)
    assert block
    assert len(block[1].splitlines()) <= 6
    repository = Repository(tmp_path)
    (tmp_path / "my.yaml").write_text(block[1])
    (tmp_path / "data" / "BUSBRA").mkdir(parents=True)
    weights = tmp_path / "checkpoints" / "mine" / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    output = repository.snakemake("figure_2", "--configfile", "my.yaml", "--dry-run")
    assert "figure_2: 1 of 3 models on 1 of 10 tasks" in output
    assert "results/encoders/mine.safetensors" in output
    assert "results/finetune/mine/breast_tumor/100/cell.json" in output
