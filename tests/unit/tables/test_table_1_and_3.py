"""Tables 1 and 3 from records of pre-training sets, against the paper's printed numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from configurations import PAPER as CONFIG
from urfm.core.cli import run
from urfm.plan import settings
from urfm.tables import table_1, table_3

NOTHING = {"manifest": {}, "organs": 0, "downstream_test": 0, "share": 0, "max_images": 0}


def group(dataset: str, organ: str, source: str, images: int, simulated: bool = False) -> dict[str, Any]:
    return {"dataset": dataset, "organ": organ, "source": source, "images": images, "simulated": simulated}


def selection(run_name: str, *groups: dict[str, Any], **excluded: Any) -> dict[str, Any]:
    return {
        "run": run_name,
        "images": sum(item["images"] for item in groups),
        "counts": list(groups),
        "excluded": NOTHING | excluded,
        "simulated": any(item["simulated"] for item in groups),
    }


def build(
    monkeypatch: pytest.MonkeyPatch, folder: Path, module: Any, content: dict[str, Any], *records: dict[str, Any]
) -> pd.DataFrame:
    name = module.__name__.rpartition(".")[2]
    arguments = ["--settings", json.dumps(content), "--output", str(folder / name)]
    for number, record in enumerate(records):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(record))
    if records:
        paths = [str(folder / f"{number}.json") for number in range(len(records))]
        arguments += ["--selection" if name == "table_1" else "--selections", *paths]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    run(module.main)
    return pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)


def test_the_papers_numbers_add_up_as_datasets_md_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen subtotals, 1,003,465 in all; 389,746 of RadImageNet, 546,125 private; Table 3 but thyroid is Table 1."""
    config = CONFIG | {"data_root": str(tmp_path / "nowhere")}
    found = build(monkeypatch, tmp_path, table_1, settings.tables.table_1(config))
    numbers = found.assign(paper=found["Images in the paper"].str.replace(",", "").astype(int))
    rows = numbers[numbers["Organ"] != "Total"]
    assert numbers["paper"].iloc[-1] == rows["paper"].sum() == 1_003_465
    assert rows.groupby("Source")["paper"].sum()[["RadImageNet", "private"]].tolist() == [389_746, 546_125]
    assert rows["Organ"].nunique() == 16
    subtotals = rows[rows["Subtotal in the paper"] != ""].set_index("Organ")["Subtotal in the paper"]
    assert subtotals[["Thyroid", "Breast", "Abdomen - Mixed", "Pancreas", "Bladder"]].tolist() == [
        "443,985", "84,663", "123,037", "29,639", "16,071",
    ]  # fmt: skip
    organs = build(monkeypatch, tmp_path, table_3, settings.tables.table_3(config)).set_index("Organ")[
        "Images in the paper"
    ]
    assert organs["Thyroid"] == "89,985"
    assert organs.drop("Thyroid").equals(subtotals[organs.index].drop("Thyroid").rename("Images in the paper"))


TABLE_1 = {
    "organs": [["thyroid", "Thyroid"], ["breast", "Breast"], ["heart", "Heart"]],
    "paper": [["thyroid", "RadImageNet", 92566], ["thyroid", "private", 351419], ["breast", "BUV", 26052]],
    "missing": [
        {"name": "private_thyroid", "source": "private", "organs": ["thyroid"], "reason": "data set not here"},
        {"name": "camus", "source": "CAMUS", "organs": ["heart"], "reason": "data set not here"},
    ],
    "notes": ["BUV: 25,272 frames are published."],
}


def test_table_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = selection(
        "urfm",
        group("radimagenet", "thyroid", "RadImageNet", 92566),
        group("buv", "breast", "BUV", 25000),
        group("buv2", "breast", "BUV", 272),
        group("busbra", "breast", "BUS-BRA", 1875, simulated=True),
        manifest={"the same picture occurs under another label": 2},
        downstream_test=1200,
    )
    found = build(monkeypatch, tmp_path, table_1, TABLE_1, record)
    assert found.to_numpy().tolist() == [
        ["Thyroid", "RadImageNet", "92,566", "92,566", "92,566", "443,985", ""],
        ["Thyroid", "private", "–", "351,419", "", "", "not available: data set not here (private_thyroid)"],
        ["Breast", "BUV", "25,272", "26,052", "27,147", "26,052", "differs from the paper"],
        ["Breast", "BUS-BRA", "1,875", "–", "", "", "not in the paper; simulated data"],
        ["Heart", "CAMUS", "–", "–", "–", "–", "not available: data set not here (camus)"],
        ["Total", "", "119,713", "470,037", "119,713", "470,037", ""],
    ]
    text = (tmp_path / "table_1.md").read_text()
    assert text.index("SIMULATED DATA") < text.index(
        "Not in the set: 2 images excluded in a manifest: the same picture"
    )
    assert "Not in the set: 1,200 images of validation or test patients of a task." in text
    assert "BUV: 25,272 frames are published." in text


def test_table_1_without_any_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = build(monkeypatch, tmp_path, table_1, TABLE_1)
    assert set(found["Images"]) == {"–", "0"}
    assert found.loc[found["Source"] == "BUV", "Note"].item() == "in no data set of this run"
    assert "SIMULATED" not in (tmp_path / "table_1.md").read_text()


def test_table_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "runs": [
            {"run": "urfm_thyroid", "organs": ["Thyroid"], "paper": 89985, "missing": ["private_thyroid"]},
            {"run": "urfm_breast", "organs": ["Breast"], "paper": 84663},
            {"run": "urfm_ovary", "organs": ["Ovary"], "paper": 3593, "reason": "none of RadImageNet-US in data"},
        ],
        "notes": ["Thyroid: 89,985 matches nothing."],
    }
    thyroid = selection(
        "urfm_thyroid", group("radimagenet", "thyroid", "RadImageNet", 89985), organs=297180, max_images=2581
    )
    breast = selection(
        "urfm_breast",
        group("a", "breast", "BUV", 10, True),
        group("b", "breast", "private", 5),
        group("c", "breast", "BUV", 1),
    )
    found = build(monkeypatch, tmp_path, table_3, content, breast, thyroid)
    assert found.to_numpy().tolist() == [
        ["Thyroid", "urfm_thyroid", "89,985", "89,985", "RadImageNet (89,985)",
         "without private_thyroid; 2,581 more images beyond the run's cap"],
        ["Breast", "urfm_breast", "16", "84,663", "BUV (11), private (5)", "differs from the paper; simulated data"],
        ["Ovary", "urfm_ovary", "–", "3,593", "–", "not available: none of RadImageNet-US in data"],
    ]  # fmt: skip
    text = (tmp_path / "table_3.md").read_text()
    assert "SIMULATED DATA" in text
    assert "89,985 matches nothing" in text
    assert "2 of 3 runs available" in capsys.readouterr().out
