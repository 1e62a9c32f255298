"""Comparison with the paper and its claims, from synthetic statistics."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from configurations import PAPER, profile
from pydantic import ValidationError
from scipy.stats import ttest_ind
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


def statistics(folder: Path, resplit: bool = False, patients: int = 80) -> Path:
    """Statistics of figure 2 on two of its tasks, with three of its models."""
    tasks = {"breast_tumor": 2, "liver_mass": 3}
    paths = write_cells(folder / "cells", MODELS, tasks, patients=patients, resplit=resplit)
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
    first = table[table["Claim"] == "URFM is best on every task, all P < 0.05"].iloc[0]
    assert first["Place in the paper"].startswith("Results, state of the art: 'Figure 2A presents'")
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
    external = table[table["Claim"].str.startswith("BUID: ")].iloc[0]
    assert (external["Comparisons"], external["Finding"]) == ("0", "not available here")


def test_with_a_split_a_seed_the_corrected_test_takes_the_place_of_that_over_patients(tmp_path, monkeypatch):
    record = statistics(tmp_path, resplit=True)
    table = build(claims, sections.tables.claims(CONFIG), [record], tmp_path, monkeypatch)
    assert not [name for name in table if "(b)" in name]
    found = pd.read_parquet(record.with_name("differences.parquet"))
    assert found["perm_p"].isna().all()
    win = next(claim for claim in CONFIG["tables"]["claims"] if claim["says"].startswith("URFM is best on every task"))
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
        if claim.get("kind") in ("untested", "faster"):
            continue
        figure = CONFIG["comparisons"][claim["comparison"]]
        assert claim.get("model", figure["reference"]) in figure["models"]
        assert set(claim.get("tasks", [])) <= set(figure["tasks"])
        for win in claim.get("wins", []):
            assert win["better"] in figure["models"]
            assert set(win.get("tasks", [])) <= set(figure["tasks"])
            if win["better"] != figure["reference"]:
                assert win["worse"] == [figure["reference"]]
            elif win["worse"] != "strongest":
                assert set(win["worse"]) <= set(figure["models"]) - {win["better"]}


def test_a_claim_for_a_model_that_is_not_the_reference_has_the_other_sign(record):
    stored = claims.read_statistics(record, ("scores", "differences", "average_scores", "average_differences"))
    says = {"comparison": "figure_2", "says": "x", "place": "y", "metrics": ["auroc"], "level": 0.05}
    win = {"better": "mim_us", "worse": ["urfm"], "tasks": ["breast_tumor"]}
    reverse = claims.comparisons(claims.Claim(**says, wins=[win]), stored).iloc[0]
    win = {"better": "urfm", "worse": ["mim_us"], "tasks": ["breast_tumor"]}
    forward = claims.comparisons(claims.Claim(**says, wins=[win]), stored).iloc[0]
    assert reverse["difference"] == -forward["difference"] < 0
    assert reverse["perm_p"] == forward["perm_p"]
    assert (reverse["low"], reverse["high"]) == (-forward["high"], -forward["low"])
    assert forward["low"] < forward["difference"] < forward["high"]
    average = claims.Claim(**says, average=True, wins=[{"better": "urfm", "worse": ["mim_us", "usfm"]}])
    assert set(claims.comparisons(average, stored)["task"]) == {"average"}


def one_claim(record, tmp_path, monkeypatch, **claim) -> tuple[pd.Series, pd.DataFrame]:
    """The row of a claim alone, and its comparisons."""
    claim = {"comparison": "figure_2", "says": "x", "place": "y"} | claim
    settings = sections.tables.claims(CONFIG) | {"claims": [claim]}
    table = build(claims, settings, [record], tmp_path, monkeypatch)
    return table.iloc[0], pd.read_csv(tmp_path / "claims_comparisons.csv")


def test_a_marginal_gain_is_decided_by_its_interval_not_by_p(record, tmp_path, monkeypatch):
    """Margins on both sides of the interval that the statistics hold, and within it."""
    stored = pd.read_parquet(record.with_name("differences.parquet"))
    own = stored.query("task == 'breast_tumor' and model == 'mim_us' and metric == 'f1_macro'").iloc[0]
    low, high = 100 * own["boot_low"], 100 * own["boot_high"]
    assert own["perm_p"] < 0.05  # such a gain is significant, and may be marginal
    assert low > 0.2
    wins = [{"better": "urfm", "worse": ["mim_us"], "tasks": ["breast_tumor"]}]
    said = f"Breast tumor: {100 * own['difference']:.2f} ({low:.2f} to {high:.2f}), "
    for margin, finding, counted in [
        (high + 0.1, "holds", "1"),
        ((low + high) / 2, "undecided", "0"),
        (low - 0.1, "fails", "0"),
    ]:
        claim = {"kind": "marginal", "metrics": ["f1_macro"], "margin": margin, "wins": wins}
        row, details = one_claim(record, tmp_path, monkeypatch, **claim)
        assert row["Finding"] == said + finding
        assert (row["Comparisons"], row["(a) seeds"], row["(b) patients"]) == ("1", "–", counted)
        assert row["In favour"] == str(int(100 * own["difference"] < margin))
        assert details["finding"].tolist() == [finding]
    wins = [{"better": "mim_us", "worse": ["urfm"], "tasks": ["breast_tumor"]}]
    claim = {"kind": "marginal", "metrics": ["f1_macro"], "margin": 1, "wins": wins}
    row, _ = one_claim(record, tmp_path, monkeypatch, **claim)
    said = f"Breast tumor: {-100 * own['difference']:.2f} ({-high:.2f} to {-low:.2f}), holds (a loss)"
    assert (row["Finding"], row["(b) patients"]) == (said, "1")
    text = (tmp_path / "claims.md").read_text()
    assert "No comparison of the paper's claims of superiority" in text  # it is not counted among them
    assert "undecided where it includes it" in text


def test_a_bound_is_held_against_score_and_interval(record, tmp_path, monkeypatch):
    scores = pd.read_parquet(record.with_name("scores.parquet"))
    own = scores.query("model == 'urfm' and metric == 'f1_macro'").set_index("task").loc["liver_mass"]
    low, high = 100 * own["boot_low"], 100 * own["boot_high"]
    for kind, bound, finding in [
        ("below", high + 0.1, "holds"), ("below", high - 0.1, "undecided"), ("below", low - 0.1, "fails"),
        ("above", low - 0.1, "holds"), ("above", low + 0.1, "undecided"), ("above", high + 0.1, "fails"),
    ]:  # fmt: skip
        claim = {"kind": kind, "metrics": ["f1_macro"], "bound": bound, "model": "urfm", "tasks": ["liver_mass"]}
        row, details = one_claim(record, tmp_path, monkeypatch, **claim)
        assert row["Finding"] == f"Liver mass: {100 * own['mean']:.2f} ({low:.2f} to {high:.2f}), {finding}"
        above = 100 * own["mean"] > bound
        assert row["In favour"] == str(int(above if kind == "above" else not above))
        assert details["score"].tolist() == [own["mean"]]
        assert details[["t_p", "perm_p", "difference"]].isna().all(axis=None)


def test_too_few_patients_decide_nothing(tmp_path, monkeypatch):
    """Eight patients: no P over patients; four of a class: no interval either."""
    record = statistics(tmp_path, patients=8)
    wins = [{"better": "urfm", "worse": ["mim_us"]}]
    better = {"metrics": ["f1_macro"], "level": 0.05, "wins": wins}
    row, _ = one_claim(record, tmp_path, monkeypatch, **better)
    assert (row["(b) patients"], row["Finding"]) == ("0", "too few patients for (b) in 2 of them")
    marginal = {"kind": "marginal", "metrics": ["f1_macro"], "margin": 100, "wins": wins}
    row, details = one_claim(record, tmp_path, monkeypatch, **marginal)
    assert (row["In favour"], row["(b) patients"]) == ("2", "0")  # no interval, so a margin of 100 points holds nothing
    assert row["Finding"].count("(too few patients)") == 2
    assert details["finding"].isna().all()


def test_faster_convergence_is_welchs_test_on_the_seeds_epochs(record, tmp_path, monkeypatch):
    """Curves that reach 99 % of their best at known epochs."""
    epochs = {"urfm": [3, 4, 5, 4], "usfm": [6, 5, 7, 6], "mim_us": [4, 4, 3, 5]}
    for model, reached in epochs.items():
        rows = [
            {"seed": seed, "epoch": epoch, "val_f1_macro": 0.5 if epoch < last else 0.8}
            for seed, last in enumerate(reached)
            for epoch in range(1, 11)
        ]
        folder = tmp_path / model
        write_json(folder / "cell.json", {"model": model, "task": "liver_mass", "share": 100, "simulated": False})
        pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)
    claim = {
        "kind": "faster", "comparison": "figure_2", "says": "x", "place": "y", "level": 0.05,
        "wins": [{"better": "urfm", "worse": ["usfm", "mim_us", "deblur_mim"]}],
    }  # fmt: skip
    settings = sections.tables.claims(CONFIG) | {"claims": [claim]}
    cells = [str(tmp_path / model / "cell.json") for model in epochs]
    command = ["claims", "--settings", json.dumps(settings), "--output", str(tmp_path / "claims")]
    monkeypatch.setattr(sys, "argv", [*command, "--statistics", str(record), "--cells", *cells])
    run(claims.main)
    details = pd.read_csv(tmp_path / "claims_comparisons.csv").set_index("worse")
    for other in ("usfm", "mim_us"):
        expected = ttest_ind(epochs["urfm"], epochs[other], equal_var=False).pvalue
        assert details.loc[other, "t_p"] == pytest.approx(expected)
        assert details.loc[other, "difference"] == sum(epochs[other]) / 4 - 4  # epochs saved
    row = pd.read_csv(tmp_path / "claims.csv", dtype=str).iloc[0]
    assert row[["Comparisons", "In favour", "(a) seeds", "(b) patients"]].tolist() == ["2", "1", "1", "–"]
    assert row["Finding"] == "over seeds alone"


def test_a_claim_has_what_its_kind_needs_and_no_more():
    whole = {"says": "x", "place": "y", "comparison": "figure_2", "metrics": ["f1_macro"]}
    whole |= {"wins": [{"better": "urfm", "worse": "strongest"}]}
    for claim, said in [
        (whole, "kind better needs level"),
        (whole | {"kind": "marginal", "level": 0.05}, "kind marginal needs margin"),
        (whole | {"level": 0.05, "margin": 1}, "kind better has no margin"),
        (whole | {"kind": "below", "bound": 85}, "kind below needs model"),
        ({"says": "x", "place": "y", "kind": "untested"}, "kind untested needs because"),
        (whole | {"kind": "faster", "level": 0.05}, "kind faster has no metrics"),
    ]:
        with pytest.raises(ValidationError, match=said):
            claims.Claim.model_validate(claim)


def test_claims_are_told_apart_and_placed():
    """What the issue of their review named as missing is there; no two rows have the same words."""
    listed = CONFIG["tables"]["claims"]
    assert len({claim["says"] for claim in listed}) == len(listed)
    parts = ("Summary", "Introduction", "Results", "Discussion", "Methods", "Limitations")
    assert all(claim["place"].startswith(parts) for claim in listed)
    tested = {
        (claim.get("kind", "better"), win["better"], other)
        for claim in listed
        for win in claim.get("wins", [])
        for other in ([win["worse"]] if isinstance(win["worse"], str) else win["worse"])
    }
    for ultrasound in ("mim_us", "deblur_mim", "usfm", "urfm"):
        assert {("better", ultrasound, "sl_imagenet"), ("better", ultrasound, "mim_imagenet")} <= tested
    assert ("marginal", "urfm_balanced", "urfm") in tested
    assert ("marginal", "urfm_huge", "urfm_large") in tested
    assert {("marginal", "urfm", "urfm_data50"), ("marginal", "urfm", "urfm_data20")} <= tested
    assert {("better", f"urfm_data{share}", "usfm") for share in (10, 20, 50)} <= tested
    assert {("better", "mim_imagenet", f"urfm_{organ}") for organ in ("thyroid", "liver", "ovary")} <= tested
    assert ("faster", "urfm", "usfm") in tested
    assert {claim["bound"] for claim in listed if claim.get("kind") == "below"} == {85}


def test_nothing_available_is_said(tmp_path, monkeypatch):
    table = build(claims, sections.tables.claims(CONFIG), [], tmp_path, monkeypatch)
    assert set(table["Comparisons"]) == {"0", "–"}
    assert set(table[table["Comparisons"] == "0"]["Finding"]) == {"not available here"}
    assert table[table["Comparisons"] == "–"]["Finding"].str.startswith("cannot be tested here: ").all()
    table = build(comparison_with_paper, sections.tables.comparison_with_paper(CONFIG), [], tmp_path, monkeypatch)
    assert table["Why it may differ"].str.startswith("not available: ").all()
