"""AUROC of frozen features over the epochs of pre-training (stage `probe_curves`).

A line per kind of pre-training: the mean over its seeds, each seed thin beside it. The band is untrained networks of
other seeds, the least that pre-training must beat. The bar at the right is the uncertainty over patients at the last
epoch: with few test patients it is much wider than that over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, verify_sha256
from urfm.core.progress import say
from urfm.figures import style
from urfm.figures.output import arguments, save
from urfm.figures.style import DOUBLE_COLUMN, GREY, LABEL, LINE, SMALL, TITLE, Appearance
from urfm.metrics import METRICS, FloatArray, IntArray, macro_auroc
from urfm.statistics.bootstrap import (
    FEW,
    bootstrap_scores,
    expanded_interval,
    patient_strata,
    rarest,
    task_seed,
)

PROBES = {"knn": "k-NN", "linear": "Linear probe"}
RANDOM = "random"
LEFT, RIGHT, GAP = 14.0, 2.0, 9.0  # mm beside and between panels
HEIGHT, BELOW = 36.0, 12.0
COLUMNS = ["task", "probe", "series", "encoder", "seed", "epoch", "auroc", "low", "high"]


class Series(Settings):
    """A line: runs of one kind, which differ in their seed."""

    title: str
    runs: list[str] = Field(min_length=1)


class ProbeCurvesSettings(Settings):
    """Settings of the stage. Lists of pairs keep their order."""

    series: list[Series]
    models: list[tuple[str, str]]  # name, title
    tasks: list[tuple[str, str]]
    neighbours: int
    confidence: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=1)
    bootstrap_seed: int = Field(ge=0)
    notes: list[str]
    dpi: int = Field(ge=72)


class Test(NamedTuple):
    """Predictions of one probe of one encoder for the test part of a task, sorted by image."""

    labels: IntArray
    patients: list[str]
    probabilities: FloatArray


class Predictions(NamedTuple):
    """Of a task: a Test for each (probe, encoder, seed, epoch), and how many images and patients are tested."""

    tests: dict[tuple[str, str, int, int], Test]
    images: int
    patients: int | None  # None: unknown, each image counts as one
    simulated: bool
    stand_ins: frozenset[str]  # runs and models that are, or were taught by, random weights


def read_predictions(files: Sequence[Path]) -> dict[str, Predictions]:
    """Task to predictions, from the json files of the stage `probe`; an UrfmError where they disagree on the images."""
    found: dict[str, Predictions] = {}
    for path in files:
        record = read_json(path)
        table_path = path.with_suffix(".parquet")
        verify_sha256(table_path, record["sha256"])
        table = pd.read_parquet(table_path).sort_values("image_id")
        columns = [f"p_{name}" for name in record["classes"]]
        tests: dict[Any, Test] = {}
        for key, part in table.groupby(["probe", "encoder", "seed", "epoch"], sort=False):
            labels = part["label"].map(record["classes"].index).to_numpy(np.int64)
            tests[key] = Test(labels, part["patient_id"].astype(str).tolist(), part[columns].to_numpy(np.float64))
        first = next(iter(tests.values()))
        patients = len(set(first.patients)) if record["patients_known"] else None
        known = found.setdefault(record["task"], Predictions({}, len(first.labels), patients, False, frozenset()))
        other = next(iter(known.tests.values()), first)
        if other.patients != first.patients or not np.array_equal(other.labels, first.labels):
            raise UrfmError(f"{path}: other test images than in the other files of {record['task']}; probe again")
        found[record["task"]] = known._replace(
            tests=known.tests | tests,
            simulated=known.simulated or record["simulated"],
            stand_ins=known.stand_ins | ({record["name"]} if record["stand_in"] else frozenset()),
        )
    return found


def area(test: Test) -> float:
    """AUROC, macro one-vs-rest for several classes."""
    return float(macro_auroc(test.labels, test.probabilities, np.ones((len(test.labels), 1)))[0])


def patient_interval(tests: Sequence[Test], task: str, settings: ProbeCurvesSettings) -> tuple[float, float]:
    """Bootstrap interval over patients of the mean AUROC of several seeds; NaN where a class has too few patients."""
    labels, patients = tests[0].labels, tests[0].patients
    if rarest(patients, labels) < FEW:
        return float("nan"), float("nan")
    probabilities = np.stack([test.probabilities for test in tests])
    seed = task_seed(settings.bootstrap_seed, task)
    drawn = bootstrap_scores(labels, patients, {"": probabilities}, settings.resamples, seed)[""]["auroc"]
    return expanded_interval(drawn, settings.confidence, min(map(len, patient_strata(patients, labels)[1])))


def numbers(predictions: dict[str, Predictions], settings: ProbeCurvesSettings) -> pd.DataFrame:
    """All that is drawn, COLUMNS: a row per encoder, and one (encoder `mean`) per series, task, probe and epoch.

    `low` and `high` are the interval over patients of the mean of a series at its last epoch, of a model, and of the
    mean of the untrained networks.
    """
    rows: list[tuple[object, ...]] = []
    for task, _ in settings.tasks:
        tests = predictions[task].tests if task in predictions else {}
        for probe in PROBES:
            groups: list[tuple[str, list[str]]] = [(entry.title, entry.runs) for entry in settings.series]
            groups += [("Random initialisation", [RANDOM]), *((title, [name]) for name, title in settings.models)]
            for title, names in groups:
                own = {key[1:]: test for key, test in tests.items() if key[0] == probe and key[1] in names}
                rows += [(task, probe, title, *key, area(test), None, None) for key, test in own.items()]
                epochs = sorted({epoch for _, _, epoch in own})
                for epoch in epochs:
                    here = [test for key, test in own.items() if key[2] == epoch]
                    last = epoch == epochs[-1]
                    interval = patient_interval(here, task, settings) if last else (None, None)
                    mean = float(np.mean([area(test) for test in here]))
                    rows.append((task, probe, title, "mean", None, epoch, mean, *interval))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"auroc": float, "low": float, "high": float})


def draw(table: pd.DataFrame, predictions: dict[str, Predictions], settings: ProbeCurvesSettings) -> Figure:
    """The figure: a row per probe, a column per task."""
    tasks = [(task, title) for task, title in settings.tasks if task in predictions]
    simulated = any(found.simulated for found in predictions.values())
    looks = style.appearances([entry.runs[0] for entry in settings.series] + [name for name, _ in settings.models])
    keys = [(entry.title, looks[entry.runs[0]]) for entry in settings.series]
    levels = [(title, looks[name]) for name, title in settings.models if title in set(table["series"])]
    titles = {entry.runs[0]: entry.title for entry in settings.series} | dict(settings.models)
    stand_ins = sorted({name for found in predictions.values() for name in found.stand_ins})
    said = [*sentences(table, settings), *style.stand_in_note(titles, stand_ins)]
    notes = [line for sentence in said for line in style.wrap(sentence, DOUBLE_COLUMN - 4)]
    top = (style.SIMULATED_BAND if simulated else 1.0) + 13
    body = len(PROBES) * (HEIGHT + BELOW) if tasks else 0
    figure = style.new_figure(DOUBLE_COLUMN, top + 4 + body + len(notes) * LINE + 4)
    if simulated:
        style.mark_simulated(figure)
    style.add_text(figure, 2, top - 12, "Probes of frozen features during pre-training", TITLE, weight="bold")
    last = int(table.loc[table["encoder"] == "mean", "epoch"].max()) if tasks else 0
    width = (DOUBLE_COLUMN - LEFT - RIGHT - (len(tasks) - 1) * GAP) / max(len(tasks), 1)
    first: Axes | None = None
    for row, (probe, probe_title) in enumerate(PROBES.items()):
        for column, (task, title) in enumerate(tasks):
            axes = style.add_axes(
                figure, LEFT + column * (width + GAP), top + 4 + row * (HEIGHT + BELOW), width, HEIGHT
            )
            first = first or axes
            panel = table[(table["task"] == task) & (table["probe"] == probe)]
            draw_panel(axes, panel, keys, levels, last)
            found = predictions[task]
            tested = f"n = {found.images:,}" + (f", {found.patients:,} patients" if found.patients else "")
            axes.set_title(f"{title} ({tested})" if row == 0 else "", loc="left", pad=3)
            axes.set_xlabel("Epoch of pre-training")
            if column == 0:
                axes.set_ylabel(f"{probe_title}: {METRICS['auroc'].title}", fontsize=LABEL)
    if first is not None:
        handles, labels = first.get_legend_handles_labels()
        labels = [
            f"{label} (stand-in)" if label in {titles.get(name) for name in stand_ins} else label for label in labels
        ]
        page = figure.get_size_inches() * 25.4
        figure.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(2 / page[0], 1 - (top - 7.5) / page[1]),
            ncols=5, borderaxespad=0, handlelength=3, columnspacing=1.5,
        )  # fmt: skip
    style.add_text(figure, 2, top + 4 + body, "\n".join(notes), SMALL, linespacing=1.2)
    return figure


def draw_panel(
    axes: Axes,
    panel: pd.DataFrame,
    series: Sequence[tuple[str, Appearance]],
    levels: Sequence[tuple[str, Appearance]],
    last: int,
) -> None:
    """One probe on one task; `last` is the last epoch of any series."""
    margin = max(last, 1) * 0.05
    axes.axhline(0.5, color="black", linewidth=0.4, zorder=1, label="chance")
    untrained = panel[(panel["series"] == "Random initialisation")]
    values = untrained.loc[untrained["encoder"] == RANDOM, "auroc"]
    if len(values):
        axes.axhspan(
            values.min(),
            values.max(),
            color="#D9D9D9",
            linewidth=0,
            zorder=0,
            label="Random initialisation, range of seeds",
        )
        axes.axhline(values.mean(), color=GREY, linewidth=0.7, linestyle=(0, (1, 1)), zorder=1, label="its mean")
    for number, (title, look) in enumerate(series):
        own = panel[panel["series"] == title].sort_values("epoch")
        means = own[own["encoder"] == "mean"]
        if means.empty:
            continue
        seeds = own[own["encoder"] != "mean"]
        if len(set(seeds["encoder"])) > 1:
            for _, line in seeds.groupby("encoder"):
                axes.plot(line["epoch"], line["auroc"], color=look.color, linewidth=0.4, alpha=0.7, zorder=2)
        axes.plot(
            means["epoch"], means["auroc"], color=look.color, linestyle=look.line, linewidth=1.3, marker=look.marker,
            markersize=2.8, zorder=3, label=title,
        )  # fmt: skip
        end = means.iloc[-1]
        place = last + margin * (1 + number)
        axes.plot([place, place], [end["low"], end["high"]], color=look.color, linewidth=1, clip_on=False)
        axes.plot(place, end["auroc"], marker=look.marker, color=look.color, markersize=2.8)
    for title, look in levels:
        own = panel[(panel["series"] == title) & (panel["encoder"] == "mean")]
        if len(own):
            axes.axhline(
                own["auroc"].iloc[0], color=look.color, linewidth=0.9, linestyle=look.line, zorder=1, label=title
            )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-margin / 2, last + margin * (1 + max(len(series), 1)))


def sentences(table: pd.DataFrame, settings: ProbeCurvesSettings) -> list[str]:
    """What must be known to read the picture."""
    if table.empty:
        return ["Nothing can be drawn here.", *settings.notes]
    seeds = "; ".join(f"{entry.title} {len(entry.runs)}" for entry in settings.series)
    untrained = table.loc[table["encoder"] == RANDOM, "seed"].nunique()
    return [
        "Features of the test images from the frozen encoder; classifiers are trained on the training part. k-NN: "
        f"{settings.neighbours} nearest by cosine, weighted. Linear probe: logistic regression, its penalty chosen on "
        "the validation part. AUROC is macro one-vs-rest for more than two classes.",
        f"Thick lines: mean over the seeds of pre-training (number of seeds: {seeds}); thin lines: each seed. Grey "
        f"band: range of {untrained} untrained networks. Bars at the right: {100 * settings.confidence:g} % interval "
        "over patients (bootstrap) of the mean at the last epoch; lines whose bars overlap widely must not be ranked.",
        *settings.notes,
    ]


def main() -> None:
    """Command line of the stage."""
    parser = arguments("Draw probes of frozen features over the epochs of pre-training.")
    parser.add_argument("--probes", type=Path, nargs="*", default=[], help="json files of the stage probe")
    options = parser.parse_args()
    settings = parse_settings(ProbeCurvesSettings, options.settings)
    predictions = read_predictions(options.probes)
    table = numbers(predictions, settings)
    save(options.output, draw(table, predictions, settings), settings.dpi, table.round(6))
    say(f"probes of {len(settings.series)} kind(s) of pre-training in {options.output}.pdf, .png and .csv")


if __name__ == "__main__":
    run(main)
