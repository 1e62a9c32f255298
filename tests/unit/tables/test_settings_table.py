"""Tables 4 and 5 against the configuration and the paper's printed values."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from configurations import HOME
from configurations import PAPER as CONFIG
from urfm.core.cli import run
from urfm.core.errors import UrfmError
from urfm.tables.settings_table import DIFFERS, TABLES, main, number, randaugment, settings_table


def as_json_would_be(values):
    """YAML 1.1 reads 1e-3 as text; the workflow passes numbers."""
    return {key: float(v) if isinstance(v, str) and v[:1].isdigit() and "e" in v else v for key, v in values.items()}


PRETRAINING = as_json_would_be(CONFIG["pretraining"]["defaults"])
FINETUNING = as_json_would_be(CONFIG["finetuning"])


def rows(table: str, values):
    return {row[0]: row[1:] for row in settings_table(*TABLES[table], values).rows}


def test_table_4_of_the_papers_configuration_differs_in_the_flip_only():
    found = rows("table_4", PRETRAINING)
    assert [name for name, row in found.items() if row[2] == DIFFERS] == ["Augmentation"]
    assert found["Augmentation"] == ["RandomResizedCrop", "RandomResizedCrop, horizontal flip", DIFFERS]
    assert found["Masking ratio"] == ["75%", "75%", ""]
    assert found["Encoder"] == ["ViT-B/16", "ViT-B/16", ""]
    assert found["ema decay"] == ["not listed", "0", "not in Table 4"]


def test_table_5_of_the_papers_configuration_does_not_differ():
    found = rows("table_5", FINETUNING)
    assert not [name for name, row in found.items() if row[2] == DIFFERS]
    assert found["Augmentation"] == ["RandAug (9, 0.5)", "RandAug (9, 0.5)", ""]
    assert found["epochs"] == ["not listed", str(FINETUNING["epochs"]), "not in Table 5"]


def test_the_decisions_name_every_key_that_table_5_does_not():
    section = (HOME / "docs" / "decisions.md").read_text().split("### D80\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    named = [key for line in lines for key in re.findall("`(.+?)`", line.split("|")[1])]
    found = settings_table(*TABLES["table_5"], FINETUNING).rows
    assert sorted(named) == sorted(row[0].replace(" ", "_") for row in found if row[1] == "not listed")


@pytest.mark.parametrize(
    ("table", "change", "row", "used"),
    [
        ("table_4", {"mask_ratio": 0.6}, "Masking ratio", "60%"),
        ("table_4", {"base_lr": 0.0003}, "Base learning rate", "3e-4"),
        ("table_4", {"betas": [0.9, 0.99]}, "Optimizer momentum", "β1, β2 = 0.9, 0.99"),
        ("table_4", {"input_size": 96}, "Input size", "96 × 96"),
        ("table_4", {"epochs": 4}, "Total pre-training epochs", "4"),
        ("table_4", {"model_args": {"depth": 4}}, "Encoder", "vit_base_patch16_224 depth 4"),
        ("table_4", {"architecture": "vit_tiny_patch16_224"}, "Encoder", "vit_tiny_patch16_224"),
        ("table_5", {"randaugment": "rand-m5-mstd0.5-inc1"}, "Augmentation", "RandAug (5, 0.5)"),
        ("table_5", {"randaugment": ""}, "Augmentation", "none"),
        ("table_5", {"cutmix": 0}, "Cutmix", "0.0"),
        ("table_5", {"batch_size": 32}, "Batch size", "32"),
    ],
)
def test_a_changed_setting_is_marked(table, change, row, used):
    values = (PRETRAINING if table == "table_4" else FINETUNING) | change
    found = rows(table, values)
    assert found[row][1:] == [used, DIFFERS]


def test_every_setting_in_force_is_in_the_table():
    found = rows("table_5", FINETUNING)
    listed = len(TABLES["table_5"][2])
    spoken_of = {key for row in TABLES["table_5"][2] for key in row.keys}
    assert len(found) == listed + len(set(FINETUNING) - spoken_of)


def test_numbers_read_as_in_the_paper():
    assert [number(v) for v in (1.5e-4, 5e-4, 1e-6, 0.05, 1024, 0.9, True, None, [0.9, 0.95], {})] == [
        "1.5e-4", "5e-4", "1e-6", "0.05", "1024", "0.9", "yes", "none", "0.9, 0.95", "none",
    ]  # fmt: skip
    assert randaugment("rand-m9-mstd0.5-inc1") == "RandAug (9, 0.5)"


def test_missing_key_is_named():
    values = {key: value for key, value in FINETUNING.items() if key != "mixup"}
    with pytest.raises(UrfmError, match="values lack mixup, which Table 5 of the paper lists"):
        settings_table(*TABLES["table_5"], values)


def test_stage(tmp_path, monkeypatch, capsys):
    settings = json.dumps({"table": "table_4", "values": PRETRAINING})
    output = tmp_path / "table_4"
    monkeypatch.setattr(sys, "argv", ["settings_table", "--settings", settings, "--output", str(output)])
    run(main)
    table = pd.read_csv(f"{output}.csv", dtype=str, keep_default_na=False)
    assert table.columns.tolist() == ["setting", "paper", "used", "note"]
    assert "\\begin{tabular}" in Path(f"{output}.tex").read_text()
    assert "Augmentation differs from the paper" in capsys.readouterr().out
