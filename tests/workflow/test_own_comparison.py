"""A comparison of one's own, with the lines that docs/extending.md prints: a task, an encoder, and what comes out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import yaml
from configurations import load
from PIL import Image
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score, roc_auc_score
from urfm.core import provenance
from urfm.plan import settings
from working_copy import HOME, OVERLAYS, Repository

SIZE = {"model_args": {"embed_dim": 32, "depth": 2, "num_heads": 2}, "input_size": 64}
FILES = [
    *(f"figures/my_benchmark.{suffix}" for suffix in ("pdf", "png", "csv")),
    *(f"tables/my_benchmark.{suffix}" for suffix in ("csv", "md", "tex")),
    "statistics/my_benchmark/statistics.json",
]


def documented() -> str:
    section = (HOME / "docs" / "extending.md").read_text().split("# A comparison of your own", 1)[1]
    block = re.search(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
    assert block
    return block[1]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A clone with sixty pictures and the weights of a small network, where the documented lines expect them."""
    repository = Repository(tmp_path_factory.mktemp("own"))
    folder = repository.folder / "out" / "raw" / "MySet" / "images"
    folder.mkdir(parents=True)
    rows = ["image,patient_id,label"]
    for number in range(60):
        label = ("benign", "malignant")[number % 2]
        random = np.random.default_rng(number)
        brightness = random.normal(100 + 15 * (number % 2), 20)  # tells the classes apart, but not well
        pixels = random.normal(brightness, 20, (48, 64)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,P{number},{label}")
    (folder.parent / "metadata.csv").write_text("\n".join(rows) + "\n")
    weights = repository.folder / "out" / "checkpoints" / "mine" / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    network = timm.create_model(
        "vit_base_patch16_224", num_classes=0, img_size=SIZE["input_size"], **SIZE["model_args"]
    )
    save_file(network.state_dict(), weights)
    os.utime(weights, (later := time.time() + 5e7, later))  # of the year after next, which keeps nobody from using it
    (repository.folder / "tiny.yaml").write_text((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
    (repository.folder / "my.yaml").write_text(documented())
    (repository.folder / "small.yaml").write_text(yaml.safe_dump({"models": {"mine": {"checkpoint": SIZE}}}))
    return repository


def called(repository: Repository, *arguments: str) -> str:
    return repository.snakemake(*arguments, "--configfile", *OVERLAYS, "my.yaml", "small.yaml")


@pytest.fixture(scope="module")
def out(repository: Repository) -> Path:
    """The results of `snakemake my_benchmark`."""
    called(repository, "my_benchmark", "--cores", "2")
    return repository.folder / "out"


def test_the_papers_figures_are_left_alone(repository: Repository) -> None:
    assert not {"figures", "tables"} & yaml.safe_load(documented()).keys()
    assert yaml.safe_load(documented())["comparisons"].keys() == {"my_benchmark"}

    def jobs(output: str) -> list[str]:
        """Files and settings of all jobs; not their times and numbers."""
        return sorted(re.findall(r"^ +(?:input|output|--settings).*", output, flags=re.MULTILINE))

    arguments = ("figure_2", "--dry-run", "--printshellcmds")
    without = repository.snakemake(*arguments, "--configfile", *OVERLAYS)
    assert jobs(called(repository, *arguments)) == jobs(without) != []


def test_it_is_a_target_of_the_menu(repository: Repository) -> None:
    assert "my_benchmark" in called(repository, "--list-target-rules").split()


def test_the_target_gives_a_figure_a_table_and_statistics(out: Path) -> None:
    assert all((out / name).stat().st_size > 0 for name in FILES)
    models = sorted(path.name for path in (out / "finetune").iterdir())
    assert models == ["majority", "mine", "thumbnails", "urfm"]  # the other one is missing
    assert sorted(path.name for path in (out / "statistics").iterdir()) == ["my_benchmark"]
    assert not (out / "figures" / "figure_2.png").exists()


def test_the_tables_numbers_are_those_of_the_predictions(out: Path) -> None:
    table = pd.read_csv(out / "tables" / "my_benchmark.csv").set_index(["Metric", "Model"])
    assert list(table.index[:2]) == [("AUC", "URFM"), ("AUC", "Mine")]  # the metric that leads
    for model, title in (("urfm", "URFM"), ("mine", "Mine")):
        predictions = pd.read_parquet(out / "finetune" / model / "my_task" / "100" / "predictions.parquet")
        test = predictions[predictions["subset"] == "test"]
        chance = test[[name for name in test.columns if name.startswith("p_")]].to_numpy()
        truth = (test["label"] == "malignant").to_numpy()
        seeds = test["seed"].to_numpy()
        scores = {
            "AUC": [roc_auc_score(truth[seeds == seed], chance[seeds == seed, 1]) for seed in (0, 1)],
            "ACC": [accuracy_score(truth[seeds == seed], chance[seeds == seed].argmax(1)) for seed in (0, 1)],
        }
        for metric, values in scores.items():
            expected = f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}"
            assert table.loc[(metric, title), "Score (%)"] == expected
        assert table.loc[("AUC", title), "Images"] == test["image_id"].nunique()
    differences = pd.read_parquet(out / "statistics" / "my_benchmark" / "differences.parquet")
    p = differences.set_index(["model", "metric"]).loc[("urfm", "auroc"), "perm_p_holm"]
    assert table.loc[("AUC", "URFM"), "P"] == (f"{p:.3f}" if p >= 0.001 else "< 0.001")
    assert table.loc[("AUC", "Mine"), "P"] == "–"
    predictions = pd.read_parquet(out / "finetune" / "thumbnails" / "my_task" / "100" / "predictions.parquet")
    test = predictions[(predictions["subset"] == "test") & (predictions["seed"] == 0)]
    score = f"{100 * roc_auc_score(test['label'] == 'malignant', test['p_malignant']):.2f}"  # the same for every seed
    assert table.loc[("AUC", "Thumbnails"), ["Score (%)", "P"]].tolist() == [score, "–"]
    assert table.loc[("AUC", "Majority class"), "Score (%)"] == "50.00"
    notes = (out / "tables" / "my_benchmark.md").read_text()
    assert "Not available: MIM-ImageNet (checkpoint not in the checkpoint folder)." in notes
    drawn = pd.read_csv(out / "figures" / "my_benchmark.csv").query("quantity == 'mean' and model == 'mine'")
    value = drawn.set_index("metric").loc["auroc", "value"]
    assert f"{value:.2f}" == table.loc[("AUC", "Mine"), "Score (%)"].split()[0]


def test_the_report_has_its_section(repository: Repository, out: Path) -> None:
    config = load(*(repository.folder / name for name in (*OVERLAYS, "my.yaml", "small.yaml")))
    command = ["-m", "urfm.report.page", "--settings", provenance.canonical_json(settings.tables.report(config))]
    command += ["--results", "out", "--pages", "workflow/report", "--output", "out/report.html"]
    subprocess.run([sys.executable, *command], cwd=repository.folder, check=True)
    page = (out / "report.html").read_text()
    section = page.split('<section id="comparisons">')[1].split("</section>")[0]
    assert "<h3>My benchmark</h3>" in section
    assert section.count('src="data:image/png;base64,') == 1
    for cell in pd.read_csv(out / "tables" / "my_benchmark.csv")["Score (%)"]:
        assert f"<td>{cell}</td>" in section
    assert "model MIM-ImageNet (checkpoint not in the checkpoint folder)" in section
    assert all(f'href="{name}"' in section for name in FILES[:-1])
    assert '<section id="further">' not in page


def test_names_that_are_taken_or_odd_are_refused(repository: Repository) -> None:
    """Those of rules, and of files that rules write."""
    entry = yaml.safe_load(documented())["comparisons"]["my_benchmark"] | {"models": ["urfm"], "reference": "urfm"}
    for name in ("audit", "claims_comparisons", "reconstructions_urfm", "figure_1", "all"):
        (repository.folder / "odd.yaml").write_text(yaml.safe_dump({"comparisons": {name: entry | {"tasks": []}}}))
        output = repository.snakemake("--dry-run", "--configfile", "odd.yaml", check=False)
        assert f"comparisons.{name}: there is another target named {name}; give the comparison another name" in output
    (repository.folder / "odd.yaml").write_text(yaml.safe_dump({"comparisons": {"my-benchmark": entry}}))
    output = repository.snakemake("--dry-run", "--configfile", "odd.yaml", check=False)
    assert "comparisons: 'my-benchmark' is no name: lower-case letters, digits, _" in output
