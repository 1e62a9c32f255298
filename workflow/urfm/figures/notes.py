"""Sentences at the foot of a figure: what bars, lines and P values are, and what is not drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from urfm.figures import style
from urfm.figures.read import INTERVAL, Comparison, FigureSettings, Numbers, unavailable

ROC = "ROC curves of seed-averaged predictions; one-vs-rest, averaged, for more than two classes."


def several_seeds(numbers: Iterable[Numbers]) -> bool:
    return any((one.scores["seeds"] > 1).any() for one in numbers)


def bars(numbers: Sequence[Numbers], confidence: float) -> str:
    """What bars, lines and diamonds are."""
    level = f"{100 * confidence:g} %"
    if several_seeds(numbers):
        start = f"Bars: mean over seeds. Black line: {level} t interval over seeds (the paper's error bar). "
    else:
        start = "Bars: one seed, so there is no interval over seeds. "
    return (
        f"{start}Diamond and grey line: seed-averaged predictions and their {level} interval over patients "
        f"(bootstrap, {numbers[0].resamples:,} resamples of patients within classes). "
        + ("Intervals are cut at 0 % and 100 %. " if max(highest(one) for one in numbers) > 100 else "")
        + "A zigzag means that bars and axis do not start at 0."
    )


def highest(numbers: Numbers) -> float:
    return float(np.nanmax(numbers.scores[INTERVAL]))


def p_values(numbers: Numbers, settings: Comparison, mark: str = "bracket") -> str:
    """Which models the printed P values compare, and how."""
    reference = settings.models.get(settings.reference, settings.reference)
    if numbers.comparisons.empty:
        return f"No P values: they need {reference} and another model."
    others = [settings.models[model] for model in settings.against if model in numbers.models]
    strongest = f"the strongest of {', '.join(others)}" if len(others) > 1 else "".join(others)
    test = {"welch": "Welch", "paired": "paired"}[numbers.t_test]
    return (
        f"P: {reference} against {strongest or 'the strongest other model'} ({mark}), two-sided, "
        "bootstrap over patients"
        + (
            f"; t: the paper's two-sided {test} t-test, its P, which measures variation over seeds only."
            if several_seeds([numbers])
            else "."
        )
        + " Not corrected for several tests; Holm-corrected values are in the CSV file."
    )


def missing(settings: FigureSettings, numbers: Mapping[str, Numbers]) -> list[str]:
    """The configuration's notes, stand-ins, and what is not available, each once for the whole figure."""
    titles = {model: settings.comparisons[name].models[model] for name, one in numbers.items() for model in one.models}
    said = style.stand_in_note(titles, [model for one in numbers.values() for model in one.stand_ins])
    said += [note for name in numbers for note in settings.comparisons[name].notes]
    lacking = [entry for name, item in settings.comparisons.items() for entry in unavailable(item, numbers.get(name))]
    return [*dict.fromkeys(said), *style.note_unavailable([*dict.fromkeys(lacking)])]
