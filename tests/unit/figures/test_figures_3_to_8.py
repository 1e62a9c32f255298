"""Figures 3, 4, 5 and 8 as drawn: layout, numbers, golden files and pictures."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic_comparisons as synthetic
from layout import clipped, overlaps
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text
from scipy import stats
from synthetic_figures import TASKS
from urfm.core.cli import run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256
from urfm.figures import figure_3, figure_4, figure_5, figure_8, notes
from urfm.figures.read import FigureSettings, read_comparisons, read_numbers, to_strongest
from urfm.figures.style import Unavailable

HERE = Path(__file__).parent
NAMES = list(TASKS)
ORGAN_TASKS = [task for tasks in synthetic.OWN.values() for task in tasks]
STAGES: dict[str, Any] = {"3": figure_3, "4": figure_4, "5": figure_5, "8": figure_8}
PANELS = {number: [name for name in synthetic.MODELS if name.startswith(f"figure_{number}")] for number in STAGES}

# Tasks of each comparison; further: models of the first, and keywords of the synthetic statistics.
CASES: dict[str, dict[str, Any]] = {
    "3: one task": {"figure_3": ["breast_tumor"]},
    "3: both ways, simulated": {"figure_3": ["breast_tumor"], "figure_3b": ["breast_tumor"], "simulated": True},
    "3: one model, one seed": {"figure_3": ["breast_tumor"], "models": ["urfm"], "seeds": 1},
    "3: a split a seed": {"figure_3": ["breast_tumor"], "resplit": True},
    "4: ten tasks": {"figure_4a": NAMES, "figure_4b": NAMES},
    "4: three tasks, simulated": {"figure_4a": NAMES[:3], "figure_4b": NAMES[:3], "simulated": True, "seeds": 2},
    "4: one task, B only": {"figure_4b": ["fetal_plane"], "seeds": 1},
    "4: two models": {"figure_4a": NAMES[:2], "models": ["mim_imagenet", "urfm"]},
    "5: all organs": {"figure_5": ORGAN_TASKS},
    "5: three tasks, simulated": {"figure_5": ["breast_tumor", "liver_mass", "ovarian_tumor"], "simulated": True},
    "5: one task": {"figure_5": ["liver_mass"], "models": ["mim_imagenet", "urfm_liver"], "seeds": 1},
    "5: ten tasks": {"figure_5": NAMES},
    "5: no reference": {"figure_5": NAMES[:2], "models": ["urfm_thyroid", "urfm_breast"]},
    "8: the paper": {
        "figure_8a": ["ovarian_tumor", "pancreatic_cancer", "kidney_tumor", "thyroid_nodule"],
        "figure_8b": [
            "liver_mvi",
            "ovarian_tumor",
            "pancreatic_cancer",
            "liver_mass",
            "fetal_plane",
            "uterine_fibroid",
        ],
        "figure_8c": ["liver_mass", "pancreatic_cancer", "thyroid_nodule", "fetal_plane"],
    },
    "8: one task, simulated": {"figure_8a": ["ovarian_tumor"], "figure_8b": ["liver_mvi"], "simulated": True},
    "8: a split a seed": {"figure_8a": ["ovarian_tumor", "kidney_tumor"], "figure_8b": ["liver_mvi"], "resplit": True},
    "8: no reference": {"figure_8a": ["ovarian_tumor"], "models": ["urfm_data10", "urfm_data20"]},
    "8: C and D only, one model": {"figure_8c": ["breast_tumor"], "models": ["urfm"], "seeds": 1},
    "8: C and D only, one seed": {"figure_8c": ["breast_tumor", "liver_mass"], "seeds": 1},
}


def with_values(folder: Path, name: str, **values: float) -> None:
    """Write values into a column of every row of a table of the statistics."""
    table = pd.read_parquet(folder / f"{name}.parquet").assign(**values)
    table.to_parquet(folder / f"{name}.parquet", index=False)
    record = read_json(folder / "statistics.json")
    record["sha256"][f"{name}.parquet"] = sha256(folder / f"{name}.parquet")
    (folder / "statistics.json").write_text(json.dumps(record))


class Drawn:
    """One case: its statistics read, its figure drawn and its table."""

    def __init__(self, folder: Path, name: str, case: dict[str, Any]) -> None:
        self.number, self.case = name[0], case
        self.stage = STAGES[self.number]
        tasks = {key: value for key, value in case.items() if key.startswith("figure_")}
        passed_on = ("seeds", "simulated", "models", "patients", "resamples", "resplit")
        keywords = {key: case[key] for key in passed_on if key in case}
        self.folders = [
            synthetic.write_statistics(
                folder / key, key, value, shares=(10, 50, 100) if key == "figure_8c" else (100,), **keywords
            )
            for key, value in tasks.items()
        ]
        for table, values in case.get("values", {}).items():
            for statistics in self.folders:
                with_values(statistics, table, **values)
        models = case.get("models")
        comparisons = [
            [key, synthetic.comparison(key, tasks.get(key, []), models, [] if key in tasks else ["fetal_plane"])]
            for key in PANELS[self.number]
        ]
        self.json: dict[str, Any] = {"comparisons": comparisons, "confidence": 0.95, "dpi": 72}
        self.files: list[str] = []
        kind: type[FigureSettings] = FigureSettings
        if self.number == "5":
            self.json["own"], kind = synthetic.OWN, figure_5.Figure5Settings
        if self.number == "8":
            self.json |= {"runs": synthetic.RUNS, "organs": synthetic.TASK_ORGANS}
            kind = figure_8.Figure8Settings
        self.settings: Any = kind.model_validate(self.json)
        self.numbers = read_comparisons(self.folders, self.settings)
        more: tuple[Any, ...] = ()
        if self.number == "8":
            selections, encoders = synthetic.write_selections(folder), synthetic.write_encoders(folder)
            cells = sorted(folder.glob("figure_8c/cells/*/*/*/cell.json"))
            self.files = ["--selections", *map(str, selections), "--encoders", *map(str, encoders)]
            self.files += ["--cells", *map(str, cells)]
            data, organs = figure_8.data_sizes(selections, self.settings.runs)
            self.sizes = {"figure_8a": data, "figure_8b": figure_8.model_sizes(encoders)}
            self.training = figure_8.read_training(cells, 0.95)
            more = (self.sizes, organs, self.training)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a missing glyph is a warning
            self.figure: Figure = self.stage.draw(self.numbers, self.settings, *more)
            self.figure.canvas.draw()
        arguments = {"5": (self.settings,), "8": more[:1] + more[2:]}.get(self.number, ())
        self.table: pd.DataFrame = self.stage.drawn_numbers(self.numbers, *arguments)

    @property
    def written(self) -> str:
        return " ".join(" ".join(text.get_text() for text in self.figure.findobj(Text)).split())


@pytest.fixture(scope="module", params=list(CASES))
def drawn_case(request, tmp_path_factory):
    return Drawn(tmp_path_factory.mktemp("figure"), request.param, CASES[request.param])


def test_no_text_of_a_figure_overlaps_or_is_clipped(drawn_case):
    assert overlaps(drawn_case.figure) == []
    assert clipped(drawn_case.figure) == []


def test_sizes_are_the_journals(drawn_case):
    sizes = {text.get_fontsize() for text in drawn_case.figure.findobj(Text) if text.get_text().strip()}
    assert min(sizes) >= 5.5
    assert max(sizes) <= 9
    width, height = drawn_case.figure.get_size_inches() * 25.4
    assert width == pytest.approx(174)
    assert height < 270


def test_what_is_drawn_and_what_is_missing_is_written(drawn_case):
    written = drawn_case.written
    assert ("SIMULATED DATA: demonstration only" in written) == bool(drawn_case.case.get("simulated"))
    for name, item in drawn_case.settings.comparisons.items():
        for task in item.tasks.values():
            assert task.title in written
        if name not in drawn_case.numbers:
            assert "Nothing of it is available here: see the last lines." in written
            assert "Task not available: Fetal plane (private data set, not in the data folder)." in written
    assert "n = 48" in written or "5: no reference" in str(drawn_case.case) or drawn_case.number == "5"
    several = drawn_case.case.get("seeds", 3) > 1
    assert ("t interval over seeds" in written) == several or drawn_case.number == "5"


def test_notes_speak_of_what_is_drawn(drawn_case):
    """No word on P where nothing is compared, nor on panels that are not there."""
    written, numbers = drawn_case.written, drawn_case.numbers
    tested = any(not one.comparisons.empty for one in numbers.values())
    if drawn_case.number == "8":
        assert (" against the strongest other" in written) == (tested and set(numbers) != {"figure_8c"})
        assert ("P values are in the CSV file" in written) == (tested and "figure_8c" in numbers)
    if drawn_case.number == "5":
        assert ("asterisk" in written) == ("needs the reference" not in written) == tested
    assert ("No P values" in written) == (not tested and set(numbers) != {"figure_8c"})


def test_a_reference_that_is_not_here_is_named_by_its_title():
    settings = FigureSettings.model_validate(
        {
            "comparisons": [["figure_8a", synthetic.comparison("figure_8a", ["ovarian_tumor"], ["urfm_data10"])]],
            "confidence": 0.95,
            "dpi": 72,
        }
    ).comparisons["figure_8a"]
    absent = {"kind": "model", "name": "urfm", "title": "URFM", "reason": "no pre-training data"}
    there = settings.model_copy(update={"unavailable": [Unavailable.model_validate(absent)]})
    assert notes.without_p(there) == "No P values: they need URFM and another model."


def test_csv_holds_the_statistics(drawn_case):
    """Every mean drawn is that of the statistics, in percent."""
    means = drawn_case.table.query("quantity == 'mean' and chart != 'validation'")
    source = pd.concat([pd.read_parquet(folder / "scores.parquet") for folder in drawn_case.folders])
    source = source.drop_duplicates(["task", "model", "share", "metric"])
    merged = means.merge(source, on=["task", "model", "share", "metric"], how="left")
    if drawn_case.number != "8":  # the same model is in several panels there, with skills of its own
        both = drawn_case.number == "3" or len(drawn_case.folders) == 1
        rows = merged if both else merged[merged["panel"] == "A"]
        assert rows["value"].to_numpy() == pytest.approx(100 * rows["mean"].to_numpy(), abs=1e-6)
    curves = ["positive"] if drawn_case.number == "3" else []
    assert list(drawn_case.table.columns) == [*figure_4.drawn.COLUMNS, *curves]


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    return Drawn(tmp_path_factory.mktemp("matrix"), "5", {"figure_5": ORGAN_TASKS, "patients": 60, "resamples": 400})


def test_matrix_is_the_difference_of_the_means_and_its_normalised_form_reaches_one(matrix):
    scores = pd.read_parquet(matrix.folders[0] / "scores.parquet").query("metric == 'f1_macro'")
    wide = scores.pivot_table(index="model", columns="task", values="mean") * 100
    for row in matrix.table.query("quantity == 'f1_difference'").itertuples():
        expected = wide.loc[row.model, row.task] - wide.loc["mim_imagenet", row.task]
        assert row.value == pytest.approx(expected, abs=1e-5)
    normalised = matrix.table.query("quantity == 'normalised_difference'")
    assert normalised.groupby("task")["value"].apply(lambda values: values.abs().max()).tolist() == [1.0] * 7
    assert len(normalised) == 6 * 7


@pytest.mark.parametrize(
    "case",
    [
        {"figure_3": ["breast_tumor"], "models": ["usfm", "urfm"]},
        {"figure_4b": ["breast_tumor", "liver_mass"], "models": ["mim_us", "urfm"]},
        {"figure_5": ["breast_tumor", "liver_mass"], "models": ["mim_imagenet", "urfm_breast"]},
        {"figure_8a": ["ovarian_tumor"], "models": ["urfm_data10", "urfm"]},
    ],
    ids=lambda case: next(iter(case)),
)
def test_with_a_split_a_seed_p_and_intervals_are_the_corrected_ones(case, tmp_path):
    p = {"nb_p": 0.013, "nb_p_holm": 0.026}
    values = {"scores": {"nb_low": 0.11, "nb_high": 0.22}, "differences": p, "average_differences": p}
    drawn = Drawn(tmp_path, next(iter(case))[7], case | {"resplit": True, "values": values})
    found = drawn.table.groupby("quantity")["value"].agg(lambda column: set(column.round(6)))
    assert not [name for name in found.index if name.startswith(("boot", "perm"))]
    assert found["nb_p_holm"] == {0.026}
    bars = drawn.table[drawn.table["chart"].isin(["bars", "scaling"])].groupby("quantity")["value"].unique()
    assert (list(bars["nb_low"]), list(bars["nb_high"])) == ([11], [22])
    assert "P = .026" in drawn.written
    assert "Nadeau-Bengio corrected, over re-splits" in drawn.written
    assert "bootstrap" not in drawn.written
    assert "seed-averaged" not in drawn.written
    if drawn.number == "5":  # asterisks at .026
        assert sum("*" in text.get_text() for text in drawn.figure.findobj(Text)) == 4


def test_normalising_keeps_zeros():
    table = pd.DataFrame({"a": [0.0, 0.0], "b": [-4.0, 2.0]})
    assert figure_5.normalised(table).to_dict("list") == {"a": [0, 0], "b": [-1, 0.5]}


def test_p_names_the_strongest_of_those_asked_for():
    scores = pd.DataFrame([("a", 9.0), ("b", 8.0), ("c", 7.0), ("ref", 5.0)], columns=["model", "mean"]).assign(
        task="t", share=100, metric="m"
    )
    differences = scores[scores["model"] != "ref"][["model", "task", "share", "metric"]].assign(difference=1.0)
    assert to_strongest(scores, differences, "ref")["model"].tolist() == ["a"]
    assert to_strongest(scores, differences, "ref", ["b", "c"])["model"].tolist() == ["b"]


def test_labels_are_spread_no_further_than_needed():
    assert figure_4.spread([10, 1, 5], 2) == [10, 1, 5]
    assert figure_4.spread([5.0, 5.0, 5.0], 2) == [3, 5, 7]
    placed = figure_4.spread([1.0, 1.5, 9.0, 2.0], 1)
    assert placed == pytest.approx([0.5, 1.5, 9, 2.5])


def test_validation_curves_have_the_t_interval_of_scipy(tmp_path):
    synthetic.write_statistics(tmp_path, "figure_8c", ["liver_mass"], ["urfm"], seeds=4)
    images, curves = figure_8.read_training(sorted(tmp_path.glob("cells/*/*/*/cell.json")), 0.9)
    assert images == {("urfm", "liver_mass", 100): 144}
    history = synthetic.history(4, 0.0)
    values = 100 * history[history["epoch"] == 7]["val_f1_macro"]
    expected = stats.t.interval(0.9, 3, loc=values.mean(), scale=stats.sem(values))
    row = curves[curves["epoch"] == 7].iloc[0]
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(expected)
    assert row["seconds"] == pytest.approx(2.15)


def test_history_without_a_column_is_named(tmp_path):
    synthetic.write_statistics(tmp_path, "figure_8c", ["liver_mass"], ["urfm"])
    history = next(tmp_path.glob("cells/*/*/*/history.csv"))
    pd.read_csv(history).drop(columns="seconds").to_csv(history, index=False)
    with pytest.raises(UrfmError, match="no column seconds"):
        figure_8.read_training([history.with_name("cell.json")], 0.95)


def test_convergence_is_the_first_epoch_near_the_best():
    curve = pd.DataFrame({"epoch": [1, 2, 3, 4], "mean": [50.0, 79.3, 79.1, 80.0]})
    assert figure_8.converged(curve) == (2, 79.3)


def test_sizes_are_named_only_where_names_differ(tmp_path):
    paths = synthetic.write_encoders(tmp_path)
    assert [size.name for size in figure_8.model_sizes(paths).values()] == ["ViT-B", "ViT-L", "ViT-H"]
    record = read_json(paths[1]) | {"architecture": "vit_base_patch16_224"}
    paths[1].write_text(json.dumps(record))
    assert [size.name for size in figure_8.model_sizes(paths).values()] == ["", "", ""]
    assert figure_8.model_sizes(paths)["urfm"].x == pytest.approx(85.8, abs=0.01)


def test_images_of_organs_are_those_of_the_whole_set(tmp_path):
    sizes, organs = figure_8.data_sizes(synthetic.write_selections(tmp_path), synthetic.RUNS)
    assert organs["ovary"] == 3593
    assert sizes["urfm"].x == 1_003_465  # the sum of the paper's Table 1
    assert sizes["urfm_data10"].name == "10 %"


def test_statistics_of_another_figure_are_refused(matrix):
    settings = FigureSettings.model_validate(
        {"comparisons": [["figure_4b", synthetic.comparison("figure_4b", NAMES)]], "confidence": 0.95, "dpi": 100}
    )
    with pytest.raises(UrfmError, match="statistics of figure_5, but --settings describe figure_4b"):
        read_comparisons(matrix.folders, settings)


def test_stand_ins_are_named(tmp_path):
    folder = synthetic.write_statistics(tmp_path, "figure_4b", ["breast_tumor"])
    record = read_json(folder / "statistics.json") | {"stand_ins": ["urfm_clip"]}
    (folder / "statistics.json").write_text(json.dumps(record))
    settings = FigureSettings.model_validate(
        {
            "comparisons": [["figure_4b", synthetic.comparison("figure_4b", ["breast_tumor"])]],
            "confidence": 0.95,
            "dpi": 100,
        }
    )
    figure = figure_4.draw(read_comparisons([folder], settings), settings)
    written = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "not the published model: URFM (CLIP targets)." in " ".join(written.split())


def test_seeds_that_learnt_nothing_are_named_once(tmp_path):
    """A cell that two comparisons share is said once; smaller shares say so; other tasks and models are left out."""
    tasks = {"breast_tumor": "predicts only benign", "liver_mass": "training loss has not left the class prior"}
    rows = [
        {"model": model, "task": task, "share": share, "seeds": seeds, "of": 3, "words": words}
        for model in ("urfm", "usfm")
        for task, words in tasks.items()
        for share, seeds in ((10, [1]), (100, [0, 1, 2]))
    ]
    rows.append({**rows[0], "task": "kidney_tumor"})
    comparisons, folders = [], []
    for name in ("figure_4a", "figure_4b"):
        folders.append(synthetic.write_statistics(tmp_path / name, name, list(tasks), shares=[10, 100]))
        record = read_json(folders[-1] / "statistics.json")
        (folders[-1] / "statistics.json").write_text(json.dumps(record | {"warnings": rows}))
        comparisons.append([name, synthetic.comparison(name, list(tasks))])
    settings = FigureSettings.model_validate({"comparisons": comparisons, "confidence": 0.95, "dpi": 100})
    said = notes.warnings(
        (settings.comparisons[name], one) for name, one in read_comparisons(folders, settings).items()
    )
    assert said == [
        "Predicts only one class of the test part: URFM (Breast tumor at 10 %: benign, 1 of 3 seeds; Breast tumor: "
        "benign, 3 of 3 seeds). Training loss has not left the class prior: URFM (Liver mass at 10 %, 1 of 3 seeds; "
        "Liver mass, 3 of 3 seeds)."
    ]
    assert notes.missing(settings, read_comparisons(folders, settings)).count(said[0]) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notes, "LISTED", 1)
        counted = notes.warnings(
            (settings.comparisons[name], one) for name, one in read_comparisons(folders, settings).items()
        )
    assert counted == [
        "Predicts only one class of the test part, in some seeds: URFM (1 task). Training loss has not left the class "
        "prior, in some seeds: URFM (1 task)."
    ]
    assert len(read_numbers(folders[0], settings.comparisons["figure_4a"]).warnings) == 2  # of the whole part alone


GOLDEN: dict[str, dict[str, Any]] = {
    "3": {"figure_3": ["breast_tumor"], "models": ["mim_us", "urfm"]},
    "4": {"figure_4b": ["breast_tumor", "liver_mass"]},
    "5": {"figure_5": ["breast_tumor", "liver_mass"], "models": ["mim_imagenet", "urfm_breast", "urfm_liver"]},
    "8": {"figure_8a": ["ovarian_tumor"], "figure_8c": ["liver_mass"], "models": ["urfm_data10", "urfm"], "seeds": 2},
}


@pytest.mark.parametrize("number", list(GOLDEN))
def test_stage_equals_its_golden_csv_and_picture(number, tmp_path, monkeypatch):
    """Golden files were made by the stage and looked at; the tests above hold the numbers against their sources."""
    case = Drawn(tmp_path, number, GOLDEN[number])
    output = tmp_path / "out" / f"figure_{number}"
    arguments = ["--settings", json.dumps(case.json), "--statistics", *map(str, case.folders), *case.files]
    monkeypatch.setattr(sys, "argv", ["stage", *arguments, "--output", str(output)])
    run(case.stage.main)
    table = pd.read_csv(f"{output}.csv").query("chart != 'roc'").reset_index(drop=True)
    golden = HERE / "golden" / f"figure_{number}"
    pd.testing.assert_frame_equal(table, pd.read_csv(f"{golden}.csv"), rtol=1e-6, atol=1e-6, check_dtype=False)
    assert Path(f"{output}.pdf").stat().st_size > 5000
    baseline = tmp_path / "baseline.png"  # compare_images writes beside it
    baseline.write_bytes(Path(f"{golden}.png").read_bytes())
    assert compare_images(str(baseline), f"{output}.png", tol=5) is None


def test_a_picture_with_other_bars_is_told_apart(tmp_path):
    """The tolerance is not so wide that anything passes."""
    case = Drawn(tmp_path / "a", "4", GOLDEN["4"])
    for axes in case.figure.axes:
        if axes.get_ylabel() == "F1 (%)":
            for bar in axes.patches:
                bar.set_height(0.7 * bar.get_height())
    case.figure.savefig(tmp_path / "other.png", dpi=72)
    baseline = tmp_path / "baseline.png"
    baseline.write_bytes((HERE / "golden" / "figure_4.png").read_bytes())
    assert compare_images(str(baseline), str(tmp_path / "other.png"), tol=5) is not None
