"""Figures 1, 6 and 7 as drawn: numbers, marks, what is missing, and no text that overlaps or leaves the page."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layout import clipped, overlaps
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats
from synthetic_figures import TASKS, TITLES, make_statistics
from synthetic_pictures import CLASSES, common, label, make_attention, make_embeddings
from urfm.core.errors import UrfmError
from urfm.figures import figure_1, figure_6, figure_7, pictures

NAMES = list(CLASSES)
NINE = [task for task in NAMES if task != "liver_mvi"]


def written(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def checked(figure: Figure) -> str:
    """Draw it, with every missing glyph an error; its words, when none overlaps or is cut."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert overlaps(figure) == []
    assert clipped(figure) == []
    assert figure.get_size_inches()[0] * 25.4 == pytest.approx(174)
    assert min(text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()) >= 6
    return written(figure)


# Figure 6 -------------------------------------------------------------------------------------------------------------


def test_figure_6_says_whose_attention_it_is(tmp_path: Path) -> None:
    settings = figure_6.Figure6Settings.model_validate({**common(NAMES[1:3], []), "model": "URFM"})
    said = {}
    for of in ("decoder", "encoder"):
        paths = [make_attention(tmp_path / of, task, attention=of) for task in NAMES[1:3]]
        said[of] = checked(figure_6.draw(figure_6.read_rows(paths, settings), settings))
    assert "Attention of URFM" in said["encoder"]
    assert "of URFM in the pre-trained encoder, which sees the whole image" in said["encoder"]
    assert "ρ encoder" in said["encoder"]
    assert "decoder" not in said["encoder"]
    assert "struction by URFM" in said["decoder"]
    assert "for the reconstruction in the decoder's, mean over" in said["decoder"]


@pytest.mark.parametrize(("tasks", "attends", "simulated"), [(NAMES, True, False), (NAMES[1:4], False, True)])
def test_figure_6(tmp_path: Path, tasks: list[str], attends: bool, simulated: bool) -> None:
    outlined = {"breast_tumor", "liver_mass", "ovarian_tumor"}
    missing = [task for task in NAMES if task not in tasks]
    settings = figure_6.Figure6Settings.model_validate({**common(tasks, missing), "model": "URFM"})
    paths = [
        make_attention(tmp_path, task, outlined=task in outlined, attends=attends, simulated=simulated)
        for task in reversed(tasks)
    ]
    rows = figure_6.read_rows(paths, settings)
    assert [row.task.task for row in rows] == tasks
    text = checked(figure_6.draw(rows, settings))
    assert all(CLASSES[task][0] in text for task in NAMES)
    assert ("SIMULATED DATA" in text) == simulated
    assert ("no [CLS] token" in text) == (not attends)
    assert ("data set not in the data folder" in text) == bool(missing)
    assert text.count("in lesion ×") == 3 * len(outlined & set(tasks))

    summary = figure_6.summarise(rows).set_index(["task", "quantity"])
    values = rows[0].measured["rho_teacher_gradcam"]
    found = summary.loc[(tasks[0], "rho_teacher_gradcam")]
    interval = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert (found["mean"], found["ci_low"], found["ci_high"]) == pytest.approx((values.mean(), *interval))
    assert found["images"] == 20


def test_figure_6_of_nothing_says_so() -> None:
    settings = figure_6.Figure6Settings.model_validate({**common([], NAMES), "model": "URFM"})
    text = checked(figure_6.draw([], settings))
    assert "no task can be shown" in text
    assert "Thyroid nodule" in text


def test_changed_maps_are_refused(tmp_path: Path) -> None:
    path = make_attention(tmp_path, "breast_tumor")
    pictures.read_record(path)
    path.with_suffix(".npz").write_bytes(b"another")
    with pytest.raises(UrfmError, match=r"breast_tumor\.npz: its content changed"):
        pictures.read_record(path)


# Figure 7 -------------------------------------------------------------------------------------------------------------


def clouds_of(folder: Path, tasks: list[str], models: list[str], simulated: bool = False) -> list[Path]:
    above = [make_embeddings(folder, model, tasks, simulated=simulated) for model in models]
    return above + [
        make_embeddings(folder / "finetuned", task, [label(name) for name in CLASSES[task][2]], task) for task in tasks
    ]


@pytest.mark.parametrize(
    ("tasks", "models", "simulated"),
    [(NINE, ["mim_imagenet", "urfm"], False), (NINE[1:3], ["urfm"], True), (NINE[1:2], ["mim_imagenet"], False)],
)
def test_figure_7(tmp_path: Path, tasks: list[str], models: list[str], simulated: bool) -> None:
    missing = [task for task in NINE if task not in tasks]
    named = {"before": ["mim_imagenet", "MIM-ImageNet"], "after": ["urfm", "URFM"]}
    settings = figure_7.Figure7Settings.model_validate({**common(tasks, missing), **named})
    clouds = figure_7.read_clouds(clouds_of(tmp_path, tasks, models, simulated), settings)
    figure = figure_7.draw(clouds, settings)
    text = checked(figure)
    assert ("not available" in text) == (len(models) < 2 or bool(missing))
    assert ("Not drawn: MIM-ImageNet." in text) == ("mim_imagenet" not in models)
    assert ("SIMULATED DATA" in text) == simulated
    assert "silhouette −0.12" in text
    assert "10-NN 83 %, chance 50 %" in text
    numbers = figure_7.numbers_drawn(clouds)
    assert set(numbers["panel"]) == set(clouds)
    assert len(numbers) == sum(cloud.record["images"] for cloud in clouds.values())
    drawn = sum(len(points.get_offsets()) for axes in figure.axes for points in axes.collections)
    legends = len(tasks) + sum(len(CLASSES[task][2]) for task in tasks)
    assert drawn == len(numbers) + legends


def test_figure_7_of_nothing_says_so() -> None:
    named = {"before": ["mim_imagenet", "MIM-ImageNet"], "after": ["urfm", "URFM"]}
    settings = figure_7.Figure7Settings.model_validate({**common([], NINE), **named})
    assert "no task has data" in checked(figure_7.draw({}, settings))
    one = figure_7.Figure7Settings.model_validate({**common(NINE[:1], NINE[1:]), **named})
    assert checked(figure_7.draw({}, one)).count("needs two data sets") == 2
    assert figure_7.numbers_drawn({}).empty


# Figure 1 -------------------------------------------------------------------------------------------------------------

ORGANS = [["thyroid", "Thyroid"], ["breast", "Breast"], ["abdomen", "Abdomen - Mixed"], ["heart", "Heart"]]
COMPARED = [[task, title] for task, (title, *_) in TASKS.items()]
PAPER_MODELS = ["sl_imagenet", "mim_imagenet", "mim_us", "deblur_mim", "usfm", "urfm"]


def figure_1_settings(tasks: list[str], missing: list[str]) -> dict[str, object]:
    models = [[model, TITLES[model]] for model in PAPER_MODELS]
    return {**common(tasks, missing), "organs": ORGANS, "models": models, "compared": COMPARED, "model": "URFM"}


def write_selection(folder: Path, simulated: bool = False) -> Path:
    counts = [
        ("breast", "BUV", 30),
        ("thyroid", "RadImageNet", 443_985),
        ("breast", "private", 54),
        ("heart", "C", 900),
    ]
    rows = [{"dataset": "x", "organ": organ, "source": source, "images": n} for organ, source, n in counts]
    (folder / "urfm.json").write_text(json.dumps({"counts": rows, "simulated": simulated}))
    return folder / "urfm.json"


def test_organs_are_added_up_and_sorted(tmp_path: Path) -> None:
    table = figure_1.organ_counts(json.loads(write_selection(tmp_path).read_text()), [(k, n) for k, n in ORGANS])
    assert table.to_numpy().tolist() == [["Thyroid", 443_985], ["Heart", 900], ["Breast", 84]]
    assert figure_1.organ_counts(None, [("heart", "Heart")]).empty


def test_scores_of_every_task_and_means_of_tasks_that_all_models_have() -> None:
    rows = [("a", "x", 0.5), ("b", "x", 0.7), ("a", "y", 0.1), ("a", "z", 0.9), ("b", "z", 0.8)]
    scores = pd.DataFrame(rows, columns=["model", "task", "mean"]).assign(metric="f1_macro", share=100)
    more = pd.concat([scores, scores.assign(share=10, mean=0.0), scores.assign(metric="auroc", mean=0.0)])
    models, tasks = [("b", "B"), ("a", "A"), ("c", "C")], [("z", "Z"), ("x", "X"), ("y", "Y"), ("w", "W")]
    table = figure_1.f1_scores(more, models, tasks)
    expected = [
        ("z", "b", 80), ("z", "a", 90), ("x", "b", 70), ("x", "a", 50), ("y", "a", 10),
        ("average", "b", 75), ("average", "a", 70),
    ]  # fmt: skip
    assert list(table.itertuples(index=False, name=None)) == [(t, m, pytest.approx(f1)) for t, m, f1 in expected]
    assert "average" not in set(figure_1.f1_scores(more, models, tasks[1:3])["task"])


@pytest.mark.parametrize(("simulated", "count"), [(False, 10), (True, 3), (False, 1)])
def test_figure_1(tmp_path: Path, simulated: bool, count: int) -> None:
    settings = figure_1.Figure1Settings.model_validate(figure_1_settings(NAMES[:4], NAMES[4:5]))
    path = make_attention(tmp_path, "breast_tumor")
    with np.load(path.with_suffix(".npz")) as arrays:
        method = {name: arrays[name] for name in ("image", "mask", "target", "prediction")}
    statistics = make_statistics(tmp_path, PAPER_MODELS, list(TASKS)[:count], patients=40, resamples=40)
    source = pd.read_parquet(statistics / "scores.parquet").query("metric == 'f1_macro'")
    scores = figure_1.f1_scores(source, settings.models, settings.compared)
    picture = np.full((60, 90, 3), 128, np.uint8)
    content = figure_1.Content(
        organs=figure_1.organ_counts(json.loads(write_selection(tmp_path).read_text()), settings.organs),
        method=method,
        scores=scores,
        examples={
            f"{title} ({source})": [figure_1.Example(picture, name) for name in names[:2]]
            for title, source, names in list(CLASSES.values())[:4]
        },
        simulated=simulated,
    )
    figure = figure_1.draw(content, settings)
    text = checked(figure)
    assert "Pre-training set: 444,969 images" in text
    assert "443,985 (99.8 %)" in text
    assert f"Macro F1 after fine-tuning, {count} task{'s' * (count > 1)}" in text
    assert ("Mean: unweighted" in text) == (count > 1)
    assert ("Fetal plane: no result." in text) == (count < 10)
    assert "Gallbladder polyp" in text
    assert ("SIMULATED DATA" in text) == simulated
    numbers = figure_1.numbers_drawn(content).set_index(["panel", "name", "quantity"])["value"]
    assert numbers[("A", "Breast", "images")] == 84
    wide = 100 * source.pivot_table(index="model", columns="task", values="mean")
    for model in PAPER_MODELS:
        for task in list(TASKS)[:count]:
            assert numbers[("C", model, f"f1_percent_{task}")] == pytest.approx(wide.loc[model, task])
        if count > 1:
            assert numbers[("C", model, "mean_f1_percent")] == pytest.approx(wide.loc[model].mean())
    axes = next(axes for axes in figure.axes if axes.get_xlabel() == "F1 (%)")
    drawn = sorted(line.get_xdata()[0] for line in axes.lines if line.get_marker() != "None")
    assert drawn == pytest.approx(sorted(scores["f1"]))
    assert min(drawn) >= axes.get_xlim()[0]


def test_the_stage_draws_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pre-training set alone, the other panels say that they are not available."""
    settings = json.dumps(figure_1_settings([], NAMES[:2]))
    output = tmp_path / "figure_1"
    command = [
        "figure_1",
        "--settings",
        settings,
        "--selection",
        str(write_selection(tmp_path)),
        "--output",
        str(output),
    ]
    monkeypatch.setattr(sys, "argv", command)
    figure_1.main()
    assert pd.read_csv(tmp_path / "figure_1.csv")["panel"].unique().tolist() == ["A"]
    assert (tmp_path / "figure_1.png").stat().st_size > 1000
    empty = figure_1.Content(figure_1.organ_counts(None, []), {}, figure_1.f1_scores(None, [], []), {}, False)
    text = checked(figure_1.draw(empty, figure_1.Figure1Settings.model_validate_json(settings)))
    assert text.count("not available") >= 4
