"""Sentences at the foot of a figure: what bars, lines and P values are, and what is not drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from urfm.figures import style
from urfm.figures.read import (
    PATIENTS,
    RESPLITS,
    Comparison,
    FigureSettings,
    Numbers,
    positive_name,
    unavailable,
)
from urfm.statistics.equivalence import POWER

LISTED = 6  # cells with a warning that a note names one by one


def several_seeds(numbers: Iterable[Numbers]) -> bool:
    return any((one.scores["seeds"] > 1).any() for one in numbers)


def bars(numbers: Sequence[Numbers], confidence: float) -> str:
    """What bars and lines are."""
    level = f"{100 * confidence:g} %"
    if several_seeds(numbers):
        start = f"Bars: mean over seeds. Black line: {level} t interval over seeds (the paper's error bar). "
    else:
        start = "Bars: one seed, so there is no interval over seeds. "
    return (
        start
        + grey_lines(numbers, level)
        + without_seed(numbers)
        + ("Intervals are cut at 0 % and 100 %. " if max(highest(one) for one in numbers) > 100 else "")
        + "A zigzag means that bars and axis do not start at 0."
    )


def without_seed(numbers: Sequence[Numbers]) -> str:
    """Why some bars have no interval over seeds."""
    if not any(one.deterministic for one in numbers) or not several_seeds(numbers):
        return ""
    return (
        "Without black line: a classifier on features that are not trained, the same for every seed; its uncertainty "
        "is the interval over patients. "
    )


def lines(titles: Sequence[str]) -> list[str]:
    """What the lines across the bars are; nothing without any."""
    if not titles:
        return []
    return [f"Lines across the bars: {', '.join(titles)}, mean over seeds; intervals are in the CSV file, no P values."]


def grey_lines(numbers: Sequence[Numbers], level: str) -> str:
    """What takes other patients into account, of each kind that is drawn."""
    kinds = [one.over for one in numbers]
    said = ""
    if PATIENTS in kinds:
        said += (
            f"Grey line: {level} interval over patients of the same mean "
            f"(bootstrap, {numbers[0].resamples:,} resamples of patients within classes). "
        )
    if RESPLITS in kinds:
        beside = " where every seed has a split of its own" if PATIENTS in kinds else ""
        said += f"Grey line{beside}: {level} interval, {RESPLITS.name}. "
    if any(one.scores["few_patients"].any() for one in numbers):
        said += "Without grey line: too few patients of a class. "
    return said


def roc(comparisons: Sequence[tuple[Comparison, Numbers]]) -> str:
    """What the ROC curves are of, and what is positive in them."""
    kinds = [one.over for _, one in comparisons]
    of = ["of seed-averaged predictions"] if PATIENTS in kinds else []
    of += ["averaged over re-splits"] if RESPLITS in kinds else []
    tasks: dict[str, dict[str, None]] = {}  # by name of the positive class
    for settings, one in comparisons:
        for task in one.tasks:
            tasks.setdefault(positive_name(settings, one, task), {})[settings.tasks[task].title] = None
    several = tasks.pop("", None)
    positive = "; ".join(f"{name} ({', '.join(titles)})" for name, titles in tasks.items())
    sentences = [f"ROC curves {', or '.join(of)}"]
    sentences += [f"positive: {positive}"] if positive else []
    sentences += ["one-vs-rest, averaged, for more than two classes"] if several else []
    return f"{'; '.join(sentences)}."


def blind_to(numbers: Numbers) -> str:
    """What is wrong with a t-test over seeds."""
    if numbers.over == RESPLITS:
        return "takes no account of the training images that re-splits share"
    return "measures variation over seeds only"


def corrected(numbers: Numbers) -> str:
    """Whether printed P values are corrected for several tests."""
    if numbers.over == RESPLITS:
        return " P is corrected by Holm's method for all tasks and models; uncorrected values are in the CSV file."
    return " Not corrected for several tests; Holm-corrected values are in the CSV file."


def power(numbers: Numbers) -> str:
    """How large a difference must be to be found here, so that "not significant" is read as what it is."""
    smallest = numbers.comparisons["detectable"].dropna()
    if smallest.empty:
        return ""
    first, last = f"{smallest.min():.1f}", f"{smallest.max():.1f}"
    return (
        f" Smallest difference that such a test part shows with a power of {100 * POWER:g} %: "
        f"{first if first == last else f'{first} to {last}'} points."
    )


def test_over(numbers: Numbers) -> str:
    """How P was found."""
    draws = "" if numbers.over == RESPLITS else f" ({numbers.draws:,} draws)"
    return numbers.over.name + draws


def highest(numbers: Numbers) -> float:
    return float(np.nanmax(numbers.scores[numbers.over.score]))


def reference_title(settings: Comparison) -> str:
    """The title of the model that others are compared with, whether it is here or not."""
    absent = {entry.name: entry.title for entry in settings.unavailable if entry.kind == "model"}
    return (absent | settings.models).get(settings.reference, settings.reference)


def without_p(settings: Comparison) -> str:
    """Why there are no P values."""
    return f"No P values: they need {reference_title(settings)} and another model."


def p_values(numbers: Numbers, settings: Comparison, mark: str = "bracket") -> str:
    """Which models the printed P values compare, and how."""
    reference = reference_title(settings)
    if numbers.comparisons.empty:
        return without_p(settings)
    others = [settings.models[model] for model in settings.against if model in numbers.models]
    strongest = f"the strongest of {', '.join(others)}" if len(others) > 1 else "".join(others)
    test = {"welch": "Welch", "paired": "paired"}[numbers.t_test]
    return (
        f"P: {reference} against {strongest or 'the strongest other model'} ({mark}), two-sided, "
        + test_over(numbers)
        + (
            f"; t: the paper's two-sided {test} t-test, its P, which {blind_to(numbers)}."
            if several_seeds([numbers])
            else "."
        )
        + corrected(numbers)
        + power(numbers)
    )


def warnings(comparisons: Iterable[tuple[Comparison, Numbers]]) -> list[str]:
    """The note on seeds that have learnt nothing: those that predict one class, and those left at the class prior.

    A few are named one by one; of many, how many tasks of each model (statistics.json lists them).
    """
    found: dict[str, dict[str, dict[str, str]]] = {}  # heading: model: words: task
    for settings, numbers in comparisons:
        for row in numbers.warnings:
            only = row["words"].removeprefix("predicts only ")
            one_class = only != row["words"]
            heading = "Predicts only one class of the test part" if one_class else only.capitalize()
            cells = found.setdefault(heading, {}).setdefault(settings.models[row["model"]], {})
            task = settings.tasks[row["task"]].title
            said = task + (f" at {row['share']} %" if row["share"] < 100 else "")
            said += (
                f": {only}" if one_class else ""
            ) + f", {len(row['seeds'])} of {row['of']} seed{'s' * (row['of'] > 1)}"
            cells[said] = task  # once, also if another comparison has it
    sentences = []
    for heading, models in sorted(found.items()):
        few = sum(len(cells) for cells in models.values()) <= LISTED
        listed = [
            f"{model} ({'; '.join(cells) if few else counted(cells.values())})" for model, cells in models.items()
        ]
        sentences.append(f"{heading}{'' if few else ', in some seeds'}: {', '.join(listed)}.")
    return [" ".join(sentences)] if sentences else []


def counted(tasks: Iterable[str]) -> str:
    """How many different tasks these are."""
    number = len(set(tasks))
    return f"{number} task{'s' * (number > 1)}"


def missing(settings: FigureSettings, numbers: Mapping[str, Numbers]) -> list[str]:
    """The configuration's notes, stand-ins, warnings, and what is not available, each once for the whole figure."""
    titles = {model: settings.comparisons[name].models[model] for name, one in numbers.items() for model in one.models}
    said = style.stand_in_note(titles, [model for one in numbers.values() for model in one.stand_ins])
    said += warnings((settings.comparisons[name], one) for name, one in numbers.items())
    said += [note for name in numbers for note in settings.comparisons[name].notes]
    lacking = [entry for name, item in settings.comparisons.items() for entry in unavailable(item, numbers.get(name))]
    return [*dict.fromkeys(said), *style.note_unavailable([*dict.fromkeys(lacking)])]
