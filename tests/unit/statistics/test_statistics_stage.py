"""The statistics stage on synthetic cells, against scipy and scikit-learn from the same predictions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import configurations
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn import metrics as sk
from synthetic_cells import predictions, write_cell, write_cells
from urfm.core.cli import run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.plan import grid
from urfm.plan.settings import models as planned
from urfm.statistics.details import DETAILS, GRID
from urfm.statistics.predictions import Cell, read_cell, read_subset
from urfm.statistics.scores import DIFFERENCE_COLUMNS, SCORE_COLUMNS
from urfm.statistics.seed_scores import seed_scores
from urfm.statistics.stage import StatisticsSettings, compute, draws_for, family, main
from urfm.statistics.stored import AVERAGE

SETTINGS = StatisticsSettings(
    comparison="figure_2", reference="urfm", confidence=0.95, t_test="welch", bootstrap_resamples=200,
    permutations=1000, bootstrap_seed=0, margin=0.02, threshold="youden", specificity=0.9, calibration_bins=10,
)  # fmt: skip
MODELS = {"urfm": 1.6, "usfm": 1.2, "mim_us": 0.6}
TASKS = {"breast_tumor": 2, "liver_mass": 3}


def load(paths: list[Path]) -> list[Cell]:
    return [read_cell(path) for path in paths]


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_cells(tmp_path_factory.mktemp("cells"), MODELS, TASKS, patients=70, images_per_patient=2)


@pytest.fixture(scope="module")
def statistics(paths):
    return compute(load(paths), SETTINGS)


def test_means_and_intervals_over_seeds(paths, statistics):
    for path in paths:
        table = seed_scores(read_cell(path)).query("subset == 'test'")
        for key, rows in table.groupby(["model", "task", "metric"]):
            found = statistics["scores"].set_index(["model", "task", "metric"]).loc[key]
            values = rows["value"]
            assert values.std() > 0
            low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
            assert found[["mean", "sd", "ci_low", "ci_high"]].tolist() == pytest.approx(
                [values.mean(), values.std(), low, high]
            )
            assert found[["seeds", "images", "patients"]].tolist() == [3, 140, 70]


def test_patients_that_are_not_known_are_missing(tmp_path, statistics):
    paths = write_cells(tmp_path, MODELS, TASKS, patients=70, images_per_patient=2, patients_known=False)
    found = compute(load(paths), SETTINGS)["scores"]
    assert found["patients"].isna().all()
    rest = found.columns.drop("patients")
    pd.testing.assert_frame_equal(found[rest], statistics["scores"][rest])


def test_ensemble_scores_and_curves_equal_scikit_learn(paths, statistics):
    for path in paths:
        cell = read_cell(path)
        test = cell.predictions.query("subset == 'test'")
        columns = [f"p_{name}" for name in cell.classes]
        mean = test.groupby("image_id")[columns].mean().to_numpy()
        labels = test.drop_duplicates("image_id").sort_values("image_id")["label"].map(cell.classes.index).to_numpy()
        rows = statistics["ensembles"].query("model == @cell.model and task == @cell.task").set_index("metric")
        assert rows.loc["accuracy", "score"] == pytest.approx(sk.accuracy_score(labels, mean.argmax(axis=1)))
        scores = mean[:, 1] if len(columns) == 2 else mean
        area = sk.roc_auc_score(labels, scores, multi_class="ovr")
        assert rows.loc["auroc", "score"] == pytest.approx(area)
        curve = statistics["curves"].query("model == @cell.model and task == @cell.task")
        assert curve["auroc"].unique() == pytest.approx([area])
        expected = np.mean(
            [
                np.interp(GRID, *sk.roc_curve(labels == c, mean[:, c], drop_intermediate=False)[:2])
                for c in ([1] if len(columns) == 2 else range(len(columns)))
            ],
            axis=0,
        )
        assert curve["tpr"].to_numpy() == pytest.approx(expected)
        assert curve["fpr"].to_numpy() == pytest.approx(GRID)
        # the grid is fine enough for the area to be read off the drawn curve
        assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(area, abs=0.01)


def test_intervals_hold_the_estimate(statistics):
    """Of the mean over seeds, which is the number that stands beside it; the ensemble has its own."""
    for table, estimate in (("scores", "mean"), ("differences", "difference"), ("ensembles", "score")):
        rows = statistics[table]
        assert (rows["boot_low"] <= rows[estimate]).all()
        assert (rows[estimate] <= rows["boot_high"]).all()
        assert not rows["few_patients"].any()


def test_differences_and_p_values(statistics):
    gaps, scores = statistics["differences"], statistics["scores"].set_index(["model", "task", "metric"])
    assert sorted(set(gaps["model"])) == ["mim_us", "usfm"]
    assert len(gaps) == 2 * 2 * 3
    for _, row in gaps.iterrows():
        own, reference = scores.loc[(row.model, row.task, row.metric)], scores.loc[("urfm", row.task, row.metric)]
        assert row["difference"] == pytest.approx(reference["mean"] - own["mean"])
        p = stats.ttest_ind_from_stats(
            reference["mean"], reference["sd"], 3, own["mean"], own["sd"], 3, equal_var=False
        ).pvalue
        assert row["t_p"] == pytest.approx(p)
    for metric in ("accuracy", "f1_macro", "auroc"):
        family = gaps[gaps["metric"] == metric]
        smallest = family["perm_p"].idxmin()
        assert family.loc[smallest, "perm_p_holm"] == pytest.approx(min(1, 4 * family.loc[smallest, "perm_p"]))
        assert (family["perm_p_holm"] >= family["perm_p"]).all()
        assert (family["t_p_holm"] >= family["t_p"]).all()


def test_detectable_differences_and_equivalence_are_of_the_paired_difference(paths):
    """Of accuracy, whose standard error over patients drawn within classes has a closed form."""
    found = compute(load(paths), SETTINGS.model_copy(update={"bootstrap_resamples": 4000}))
    variances = {}
    for task in TASKS:
        parts = {cell.model: read_subset(cell, "test") for cell in load(paths) if cell.task == task}
        right = {model: (p.probabilities.argmax(axis=2) == p.labels).mean(axis=0) for model, p in parts.items()}
        row = found["differences"].query("task == @task and metric == 'accuracy' and model == 'usfm'").iloc[0]
        one = parts["urfm"]
        patients = pd.DataFrame({"patient": one.patients, "class": one.labels, "gap": right["urfm"] - right["usfm"]})
        sums = patients.groupby(["class", "patient"])["gap"].sum().groupby("class")
        variances[task] = float((sums.size() * sums.var()).sum() / len(patients) ** 2)
        assert row["detectable"] == pytest.approx(2.80159 * np.sqrt(variances[task]), rel=0.05)
        steps = (0.02 - abs(row["difference"]) - 0.5 / 70) / np.sqrt(variances[task])
        assert row["equivalence_p"] == pytest.approx(stats.t.sf(steps, sums.size().min() - 1), abs=0.02)
        assert row["equivalence_p_holm"] >= row["equivalence_p"]
    mean = found["average_differences"].query("metric == 'accuracy' and model == 'usfm'").iloc[0]
    assert mean["detectable"] == pytest.approx(2.80159 * np.sqrt(sum(variances.values())) / 2, rel=0.05)


def test_identical_answers_of_few_patients_do_not_show_equivalence(tmp_path):
    table = predictions(1.0, ["a", "b"], patients=48)
    paths = [write_cell(tmp_path, model, "toy", table, ["a", "b"]) for model in ("urfm", "copy")]
    gaps = compute(load(paths), SETTINGS)["differences"].set_index("metric")
    assert gaps.loc[["accuracy", "f1_macro"], "detectable"].tolist() == pytest.approx([2.80159**2 / 48] * 2, rel=1e-4)
    assert (gaps.loc[["accuracy", "f1_macro"], "equivalence_p"] > 0.2).all()
    assert gaps.loc["auroc", ["detectable", "equivalence_p"]].isna().all()


def test_paired_t_test(paths, statistics):
    paired = compute(load(paths), SETTINGS.model_copy(update={"t_test": "paired"}))
    values = statistics["seeds"].query("subset == 'test' and task == 'liver_mass' and metric == 'auroc'")
    seeds = values.pivot_table(index="seed", columns="model", values="value")
    row = paired["differences"].query("task == 'liver_mass' and metric == 'auroc' and model == 'usfm'").iloc[0]
    assert row["t_p"] == pytest.approx(stats.ttest_rel(seeds["urfm"], seeds["usfm"]).pvalue)
    pd.testing.assert_frame_equal(paired["scores"], statistics["scores"])


def test_order_of_cells_does_not_matter(paths, statistics):
    again = compute(load(paths[::-1]), SETTINGS)
    pd.testing.assert_frame_equal(again["scores"], statistics["scores"])
    pd.testing.assert_frame_equal(again["differences"], statistics["differences"])
    pd.testing.assert_frame_equal(again["curves"], statistics["curves"])


def test_one_seed_has_no_interval_over_seeds_but_one_over_patients(tmp_path, capsys):
    found = compute(load(write_cells(tmp_path, MODELS, {"breast_tumor": 2}, seeds=[0])), SETTINGS)
    assert found["scores"][["sd", "ci_low", "ci_high"]].isna().all(axis=None)
    assert found["differences"][["t_p", "t_p_holm"]].isna().all(axis=None)
    assert found["scores"][["boot_low", "boot_high"]].notna().all(axis=None)
    assert found["differences"]["perm_p_holm"].between(0, 1).all()
    assert "one seed: no interval and no t-test over seeds" in capsys.readouterr().out


def test_identical_models_do_not_differ(tmp_path):
    table = predictions(1.0, ["a", "b"], seed_noise=0)
    paths = [write_cell(tmp_path, model, "toy", table, ["a", "b"]) for model in ("urfm", "copy")]
    found = compute(load(paths), SETTINGS)
    assert found["differences"]["t_p"].isna().all()
    assert (found["differences"]["perm_p"] == 1).all()
    assert (found["scores"]["sd"] == 0).all()
    assert (found["scores"]["ci_low"] == found["scores"]["ci_high"]).all()


def test_test_part_without_a_class(tmp_path, capsys):
    tables = {m: predictions(s, ["a", "b", "c"], model_seed=i) for i, (m, s) in enumerate(MODELS.items())}
    paths = [write_cell(tmp_path, m, "toy", t[t["label"] != "c"], ["a", "b", "c"]) for m, t in tables.items()]
    found = compute(load(paths), SETTINGS)
    auroc = found["scores"].query("metric == 'auroc'")
    assert auroc[["mean", "boot_low", "boot_high"]].isna().all(axis=None)
    gaps = found["differences"].set_index("metric")
    assert gaps.loc["auroc", "perm_p"].isna().all()
    assert gaps.loc[["accuracy", "f1_macro"], "perm_p"].notna().all()
    assert found["scores"].query("metric != 'auroc'")["mean"].notna().all()
    assert found["curves"]["tpr"].isna().all()
    assert "urfm/toy/100: auroc of the test part is undefined: no image of c" in capsys.readouterr().out


def test_simulated_flows(tmp_path):
    real, simulated = predictions(1.0, ["a", "b"]), predictions(1.2, ["a", "b"], model_seed=1)
    paths = [
        write_cell(tmp_path, "urfm", "toy", real, ["a", "b"]),
        write_cell(tmp_path, "stand_in", "toy", simulated, ["a", "b"], simulated=True),
    ]
    found = compute(load(paths), SETTINGS)
    assert found["scores"].groupby("model")["simulated"].unique().map(list).to_dict() == {
        "stand_in": [True],
        "urfm": [False],
    }
    assert found["differences"]["simulated"].all()


def test_models_with_different_seeds_are_refused(tmp_path):
    paths = [
        write_cell(tmp_path, model, "toy", predictions(1.0, ["a", "b"], seeds=range(n)), ["a", "b"])
        for model, n in (("urfm", 3), ("usfm", 2))
    ]
    with pytest.raises(UrfmError, match=r"urfm has seeds \[0, 1, 2\] and usfm \[0, 1\]; fine-tune both"):
        compute(load(paths), SETTINGS)


@pytest.mark.parametrize(
    ("patients", "classes", "p", "interval"),
    [(7, 2, False, False), (9, 2, False, False), (14, 3, True, False), (15, 3, True, True)],
)
def test_too_few_patients_have_no_p_and_no_interval(tmp_path, capsys, patients, classes, p, interval):
    """P from ten patients on; intervals from five of every class on: 14 of three classes are 5, 5 and 4."""
    paths = write_cells(tmp_path, {"urfm": 1.6, "usfm": 1.2}, {"toy": classes}, patients=patients, images_per_patient=4)
    found = compute(load(paths), SETTINGS)
    scores, gaps = found["scores"], found["differences"]
    assert scores[["mean", "ci_low"]].notna().all(axis=None)
    assert (scores["few_patients"] != interval).all()
    assert (gaps["few_patients"] != (p and interval)).all()
    for table, there in (
        (scores[["boot_low", "boot_high"]], interval),
        (found["ensembles"][["boot_low", "boot_high"]], interval),
        (gaps[["boot_low", "boot_high"]], interval),
        (gaps[["perm_p", "perm_p_holm"]], p),
        (gaps[["detectable", "equivalence_p", "equivalence_p_holm"]], p and interval),
    ):
        assert (table.notna() == there).all(axis=None)
    if not interval:
        assert scores["delong_low"].isna().all()
        assert gaps["delong_p"].isna().all()
    assert (f"toy/100: too few patients, {patients}, " in capsys.readouterr().out) != (p and interval)


def test_difference_interval_and_p_are_of_one_quantity(tmp_path):
    """On random cells of equally good models: a difference of means over seeds, and both verdicts on its side."""
    for number in range(12):
        models = {f"m{place}": predictions(1.0, ["a", "b"], model_seed=10 * number + place) for place in range(3)}
        paths = [write_cell(tmp_path / str(number), name, "toy", table, ["a", "b"]) for name, table in models.items()]
        found = compute(load(paths), SETTINGS.model_copy(update={"reference": "m0"}))
        parts = {cell.model: read_subset(cell, "test") for cell in load(paths)}
        for _, row in found["differences"].iterrows():
            first, second = (mean_of(row["metric"], parts[model]) for model in ("m0", row["model"]))
            assert row["difference"] == pytest.approx(first - second)
            assert row["boot_low"] <= row["difference"] <= row["boot_high"]
            if row["perm_p"] < 0.05:
                assert row["difference"] * (row["boot_low"] + row["boot_high"]) > 0


def mean_of(metric, part):
    """Mean over seeds by scikit-learn, of two classes."""
    chosen = [p.argmax(axis=1) for p in part.probabilities]
    return np.mean({
        "accuracy": [sk.accuracy_score(part.labels, c) for c in chosen],
        "f1_macro": [sk.f1_score(part.labels, c, average="macro") for c in chosen],
        "auroc": [sk.roc_auc_score(part.labels, p[:, 1]) for p in part.probabilities],
    }[metric])  # fmt: skip


def test_smallest_corrected_p_is_below_one_percent(tmp_path):
    """However many comparisons: thirty models clearly worse than the reference, a thousand draws configured."""
    models = {"urfm": 4.0, **{f"m{number:02d}": 0.0 for number in range(30)}}
    paths = write_cells(tmp_path, models, {"toy": 2}, patients=60, seeds=[0])
    gaps = compute(load(paths), SETTINGS)["differences"]
    assert len(gaps) == 30 * 3
    assert gaps["perm_p_holm"].min() < 0.01


@pytest.mark.parametrize("profile", ["paper", "demo", "pocket"])
def test_smallest_corrected_p_of_every_figure(profile):
    """Holm's factor of the smallest P is the number of comparisons; a Monte-Carlo P is at least 1 / draws."""
    config = configurations.PAPER if profile == "paper" else configurations.profile(profile)
    for name, item in config["comparisons"].items():
        models = {*grid.wanted_models(item), item["reference"]}
        cells = [SimpleNamespace(model=m) for m in models for _ in item["tasks"] for _ in item["shares"]]
        chosen = StatisticsSettings.model_validate(planned.statistics(config, name))
        comparisons = family(cells, chosen)
        others = models - {item["reference"], *item.get("lines", [])}
        assert comparisons == len(others) * len(item["tasks"]) * len(item["shares"])
        assert comparisons / draws_for(comparisons, chosen) < 0.01, name


def test_models_tested_on_different_images_are_refused(tmp_path):
    paths = [
        write_cell(tmp_path, model, "toy", predictions(1.0, ["a", "b"], patients=n), ["a", "b"])
        for model, n in (("urfm", 60), ("usfm", 50))
    ]
    with pytest.raises(UrfmError, match="urfm and usfm were tested on different images"):
        compute(load(paths), SETTINGS)


def test_averages_over_tasks(statistics):
    """The mean over tasks of each seed's scores; of the ensembles; as wide as independent tasks make it."""
    seeds = statistics["seeds"].query("subset == 'test' and metric == 'f1_macro'")
    by_seed = seeds.pivot_table(index="seed", columns="model", values="value", aggfunc="mean")
    average = statistics["average_scores"].query("metric == 'f1_macro'").set_index("model")
    scores = statistics["scores"].query("metric == 'f1_macro'")
    for model, values in by_seed.items():
        low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
        assert average.loc[model, ["mean", "ci_low", "ci_high"]].tolist() == pytest.approx([values.mean(), low, high])
        own = scores[scores["model"] == model]
        assert average.loc[model, "mean"] == pytest.approx(own["mean"].mean())
        width = np.sqrt(((own["boot_high"] - own["boot_low"]) ** 2).sum()) / 2
        assert average.loc[model, "boot_high"] - average.loc[model, "boot_low"] == pytest.approx(width, rel=0.2)
    assert set(average["task"]) == {AVERAGE}
    gap = statistics["average_differences"].query("metric == 'f1_macro' and model == 'usfm'").iloc[0]
    assert gap["difference"] == pytest.approx(by_seed["urfm"].mean() - by_seed["usfm"].mean())
    assert gap["t_p"] == pytest.approx(stats.ttest_ind(by_seed["urfm"], by_seed["usfm"], equal_var=False).pvalue)
    assert gap["boot_low"] <= gap["difference"] <= gap["boot_high"]
    # Two ways to the same verdict.
    assert (gap["perm_p"] < 0.05) == (gap["boot_low"] > 0)


def test_ranks_over_tasks(statistics):
    means = statistics["scores"].query("metric == 'auroc'").pivot_table(index="task", columns="model", values="mean")
    ranks = statistics["ranks"].query("metric == 'auroc'").set_index("model")
    expected = np.mean([stats.rankdata(-row) for row in means.to_numpy()], axis=0)
    assert ranks["average_rank"].loc[means.columns].tolist() == pytest.approx(expected)
    assert set(ranks["tasks"]) == {2}
    assert len(statistics["rank_pairs"]) == 3 * 3


def test_delong_for_two_classes_only(statistics):
    binary, more = (statistics["scores"].query("task == @t and metric == 'auroc'") for t in TASKS)
    assert ((binary["delong_low"] < binary["mean"]) & (binary["mean"] < binary["delong_high"])).all()
    assert more["delong_low"].isna().all()
    gaps = statistics["differences"]
    assert (
        gaps["delong_p"].notna().tolist() == ((gaps["task"] == "breast_tumor") & (gaps["metric"] == "auroc")).tolist()
    )
    # Two ways to the same interval over patients.
    width = (binary["boot_high"] - binary["boot_low"]) / (binary["delong_high"] - binary["delong_low"])
    assert width.tolist() == pytest.approx([1.0] * 3, rel=0.25)


def rows_of(table: pd.DataFrame, cell: Cell) -> pd.DataFrame:
    return table[(table["model"] == cell.model) & (table["task"] == cell.task)]


def test_classes_confusion_and_calibration(paths, statistics):
    for path in paths:
        cell = read_cell(path)
        test = read_subset(cell, "test")
        own = {name: rows_of(statistics[name], cell) for name in DETAILS}
        predicted = test.ensemble.argmax(axis=1)
        counts = own["confusion"]["images"].to_numpy().reshape(len(cell.classes), -1)
        assert counts.tolist() == sk.confusion_matrix(test.labels, predicted).tolist()
        assert own["confusion"]["true"].unique().tolist() == cell.classes
        f1 = sk.f1_score(test.labels, predicted, average=None)
        assert own["classes"]["f1"].tolist() == pytest.approx(f1)
        row = own["calibration"].iloc[0]
        outcome = np.eye(len(cell.classes))[test.labels]
        assert row["brier"] == pytest.approx(((test.probabilities - outcome) ** 2).sum(axis=2).mean() / 2)
        assert row["brier_ensemble"] == pytest.approx(((test.ensemble - outcome) ** 2).sum(axis=1).mean() / 2)
        assert row["predictions"] == own["reliability"]["predictions"].sum() == 3 * 140


@pytest.fixture(scope="module")
def resplit(tmp_path_factory):
    """Two models, four splits: a seed's test part are other images, the same for both models."""
    folder = tmp_path_factory.mktemp("resplits")
    paths = []
    for number, model in enumerate(("urfm", "usfm")):
        parts = []
        for seed in range(4):
            part = predictions(1.0, ["a", "b"], seeds=[seed], task_seed=seed, model_seed=number)
            parts.append(part.assign(image_id=part["image_id"] + f"-{seed}"))
        paths.append(write_cell(folder, model, "toy", pd.concat(parts), ["a", "b"], resplit=True))
    return paths


def test_resplits_get_the_corrected_t_and_nothing_of_seed_averages(resplit, capsys):
    found = compute(load(resplit), SETTINGS)
    assert "a split per seed: no common test part, so nothing over patients" in capsys.readouterr().out
    scores, gaps = found["scores"], found["differences"]
    assert scores["resplit"].all()
    assert found["ensembles"].empty
    assert scores[["boot_low", "delong_low"]].isna().all(axis=None)
    assert gaps[["boot_low", "perm_p", "delong_p"]].isna().all(axis=None)
    wide = (
        found["seeds"].query("subset == 'test'").pivot_table(index=["metric", "seed"], columns="model", values="value")
    )
    for metric, values in (wide["urfm"] - wide["usfm"]).groupby("metric"):
        t = values.mean() / np.sqrt((1 / 4 + 1 / 3) * values.var(ddof=1))
        row = gaps[gaps["metric"] == metric].iloc[0]
        assert row["nb_p"] == pytest.approx(2 * stats.t.sf(abs(t), 3))
        assert row["nb_low"] < row["difference"] < row["nb_high"]
        error = np.sqrt((1 / 4 + 1 / 3) * values.var(ddof=1))
        assert row["detectable"] == pytest.approx((stats.t.ppf(0.975, 3) + stats.t.ppf(0.8, 3)) * error)
        assert row["equivalence_p"] == pytest.approx(stats.t.sf((0.02 - abs(values.mean())) / error, 3))
    assert (scores["nb_high"] - scores["nb_low"] > scores["ci_high"] - scores["ci_low"]).all()
    assert found["confusion"].groupby("model")["images"].sum().tolist() == [240, 240]
    assert found["calibration"]["ece"].notna().all()
    assert found["curves"]["tpr"].notna().all()


def test_one_split_has_no_corrected_t(statistics):
    assert statistics["scores"][["nb_low", "nb_high"]].isna().all(axis=None)
    assert statistics["differences"]["nb_p_holm"].isna().all()


def test_models_on_different_resplits_are_refused(resplit, tmp_path):
    other = read_cell(resplit[1]).predictions
    moved = other.assign(image_id=other["image_id"] + "x")
    path = write_cell(tmp_path, "moved", "toy", moved, ["a", "b"], resplit=True)
    with pytest.raises(UrfmError, match="tested on different images"):
        compute(load([resplit[0], path]), SETTINGS)


def command(paths: list[Path], output: Path, settings: StatisticsSettings = SETTINGS) -> list[str]:
    cells = [str(path) for path in paths]
    return ["--settings", settings.model_dump_json(), "--cells", *cells, "--output", str(output)]


def test_stage_writes_the_contract_and_the_same_bytes_again(paths, tmp_path, monkeypatch):
    for name in ("first", "second"):
        monkeypatch.setattr(sys, "argv", ["statistics", *command(paths, tmp_path / name)])
        run(main)
    columns = {"scores": SCORE_COLUMNS, "differences": DIFFERENCE_COLUMNS, **DETAILS}
    for name, expected in columns.items():
        table = pd.read_parquet(tmp_path / "first" / f"{name}.parquet")
        assert table.columns.tolist() == expected
        for suffix in ("parquet", "csv"):
            first, second = (tmp_path / run_name / f"{name}.{suffix}" for run_name in ("first", "second"))
            assert first.read_bytes() == second.read_bytes()
    record = json.loads((tmp_path / "first" / "statistics.json").read_text())
    assert record["models"] == ["mim_us", "urfm", "usfm"]
    assert record["tasks"] == ["breast_tumor", "liver_mass"]
    assert record["simulated"] is False


def test_models_that_are_stand_ins_are_named(paths, tmp_path, monkeypatch):
    root = paths[0].parents[3]
    shutil.copytree(root, tmp_path / "cells")
    cells = [tmp_path / "cells" / path.relative_to(root) for path in paths]
    for path in cells:
        record = read_json(path)
        path.write_text(json.dumps({**record, "stand_in": record["model"] in ("usfm", "mim_us")}))
    for name, given, expected in (("with", cells, ["mim_us", "usfm"]), ("without", paths, [])):
        monkeypatch.setattr(sys, "argv", ["statistics", *command(given, tmp_path / name)])
        run(main)
        assert json.loads((tmp_path / name / "statistics.json").read_text())["stand_ins"] == expected


def test_warnings_of_fine_tuning_are_listed(paths, tmp_path, monkeypatch):
    root = paths[0].parents[3]
    shutil.copytree(root, tmp_path / "cells")
    cells = [tmp_path / "cells" / path.relative_to(root) for path in paths]
    stuck = "training loss 0.69{} has not left the class prior 0.690"
    said = {"0": [stuck.format(1), "predicts only grade 2.5"], "2": [stuck.format(4)]}
    for path in cells:
        record = read_json(path)
        named = (record["model"], record["task"]) == ("usfm", "liver_mass")
        path.write_text(json.dumps({**record, "warnings": said if named else {}}))
    row = {"model": "usfm", "task": "liver_mass", "share": 100}
    expected = [
        {**row, "seeds": [0, 2], "of": 3, "words": "training loss has not left the class prior"},
        {**row, "seeds": [0], "of": 3, "words": "predicts only grade 2.5"},
    ]
    # Cells of an older version have none.
    for name, given, listed in (("with", cells, expected), ("without", paths, [])):
        monkeypatch.setattr(sys, "argv", ["statistics", *command(given, tmp_path / name)])
        run(main)
        assert json.loads((tmp_path / name / "statistics.json").read_text())["warnings"] == listed


def test_missing_reference_gives_scores_only(paths, tmp_path, monkeypatch, capsys):
    settings = SETTINGS.model_copy(update={"reference": "urfm_large"})
    monkeypatch.setattr(sys, "argv", ["statistics", *command(paths, tmp_path / "out", settings)])
    run(main)
    assert "no cell of the reference urfm_large" in capsys.readouterr().out
    assert pd.read_parquet(tmp_path / "out" / "differences.parquet").empty
    assert len(pd.read_parquet(tmp_path / "out" / "scores.parquet")) == 18


@pytest.mark.parametrize("room", ["statistics", "figures", "tables"])
def test_no_module_of_the_room_imports_torch(room):
    house = Path(__file__).parents[3] / "workflow"
    modules = ", ".join(f"urfm.{room}.{path.stem}" for path in (house / "urfm" / room).glob("*.py"))
    code = f"import sys, {modules}; raise SystemExit(any(name in sys.modules for name in ('torch', 'timm')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": str(house)}).returncode == 0
