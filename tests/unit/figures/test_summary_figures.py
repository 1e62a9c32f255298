"""Critical-difference diagram, reliability and decision curves by the real renderer, from synthetic statistics."""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from synthetic_figures import NO_SEED, SKILLS, TASKS, TITLES, make_statistics
from urfm.core.cli import run
from urfm.core.errors import UrfmError
from urfm.figures import calibration, critical_difference, decision_curves
from urfm.figures.summary import SummarySettings

NAMES, MODELS = list(TASKS), [model for model in SKILLS if model not in NO_SEED]
CASES = {
    "ten tasks": (MODELS[:6], NAMES, False),
    "three tasks, eight models, simulated": (MODELS, NAMES[:3], True),
    "two tasks, two models": (MODELS[4:6], NAMES[:2], False),
}


def settings_of(models: list[str], tasks: list[str]) -> dict[str, object]:
    missing = [name for name in NAMES if name not in tasks]
    return {
        "models": [[model, TITLES[model]] for model in models],
        "tasks": [[task, TASKS[task][0]] for task in tasks],
        "unavailable": [
            {"kind": "task", "name": task, "title": TASKS[task][0], "reason": "data set not in the data folder"}
            for task in missing
        ],
        "dpi": 80,
    }


@pytest.fixture(scope="module", params=list(CASES))
def drawn(request, tmp_path_factory):
    models, tasks, simulated = CASES[request.param]
    folder = make_statistics(
        tmp_path_factory.mktemp("summary"),
        models,
        tasks,
        patients=48,
        simulated=simulated,
        resamples=40,
        stand_ins=models[:1] if simulated else [],
    )
    settings = SummarySettings.model_validate(settings_of(models, tasks))
    record = folder / "statistics.json"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a missing glyph is a warning
        figures = [
            module.draw(*read(record, settings), settings)
            for module, read in (
                (critical_difference, critical_difference.read_ranks),
                (calibration, calibration.read_curves),
                (decision_curves, decision_curves.read_curves),
            )
        ]
        for figure in figures:
            figure.canvas.draw()
    return figures, models, tasks, simulated, record


def test_no_text_overlaps_or_is_clipped(drawn):
    for figure in drawn[0]:
        written = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        boxes = [text.get_window_extent().padded(-0.6) for text in written]
        width, height = figure.canvas.get_width_height()
        for number, box in enumerate(boxes):
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, written[number].get_text()  # noqa: PT018
            crossed = [written[other].get_text() for other in range(number) if box.overlaps(boxes[other])]
            assert not crossed, (written[number].get_text(), crossed)
        assert {text.get_fontsize() for text in written} <= {6.0, 7.0, 8.0, 9.0}


def test_models_tasks_and_what_is_missing_are_written(drawn):
    figures, models, tasks, simulated, _ = drawn
    for figure in figures:
        written = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
        assert all(TITLES[model] in written for model in models)
        named = {0: [], 1: tasks, 2: [task for task in tasks if TASKS[task][2] == 2]}[figures.index(figure)]
        assert all(TASKS[task][0] in written for task in {*named, *NAMES} - ({*tasks} - {*named}))
        assert ("SIMULATED DATA" in written) == simulated
    assert f"n = {len(tasks)} tasks" in " ".join(text.get_text() for text in figures[0].findobj(Text))


def test_stand_ins_are_named_as_everywhere(drawn):
    figures, models, _, simulated, _ = drawn
    for figure in figures:
        written = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
        assert (f"not the published model: {TITLES[models[0]]}." in written) == simulated


def test_markers_stand_at_the_ranks(drawn):
    """Every model's marker, in units of the axis of the first panel, is at its average rank."""
    figure, models, record = drawn[0][0], drawn[1], drawn[4]
    ranks = pd.read_parquet(record.with_name("ranks.parquet")).query("metric == 'accuracy'")["average_rank"]
    points = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1][: len(models)]
    ticks = [text for text in figure.axes[0].texts if text.get_text() in ("1", str(len(models)))][:2]
    low, high = (text.get_position()[0] for text in ticks)
    found = [1 + (line.get_xdata()[0] - low) / (high - low) * (len(models) - 1) for line in points]
    assert sorted(found) == pytest.approx(sorted(ranks))


def test_groups_are_the_largest_runs_within_the_critical_difference():
    assert critical_difference.groups([1.0, 2.0, 2.5, 4.0], 1.6) == [(0, 2), (2, 3)]
    assert critical_difference.groups([1.0, 3.0, 5.0], 1.0) == []
    assert critical_difference.groups([1.5, 1.5], 1.0) == [(0, 1)]


@pytest.mark.parametrize("module", [critical_difference, calibration, decision_curves])
def test_stage_writes_the_numbers_drawn(module, tmp_path, monkeypatch):
    folder = make_statistics(tmp_path, MODELS[4:6], NAMES[:2], patients=30, resamples=40)
    settings = json.dumps(settings_of(MODELS[4:6], NAMES[:2]))
    record = str(folder / "statistics.json")
    arguments = ["--settings", settings, "--statistics", record, "--output", str(tmp_path / "figure")]
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    run(module.main)
    assert (tmp_path / "figure.pdf").stat().st_size > 0
    assert (tmp_path / "figure.png").stat().st_size > 0
    table = pd.read_csv(tmp_path / "figure.csv")
    if module is calibration:
        errors = table.assign(gap=(table["accuracy"] - table["confidence"]).abs()).groupby(["model", "task"])
        weighted = errors.apply(lambda rows: np.average(rows["gap"], weights=rows["predictions"]))
        assert weighted.to_numpy() == pytest.approx(errors["ece"].first().to_numpy())
    elif module is decision_curves:
        points = pd.read_parquet(folder / "operating_points.parquet").set_index(["model", "task"])
        for key, rows in table.groupby(["model", "task"]):
            assert (len(rows), *rows["sensitivity"].unique()) == (99, pytest.approx(points.loc[key, "sensitivity"]))
            assert set(rows["part"]) == {"val"}
    else:
        assert table.groupby("metric")["average_rank"].sum().tolist() == [3.0] * 3


def test_one_task_has_no_ranks(tmp_path):
    folder = make_statistics(tmp_path, ["urfm", "usfm"], ["breast_tumor"], patients=30, resamples=40)
    settings = SummarySettings.model_validate(settings_of(["urfm", "usfm"], ["breast_tumor"]))
    with pytest.raises(UrfmError, match="they need two tasks"):
        critical_difference.read_ranks(folder / "statistics.json", settings)


def test_decision_curves_stand_at_their_net_benefit(drawn):
    """The lines of the first panel: nobody, everybody (below it beyond the prevalence, one half), and each model."""
    figure, models, tasks, record = drawn[0][2], drawn[1], drawn[2], drawn[4]
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == sum(TASKS[task][2] == 2 for task in tasks)
    curves = pd.read_parquet(record.with_name("net_benefit.parquet")).query("task == @tasks[0]")
    nobody, everybody, *lines = panels[0].lines
    assert set(nobody.get_ydata()) == {0}
    assert everybody.get_ydata()[49] == pytest.approx(0.0)
    assert everybody.get_ydata()[74] == pytest.approx(0.5 - 0.5 * 3)
    for model, line in zip(reversed(models), lines, strict=True):
        own = curves[curves["model"] == model].sort_values("threshold")
        assert line.get_ydata().tolist() == pytest.approx(own["net_benefit"].tolist())


def test_too_few_patients_are_said_below_decision_curves(tmp_path):
    folder = make_statistics(tmp_path, ["urfm", "usfm"], ["breast_tumor", "liver_mvi"], patients=8, resamples=40)
    settings = SummarySettings.model_validate(settings_of(["urfm", "usfm"], ["breast_tumor", "liver_mvi"]))
    figure = decision_curves.draw(*decision_curves.read_curves(folder / "statistics.json", settings), settings)
    written = " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())
    assert "Breast tumor, Liver MVI: too few patients for any." in written


def test_tasks_of_more_classes_have_no_decision_curves(tmp_path):
    folder = make_statistics(tmp_path, ["urfm", "usfm"], ["liver_mass"], patients=30, resamples=40)
    settings = SummarySettings.model_validate(settings_of(["urfm", "usfm"], ["liver_mass"]))
    with pytest.raises(UrfmError, match="on a task of two classes"):
        decision_curves.read_curves(folder / "statistics.json", settings)
