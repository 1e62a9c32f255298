"""Figure 2 as drawn: numbers, marks, and no text that overlaps or leaves the page."""

from __future__ import annotations

import json
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout import clipped, overlaps
from matplotlib.text import Text
from synthetic_figures import NO_SEED, TASKS, TITLES, figure_settings, make_statistics
from urfm.core.cli import run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256
from urfm.figures import notes
from urfm.figures.figure_2 import Figure2Settings, draw, drawn_numbers, main, panels_of, rows_of
from urfm.figures.read import read_numbers
from urfm.figures.style import GREY, format_p

MODELS = [model for model in TITLES if model not in NO_SEED]
NAMES = list(TASKS)
GOLDEN = Path(__file__).parent / "golden" / "figure_2.csv"


def settings_of(*arguments: object, **keywords: object) -> Figure2Settings:
    return Figure2Settings.model_validate(figure_settings(*arguments, **keywords))


CASES = {
    "ten tasks": {"models": MODELS[:6], "tasks": NAMES, "seeds": 4},
    "three tasks, simulated": {
        "models": ["mim_us", "urfm", "sl_imagenet", "urfm_clip", "random"],
        "tasks": ["breast_tumor", "liver_mass", "fetal_plane"],
        "simulated": True,
    },
    "two tasks": {"models": ["random", "mim_us", "usfm", "urfm"], "tasks": ["breast_tumor", "liver_mass"]},
    "one task, one seed": {"models": ["mim_us", "urfm"], "tasks": ["breast_tumor"], "seeds": 1},
    "five tasks, eight models, two seeds": {
        "models": MODELS,
        "tasks": NAMES[:5],
        "seeds": 2,
        "simulated": True,
        "stand_ins": MODELS[:6],
    },
    "no reference": {"models": ["mim_us", "usfm"], "tasks": NAMES[:4], "seeds": 2},
    "one model": {"models": ["urfm"], "tasks": ["breast_tumor", "ovarian_tumor"], "patients_known": False},
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request, tmp_path_factory):
    case = dict(CASES[request.param])
    folder = make_statistics(tmp_path_factory.mktemp("figure"), patients=48, resamples=60, **case)
    missing = [task for task in NAMES if task not in case["tasks"]]
    settings = settings_of(case["models"], case["tasks"], ["usfm"] if len(case["models"]) == 5 else None, missing)
    numbers = read_numbers(folder, settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is a warning
        figure = draw(numbers, settings)
        figure.canvas.draw()
    return case, settings, numbers, figure


def test_no_text_overlaps_or_is_clipped(case):
    figure = case[3]
    assert overlaps(figure) == []
    assert clipped(figure) == []


def test_no_curve_crosses_a_legend(case):
    figure = case[3]
    figure.canvas.draw()
    for axes in figure.axes:
        if axes.get_legend():
            legend = axes.get_legend()
            parts = [*legend.get_texts(), legend.get_title(), *legend.get_lines()]
            boxes = [part.get_window_extent().padded(-0.5) for part in parts]
            for line in axes.lines[1:]:  # the first is the diagonal of chance
                points = axes.transData.transform(line.get_xydata())
                finite = points[np.isfinite(points).all(axis=1)]
                shares = np.linspace(0, 1, 20)[:, None, None]
                between = (finite[:-1] * (1 - shares) + finite[1:] * shares).reshape(-1, 2)
                assert not any(box.contains(x, y) for x, y in between for box in boxes)


def test_texts_have_the_journals_sizes(case):
    sizes = {text.get_fontsize() for text in case[3].findobj(Text) if text.get_text().strip()}
    assert min(sizes) >= 6
    assert max(sizes) <= 9
    assert case[3].get_size_inches()[0] * 25.4 == pytest.approx(174)


def test_titles_counts_and_what_is_missing_are_written(case):
    case, settings, _, figure = case
    written = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
    for task in case["tasks"]:
        assert TASKS[task][0] in written
    for model in case["models"]:
        assert TITLES[model] in written
    for entry in settings.unavailable:
        assert entry.title in written
        assert entry.reason in written
    assert ("SIMULATED DATA: demonstration only" in written) == bool(case.get("simulated"))
    note = "not the published model: " + ", ".join(TITLES[model] for model in case.get("stand_ins", [])) + "."
    assert (note in written) == ("stand_ins" in case)
    assert written.count("(stand-in)") == len(case.get("stand_ins", []))
    patients = "48 patients" if case.get("patients_known", True) else "patients unknown"
    assert f"n = 48 images, {patients}, {case.get('seeds', 3)} seed" in written
    assert ("for radar charts, which need three tasks" in written) == (len(case["tasks"]) < 3)
    assert ("there is no interval over seeds" in written) == (case.get("seeds") == 1)
    assert ("No P values" in written) == (case["models"] in (["urfm"], ["mim_us", "usfm"]))


def test_a_model_that_predicts_one_class_is_named(case):
    case, settings, numbers, _ = case
    cells = [{"model": case["models"][0], "task": task, "share": 100} for task in case["tasks"]]
    said = [{**cell, "seeds": [0], "of": case.get("seeds", 3), "words": "predicts only benign"} for cell in cells]
    figure = draw(replace(numbers, warnings=said), settings)
    written = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
    title, task = TITLES[case["models"][0]], TASKS[case["tasks"][0]][0]
    many = f", in some seeds: {title} ({len(said)} tasks)." if len(said) > notes.LISTED else None
    assert f"Predicts only one class of the test part{many or f': {title} ({task}: benign, 1 of '}" in written
    assert overlaps(figure) == []
    assert clipped(figure) == []


def test_every_bar_that_does_not_start_at_zero_is_marked(case):
    """Axes of bars with a limit above 0 carry the zigzag, others do not."""
    for axes in case[3].axes:
        if axes.patches and axes.axison and axes.name == "rectilinear":
            zigzag = [line for line in axes.lines if line.get_color() == "white" and line.get_linewidth() == 2.0]
            assert bool(zigzag) == (axes.get_ylim()[0] > 0)


def test_bars_have_the_height_of_the_scores(case):
    _, _, numbers, figure = case
    heights = sorted(
        patch.get_y() + patch.get_height()
        for axes in figure.axes
        if axes.axison and axes.name == "rectilinear"
        for patch in axes.patches
    )
    expected = [*numbers.scores[numbers.scores["metric"] != "auroc"]["mean"], *numbers.means.to_numpy().ravel()]
    assert heights == pytest.approx(sorted(expected))


def test_csv_holds_what_the_statistics_say(case):
    _, settings, numbers, _ = case
    table = drawn_numbers(numbers, settings)
    bars = table[table["quantity"] == "mean"]
    assert len(bars) == len(numbers.scores)
    merged = bars.merge(numbers.scores, on=["task", "model", "metric"])
    assert merged["value"].to_numpy() == pytest.approx(merged["mean"].to_numpy(), abs=1e-6)
    means = table[table["quantity"] == "mean_over_tasks"]
    truth = numbers.scores.groupby(["model", "metric"])["mean"].mean()
    for row in means.itertuples():
        assert row.value == pytest.approx(truth[(row.model, row.metric)], abs=1e-6)
    assert (table["quantity"] == "tpr").sum() == 201 * len(numbers.tasks) * len(numbers.models)


def test_curves_name_what_is_positive(tmp_path):
    """By the printed name, in the note and, where there is room, above the curves; as the label in the CSV file."""
    folder = make_statistics(tmp_path, ["mim_us", "urfm"], NAMES[1:4], patients=30, resamples=40)
    settings = settings_of(["mim_us", "urfm"], NAMES[1:4])
    settings = settings.model_copy(update={"classes": {"breast_tumor": {"class_0": "Benign", "class_1": "Malignant"}}})
    numbers = read_numbers(folder, settings)
    figure = draw(numbers, settings)
    texts = [text.get_text() for text in figure.findobj(Text)]
    written = " ".join(" ".join(texts).split())
    assert "positive: Malignant (Breast tumor); class_1 (Liver MVI); one-vs-rest, averaged, for more than" in written
    assert {"Positive: Malignant", "Malignant"} & set(texts)
    assert overlaps(figure) == []
    curves = drawn_numbers(numbers, settings).query("quantity == 'tpr'").groupby("task")["positive"].unique()
    assert {task: list(names) for task, names in curves.items()} == {
        "breast_tumor": ["class_1"],
        "liver_mass": [""],
        "liver_mvi": ["class_1"],
    }


def test_the_strongest_other_model_is_compared(case):
    numbers = case[2]
    for row in numbers.comparisons.itertuples():
        others = numbers.scores.query("task == @row.task and metric == @row.metric and model != 'urfm'")
        assert others.set_index("model")["mean"].idxmax() == row.model


def test_the_note_says_what_the_test_part_could_have_shown(case):
    """Of the comparisons that are drawn, in points, from the statistics' own table; nothing where nothing varies."""
    numbers, figure = case[2], case[3]
    rows = numbers.differences.merge(numbers.comparisons[["task", "share", "metric", "model"]])
    smallest = sorted(rows["detectable"].dropna())
    written = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
    said = re.search(r"shows with a power of 80 %: ([0-9.]+)(?: to ([0-9.]+))? points", written)
    assert bool(said) == bool(smallest)
    if said:
        first, last = said.groups()
        assert [float(first), float(last or first)] == pytest.approx([smallest[0], smallest[-1]], abs=0.051)
        assert all(value > 1 for value in smallest)  # points, not shares


def test_panels_keep_the_papers_letters():
    settings = settings_of(["urfm"], NAMES)
    assert [(letter, len(tasks)) for letter, _, tasks in panels_of(NAMES, settings)] == [("B", 2), ("C", 5), ("D", 3)]
    assert [panel[0] for panel in panels_of(["fetal_plane", "thyroid_nodule"], settings)] == ["B", "D"]
    settings.tasks["mine"] = settings.tasks["fetal_plane"].model_copy(update={"group": "heart"})
    assert [(panel[0], panel[1]) for panel in panels_of(["mine"], settings)] == [("E", "Heart")]
    own = settings.model_copy(update={"own": True})  # leaves out no letter
    assert [panel[:2] for panel in panels_of(["mine", "fetal_plane"], own)] == [
        ("B", "Other organs"),
        ("C", "Heart"),
    ]


def test_rows_hold_whole_panels_where_they_fit():
    panels = [("B", "", ["a", "b"]), ("C", "", ["c", "d", "e", "f", "g"]), ("D", "", ["h"])]
    cells = [[task for _, task in row] for row in rows_of(panels, 3)]
    assert cells == [["a", "b"], ["c", "d", "e"], ["f", "g", "h"]]


OWN = {
    "one task": (MODELS[3:6], ["breast_tumor"], None),
    "one task, one seed": (MODELS[1:6], ["fetal_plane"], "auroc"),
    "two tasks": (MODELS[4:6], ["breast_tumor", "liver_mass"], "f1_macro"),
    "three tasks": (MODELS[2:6], ["breast_tumor", "liver_mass", "fetal_plane"], "f1_macro"),
    "three tasks by AUROC": (MODELS[1:6], ["breast_tumor", "liver_mass", "fetal_plane"], "auroc"),
}


@pytest.mark.parametrize("name", OWN)
def test_a_comparison_of_ones_own(tmp_path, name):
    """Its metric stands first, with bars and P; panels are lettered in order, and one task needs none."""
    models, tasks, metric = OWN[name]
    folder = make_statistics(tmp_path, models, tasks, 1 if "one seed" in name else 3, patients=48, resamples=60)
    settings = settings_of(models, tasks).model_copy(update={"own": True, "metric": metric})
    numbers = read_numbers(folder, settings)
    figure = draw(numbers, settings)
    assert overlaps(figure) == []
    assert clipped(figure) == []
    titles = {"accuracy": "ACC (%)", "f1_macro": "F1 (%)", "auroc": "AUC (%)"}
    texts = [text.get_text() for text in figure.findobj(Text)]
    labels = [text.removeprefix("Mean ") for text in texts if text.removeprefix("Mean ") in titles.values()]
    assert labels[0] == titles[metric or "accuracy"]
    letters = [text for text in texts if len(text) == 1 and text in "ABCDEF"]
    groups = {TASKS[task][1] for task in tasks}
    assert letters == ([] if len(tasks) == 1 else list("ABCD"[: 1 + len(groups)]))
    table = drawn_numbers(numbers, settings)
    tested = list(dict.fromkeys(table[table["chart"] == "comparison"]["metric"]))
    assert tested[0] == (metric or "accuracy")
    assert len(tested) == (3 if len(tasks) == 1 or metric == "auroc" else 2)


def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statistics: Path, settings: dict[str, object]) -> Path:
    output = tmp_path / "figures" / "figure_2"
    arguments = ["--settings", json.dumps(settings), "--statistics", str(statistics), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["figure_2", *arguments])
    run(main)
    return output


def test_stage_equals_the_golden_csv_and_repeats_its_bytes(tmp_path, monkeypatch, capsys):
    """The golden file was made by this stage and read over; the tests above hold each number against its source."""
    models, tasks = ["mim_us", "urfm"], ["breast_tumor", "liver_mass", "ovarian_tumor"]
    statistics = make_statistics(tmp_path, models, tasks, patients=48, resamples=100)
    settings = figure_settings(models, tasks) | {"dpi": 80}
    first = stage(tmp_path / "a", monkeypatch, statistics, settings)
    second = stage(tmp_path / "b", monkeypatch, statistics, settings)
    for suffix in ("pdf", "png", "csv"):
        assert Path(f"{first}.{suffix}").read_bytes() == Path(f"{second}.{suffix}").read_bytes()
    assert f"{second}.pdf" in capsys.readouterr().out
    drawn = pd.read_csv(f"{first}.csv")
    drawn = drawn[drawn["quantity"] != "tpr"].reset_index(drop=True)  # curves: held against scikit-learn elsewhere
    pd.testing.assert_frame_equal(drawn, pd.read_csv(GOLDEN), rtol=1e-6, atol=1e-6, check_dtype=False)


def test_model_without_result_on_one_task_is_left_out_of_the_mean(tmp_path):
    folder = make_statistics(tmp_path, ["mim_us", "urfm"], NAMES[:4], patients=30, resamples=40)
    settings = settings_of(["mim_us", "usfm", "urfm"], NAMES[:5])
    scores = pd.read_parquet(folder / "scores.parquet").query("not (model == 'mim_us' and task == 'breast_tumor')")
    scores.to_parquet(folder / "scores.parquet", index=False)
    record = read_json(folder / "statistics.json")
    record["sha256"]["scores.parquet"] = sha256(folder / "scores.parquet")
    (folder / "statistics.json").write_text(json.dumps(record))
    numbers = read_numbers(folder, settings)
    assert set(map(tuple, numbers.common.values())) == {(NAMES[0], NAMES[2], NAMES[3])}
    figure = draw(numbers, settings)
    written = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
    assert "without Breast tumor, where a model has no result" in written
    assert "Model not available: USFM (no result in the statistics)." in written
    assert "Task not available: Gallbladder polyp (no result in the statistics)." in written
    assert overlaps(figure) == []


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_task_without_auroc_keeps_its_other_scores(tmp_path, count):
    """A published test part may lack a class: accuracy and F1 stay in the means, and why AUC does not is said."""
    models, tasks = ["mim_us", "usfm", "urfm"], ["liver_mass", *NAMES[:2], *NAMES[3:5]][:count]
    folder = make_statistics(tmp_path, models, tasks, patients=30, resamples=40, without={"liver_mass": "class_2"})
    settings = settings_of(models, tasks).model_copy(update={"classes": {"liver_mass": {"class_2": "Normal"}}})
    numbers = read_numbers(folder, settings)
    assert numbers.common["accuracy"] == numbers.common["f1_macro"] == tasks
    assert numbers.common["auroc"] == tasks[1:]
    scores = numbers.scores.pivot_table(index="model", columns=["metric", "task"], values="mean")
    for metric, expected in (("accuracy", tasks), ("f1_macro", tasks), ("auroc", tasks[1:])):
        if expected:
            truth = scores[metric][expected].mean(axis=1)
            assert numbers.means[metric].to_numpy() == pytest.approx(truth[numbers.models].to_numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(numbers, settings)
        figure.canvas.draw()
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert "AUC without Liver mass (no test image is of class Normal)" in " ".join(" ".join(texts).split())
    mean = "Mean " if count > 2 else ""
    assert (f"{mean}AUC (%), {count - 1} task{'s' * (count > 2)}" in texts) == (count > 1)
    assert ("fewer than three tasks" in texts) == (count == 3)
    assert ("AUC: undefined on every task" in texts) == (count == 1)
    assert overlaps(figure) == []
    assert clipped(figure) == []
    drawn = drawn_numbers(numbers, settings).query("quantity == 'mean_over_tasks'")
    assert drawn["value"].notna().all()
    assert set(drawn["metric"]) == {"accuracy", "f1_macro", *(["auroc"] if count > 1 else [])}


def test_with_a_split_a_seed_p_and_intervals_are_the_corrected_ones(tmp_path):
    models, tasks = ["mim_us", "urfm"], NAMES[:3]
    folder = make_statistics(tmp_path, models, tasks, patients=30, resamples=40, resplit=True)
    settings = settings_of(models, tasks)
    numbers = read_numbers(folder, settings)
    figure = draw(numbers, settings)
    assert overlaps(figure) == []
    written = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
    assert "Nadeau-Bengio corrected, over re-splits" in written
    assert "bootstrap" not in written
    table = drawn_numbers(numbers, settings).query("chart == 'comparison'")
    source = pd.read_parquet(folder / "differences.parquet").query("metric != 'auroc'")
    drawn = table[table["quantity"] == "nb_p_holm"].merge(source, on=["task", "model", "metric"])
    assert len(drawn) == 6
    assert drawn["value"].to_numpy() == pytest.approx(drawn["nb_p_holm"].to_numpy(), abs=1e-6)
    printed = [text.get_text() for text in figure.findobj(Text) if text.get_text().startswith("P")]
    assert {format_p(p) for p in drawn["nb_p_holm"]} <= set(printed)


def test_changed_or_foreign_statistics_are_refused(tmp_path):
    folder = make_statistics(tmp_path, ["urfm"], ["breast_tumor"], patients=20, resamples=40)
    with pytest.raises(UrfmError, match="holds no score of this figure's tasks"):
        read_numbers(folder, settings_of(["urfm"], ["liver_mass"]))
    with pytest.raises(UrfmError, match="no such file"):
        read_numbers(tmp_path, settings_of(["urfm"], ["breast_tumor"]))
    pd.read_parquet(folder / "scores.parquet").assign(mean=1.0).to_parquet(folder / "scores.parquet")
    with pytest.raises(UrfmError, match="changed after it was made"):
        read_numbers(folder, settings_of(["urfm"], ["breast_tumor"]))


ACROSS = {
    "two tasks": (["random", "frozen", "mim_us", "urfm"], ["breast_tumor", "liver_mass"], False, {}),
    "three tasks": (["random", "usfm", "frozen", "mim_us", "urfm"], NAMES[:3], False, {}),
    "own, by AUROC": (["frozen", "urfm"], ["breast_tumor", "liver_mass"], True, {"metric": "auroc"}),
    "own, one task": (["mim_us", "urfm"], ["fetal_plane"], True, {}),
    "a split per seed": (["frozen", "urfm"], ["breast_tumor", "liver_mass"], False, {}),
}


@pytest.mark.parametrize("name", ACROSS)
def test_baselines_are_lines_across_the_bars(tmp_path, name):
    """At the heights of the CSV, in every group of bars and in A; in the legend, without a bar, curve or P."""
    models, tasks, own, more = ACROSS[name]
    lines, resplit = ["majority", "thumbnails"], "split" in name
    folder = make_statistics(tmp_path, models, tasks, patients=48, resamples=60, lines=lines, resplit=resplit)
    settings = settings_of(models, tasks, lines=lines).model_copy(update={"own": own, **more})
    numbers = read_numbers(folder, settings)
    figure = draw(numbers, settings)
    assert overlaps(figure) == []
    assert clipped(figure) == []
    table = drawn_numbers(numbers, settings)
    drawn = [
        line.get_ydata()[0]
        for axes in figure.axes
        if axes.axison
        for line in axes.lines
        if line.get_color() == GREY and line.get_linewidth() == 0.8
    ]
    values = table[(table["chart"] == "line") & table["quantity"].isin(["mean", "mean_over_tasks"])]
    assert sorted(drawn) == pytest.approx(sorted(values["value"]), abs=1e-6)
    truth = pd.read_parquet(folder / "lines.parquet").set_index(["task", "model", "metric"])["mean"]
    for row in values[values["quantity"] == "mean"].itertuples():
        assert row.value == pytest.approx(100 * truth[(row.task, row.model, row.metric)], abs=1e-6)
    accuracy = values[(values["model"] == "majority") & (values["metric"] == "accuracy")]
    assert set(accuracy["task"]) == {*tasks, *([] if own and len(tasks) == 1 else [""])}
    written = [text.get_text() for text in figure.findobj(Text)]
    assert written.count("Majority class") == written.count("Thumbnails") == 1
    foot = " ".join(written)
    assert "Lines across the bars: Majority class, Thumbnails" in " ".join(foot.split())
    assert ("Without black line" in foot) == ("frozen" in models and not resplit)
    assert not set(lines) & set(numbers.curves["model"])
    assert not set(lines) & set(table.loc[table["chart"].isin(["bars", "roc", "comparison"]), "model"])


def test_lines_change_nothing_of_what_is_compared(tmp_path):
    models, tasks = ["mim_us", "usfm", "urfm"], ["breast_tumor", "liver_mass"]
    for name, lines in (("without", []), ("with", ["thumbnails"])):
        make_statistics(tmp_path / name, models, tasks, patients=48, resamples=60, lines=lines)
    for table in ("scores", "differences", "average_scores", "average_differences", "ranks", "rank_pairs"):
        before, after = (
            pd.read_parquet(tmp_path / name / "statistics" / f"{table}.parquet") for name in ("without", "with")
        )
        pd.testing.assert_frame_equal(before, after)


def test_no_whisker_where_no_seed_changes_anything(tmp_path):
    folder = make_statistics(tmp_path, ["frozen", "urfm"], ["breast_tumor"], patients=48, resamples=60)
    settings = settings_of(["frozen", "urfm"], ["breast_tumor"])
    numbers = read_numbers(folder, settings)
    assert numbers.deterministic == ["frozen"]
    whiskers = [
        line
        for axes in draw(numbers, settings).axes
        for line in axes.lines
        if line.get_color() == "black" and line.get_linewidth() == 0.9
    ]
    assert len(whiskers) == 2  # the other model's, of two metrics
