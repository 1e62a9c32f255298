"""Names out of a user's files that are shell commands, HTML, LaTeX and formulae are text in all that is made."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from working_copy import Repository

LABELS = ["<b>be</b>nign", "=1+1|x"]
SOURCE = '<u>My</u> $(touch PWNED) "hospital" & Söhne'
TITLE = r"</td><script>alert('title')</script> $(touch PWNED) \input{file} & 100% $5 $x"
OVERLAY = f"""
pathvars: {{results: out}}
data_root: raw
datasets:
  my_set: {{reader: generic, folder: "My Set", organ: [thyroid], source: '{SOURCE}'}}
tasks:
  my_task:
    title: "{TITLE.replace(chr(92), chr(92) * 2)}"
    dataset: my_set
    group: superficial
    classes: {{"{LABELS[0]}": "<i>Benign</i> $x$ _", "{LABELS[1]}": "=1+1|x"}}
models:
  fresh:
    title: "{TITLE.replace(chr(92), chr(92) * 2)}"
    checkpoint:
      format: random
      architecture: vit_tiny_patch16_224
      model_args: {{embed_dim: 32, depth: 1, num_heads: 2}}
      input_size: 64
comparisons:
  figure_2: {{models: [fresh, thumbnails], lines: [], reference: fresh, tasks: [my_task]}}
finetuning: {{epochs: 1, warmup_epochs: 0, precision: fp32}}
seeds: [0]
statistics: {{bootstrap_resamples: 40, permutations: 400}}
figures: {{dpi: 72}}
resources: {{finetune: {{gpus: 0, threads: 1}}}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a clone in which all was made from such names."""
    repository = Repository(tmp_path_factory.mktemp("hostile"))
    folder = repository.folder / "raw" / "My Set" / "images"
    folder.mkdir(parents=True)
    with open(folder.parent / "metadata.csv", "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image", "patient_id", "label"])
        for number in range(60):
            name = f"=1+{number} $(touch PWNED) <i>.png"
            grey = np.random.default_rng(number).normal(100 + 20 * (number % 2), 20, (24, 32)).clip(0, 255)
            Image.fromarray(grey.astype(np.uint8)).save(folder / name)
            rows.writerow([name, f"@P{number}", LABELS[number % 2]])
        broken = "=broken.png"
        (folder / broken).write_bytes(b"no picture")
        rows.writerow([broken, "@P60", LABELS[0]])
    (repository.folder / "my.yaml").write_text(OVERLAY)
    repository.snakemake("all", "--cores", "2", "--configfile", "my.yaml")
    return repository.folder


def test_nothing_is_executed(made: Path) -> None:
    assert list(made.rglob("PWNED")) == []


def test_the_report_shows_them_as_text(made: Path) -> None:
    page = (made / "out" / "report.html").read_text()
    assert "&lt;script&gt;alert(&#39;title&#39;)" in page
    for mark in ("<script>alert", "<i>Benign", "<u>My", "<b>be<"):
        assert mark not in page


def test_no_cell_is_a_formula(made: Path) -> None:
    tables = [*(made / "out").rglob("*.csv")]
    assert {"table_1.csv", "table_2.csv", "my_set.rejected.csv", "figure_2.csv"} <= {path.name for path in tables}
    cells = 0
    for path in tables:
        with open(path, newline="") as stream:
            for row in csv.reader(stream):
                for cell in row:
                    assert not re.match(r"[=+@\t\r]|-(?![\d.]+(e-?\d+)?$|inf$)", cell), f"{path.name}: {cell}"
                    cells += cell.startswith("'=")
    assert cells > 3


def test_latex_is_escaped(made: Path) -> None:
    """What a document would include, compute or take for a comment."""
    tables = [*(made / "out").rglob("*.tex")]
    assert tables
    text = "".join(path.read_text() for path in tables)
    assert "100\\%" in text
    assert "\\input{" not in text
