"""Comparison with the paper and its claims, from synthetic statistics."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from configurations import PAPER, profile
from synthetic_cells import write_cells
from urfm.core.cli import run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, write_json
from urfm.plan import settings as sections
from urfm.statistics.predictions import read_cell
from urfm.statistics.significance import holm
from urfm.statistics.stage import StatisticsSettings, compute, write
from urfm.tables import claims, comparison_with_paper

CONFIG = PAPER | {"data_root": "/nowhere"}
MODELS = {"urfm": 2.2, "usfm": 1.9, "mim_us": 0.8}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return statistics(tmp_path_factory.mktemp("paper"))


def statistics(folder: Path, resplit: bool = False) -> Path:
    """Statistics of figure 2 on two of its tasks, with three of its models."""
    tasks = {"breast_tumor": 2, "liver_mass": 3}
    paths = write_cells(folder / "cells", MODELS, tasks, patients=80, resplit=resplit)
    settings = StatisticsSettings(
        comparison="figure_2",
        reference="urfm",
        confidence=0.95,
        t_test="welch",
        bootstrap_resamples=400,
        permutations=1000,
        bootstrap_seed=0,
        margin=0.02,
        threshold="youden",
        specificity=0.9,
        calibration_bins=10,
    )
    write(folder, compute([read_cell(path) for path in paths], settings), settings)
    return folder / "statistics.json"


def build(module, settings, records, tmp_path, monkeypatch) -> pd.DataFrame:
    name = module.__name__.rpartition(".")[2]
    command = [name, "--settings", json.dumps(settings), "--output", str(tmp_path / name)]
    monkeypatch.setattr(sys, "argv", [*command, *(["--statistics", *map(str, records)] if records else [])])
    run(module.main)
    assert {path.suffix for path in tmp_path.glob(f"{name}.*")} == {".csv", ".md", ".tex"}
    return pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, dtype=str)


def test_every_number_of_the_paper_has_its_row(record, tmp_path, monkeypatch):
    settings = sections.tables.comparison_with_paper(CONFIG)
    table = build(comparison_with_paper, settings, [record], tmp_path, monkeypatch).set_index("Quantity")
    assert len(table) == len(CONFIG["tables"]["comparison_with_paper"]["paper"])
    scores = pd.read_parquet(record.with_name("scores.parquet"))
    ours = scores.query("task == 'breast_tumor' and model == 'urfm' and metric == 'accuracy'").iloc[0]
    row = table.loc["Breast tumor, URFM, ACC (%)"]
    assert row["Ours"] == f"{100 * ours['mean']:.2f}"
    assert row["Interval over patients"] == f"{100 * ours['boot_low']:.2f} to {100 * ours['boot_high']:.2f}"
    assert row["Paper within ours"] == ("yes" if ours["boot_low"] <= 0.8523 <= ours["boot_high"] else "no")
    assert row["Paper's interval"] == "84.96 to 85.50"
    assert "3 seeds instead of 10" in row["Why it may differ"]
    lead = table.loc["Mean over tasks, URFM minus the best other, F1 (points)"]
    average = pd.read_parquet(record.with_name("average_differences.parquet"))
    expected = average.query("model == 'usfm' and metric == 'f1_macro'").iloc[0]
    assert lead["Ours"] == f"{100 * expected['difference']:.2f}"
    assert "2 of 10 tasks" in lead["Why it may differ"]
    best = scores.query("task == 'liver_mass' and model == 'usfm' and metric == 'f1_macro'").iloc[0]
    assert table.loc["Liver mass, best other than URFM, F1 (%)", "Ours"] == f"{100 * best['mean']:.2f}"
    # Not among the statistics: a row that says why.
    assert table.loc["Breast lesion (external), URFM, AUC (%)", "Ours"] == "–"
    assert table.loc["Liver MVI, URFM, F1 (%)", "Why it may differ"].startswith("not available: ")


def test_reasons_name_what_this_run_has_of_its_own(record, tmp_path, monkeypatch):
    defaults = profile("demo")["pretraining"]["defaults"]
    config = CONFIG | {"pretraining": CONFIG["pretraining"] | {"defaults": defaults}}
    reasons = "; ".join(sections.tables.comparison_with_paper(config)["reasons"]["urfm"])
    assert "architecture vit_tiny_patch16_224 instead of vit_base_patch16_224" in reasons
    assert "teacher efficientnet_lite0 instead of biomedclip" in reasons
    assert sections.tables.comparison_with_paper(CONFIG)["reasons"]["urfm"] == []
    settings = sections.tables.comparison_with_paper(config) | {"missing": {"liver_mvi": "private data set"}}
    table = build(comparison_with_paper, settings, [record], tmp_path, monkeypatch).set_index("Quantity")
    assert table.loc["Liver MVI, URFM, F1 (%)", "Why it may differ"] == "not available: Liver MVI: private data set"
    assert "vit_tiny" in table.loc["Breast tumor, URFM, AUC (%)", "Why it may differ"]


def test_stand_ins_and_simulated_data_are_named(record, tmp_path, monkeypatch):
    copy = tmp_path / "statistics.json"
    for path in record.parent.glob("*.parquet"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_json(copy, read_json(record) | {"stand_ins": ["usfm"], "simulated": True})
    table = build(comparison_with_paper, sections.tables.comparison_with_paper(CONFIG), [copy], tmp_path, monkeypatch)
    assert (
        "stand-ins for USFM"
        in table.set_index("Quantity").loc[
            "Mean over tasks, URFM minus the best other, AUC (points)", "Why it may differ"
        ]
    )
    assert "SIMULATED" in (tmp_path / "comparison_with_paper.md").read_text()
    pd.read_parquet(tmp_path / "scores.parquet").assign(mean=1.0).to_parquet(tmp_path / "scores.parquet")
    with pytest.raises(UrfmError, match="changed after it was made"):
        comparison_with_paper.read_statistics(copy, ["scores"])


def test_claims_count_what_each_test_finds(record, tmp_path, monkeypatch):
    table = build(claims, sections.tables.claims(CONFIG), [record], tmp_path, monkeypatch)
    assert len(table) == len(CONFIG["tables"]["claims"])
    first = table.iloc[0]
    found = pd.read_parquet(record.with_name("differences.parquet"))
    scores = pd.read_parquet(record.with_name("scores.parquet"))
    others = scores[scores["model"] != "urfm"].sort_values("mean").groupby(["task", "metric"]).tail(1)
    own = found.merge(others[["task", "metric", "model"]], on=["task", "metric", "model"])
    assert first["Comparisons"] == "6" == str(len(own))
    assert first["(a) seeds"] == str(int(((own["difference"] > 0) & (own["t_p"] < 0.05)).sum()))
    assert first["(b) patients"] == str(int(((own["difference"] > 0) & (own["perm_p"] < 0.05)).sum()))
    details = pd.read_csv(tmp_path / "claims_comparisons.csv")
    part = details[(details["claim"] == first["Claim"]) & (details["metric"] == "auroc")]
    assert part["perm_p_holm"].tolist() == pytest.approx(holm(part["perm_p"].to_numpy()).tolist())
    text = (tmp_path / "claims.md").read_text()
    assert "are significant by the t-test over seeds (a); of these" in text
    assert table[table["Figure"] == "3"]["Comparisons"].tolist() == ["0"]


def test_with_a_split_a_seed_the_corrected_test_takes_the_place_of_that_over_patients(tmp_path, monkeypatch):
    record = statistics(tmp_path, resplit=True)
    table = build(claims, sections.tables.claims(CONFIG), [record], tmp_path, monkeypatch)
    assert not [name for name in table if "(b)" in name]
    found = pd.read_parquet(record.with_name("differences.parquet"))
    assert found["perm_p"].isna().all()
    win = next(claim for claim in CONFIG["tables"]["claims"] if claim["comparison"] == "figure_2")
    row = table[table["Claim"] == win["says"]].iloc[0]
    details = pd.read_csv(tmp_path / "claims_comparisons.csv").query("claim == @win['says']")
    of_pair = found.set_index(["task", "model", "metric"])
    expected = [of_pair.loc[(line.task, line.worse, line.metric)] for line in details.itertuples()]
    counted = sum(line["difference"] > 0 and line["nb_p"] < win["level"] for line in expected)
    assert row["(c) re-splits"] == str(counted)
    assert counted > 0
    assert "Nadeau and Bengio" in (tmp_path / "claims.md").read_text()


def test_every_claim_can_be_tested():
    """Statistics hold differences to the reference only, so it must be on one side of each comparison."""
    for claim in CONFIG["tables"]["claims"]:
        figure = CONFIG["comparisons"][claim["comparison"]]
        for win in claim["wins"]:
            assert win["better"] in figure["models"]
            assert set(win.get("tasks", [])) <= set(figure["tasks"])
            if win["better"] != figure["reference"]:
                assert win["worse"] == [figure["reference"]]
            elif win["worse"] != "strongest":
                assert set(win["worse"]) <= set(figure["models"]) - {win["better"]}


def test_a_claim_for_a_model_that_is_not_the_reference_has_the_other_sign(record):
    stored = claims.read_statistics(record, ("scores", "differences", "average_scores", "average_differences"))
    says = {"comparison": "figure_2", "says": "x", "metrics": ["auroc"], "level": 0.05}
    win = {"better": "mim_us", "worse": ["urfm"], "tasks": ["breast_tumor"]}
    reverse = claims.comparisons(claims.Claim(**says, wins=[win]), stored).iloc[0]
    win = {"better": "urfm", "worse": ["mim_us"], "tasks": ["breast_tumor"]}
    forward = claims.comparisons(claims.Claim(**says, wins=[win]), stored).iloc[0]
    assert reverse["difference"] == -forward["difference"] < 0
    assert reverse["perm_p"] == forward["perm_p"]
    average = claims.Claim(**says, average=True, wins=[{"better": "urfm", "worse": ["mim_us", "usfm"]}])
    assert set(claims.comparisons(average, stored)["task"]) == {"average"}


def test_nothing_available_is_said(tmp_path, monkeypatch):
    table = build(claims, sections.tables.claims(CONFIG), [], tmp_path, monkeypatch)
    assert set(table["Comparisons"]) == {"0"}
    table = build(comparison_with_paper, sections.tables.comparison_with_paper(CONFIG), [], tmp_path, monkeypatch)
    assert table["Why it may differ"].str.startswith("not available: ").all()
