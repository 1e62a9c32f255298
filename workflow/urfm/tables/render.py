"""What every table takes and writes: the same cells as CSV, Markdown and LaTeX (booktabs)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from urfm.core import text
from urfm.core.files import write_csv, write_text

NONE = "–"
SIMULATED = "SIMULATED DATA: demonstration only."  # first note of a table with simulated data


def count(number: int | None) -> str:
    """1,064; a dash where the number is not known."""
    return NONE if number is None else f"{number:,}"


@dataclass(frozen=True)
class Table:
    """Cells as they are printed. `name` is "Table 2"; `numbers` names the columns that are aligned right."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    numbers: Sequence[str] = ()


def arguments(description: str) -> argparse.ArgumentParser:
    """--settings and --output; a table adds its inputs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", required=True, help="JSON of the stage's settings")
    parser.add_argument("--output", type=Path, required=True, help="path without suffix; .csv, .md and .tex are made")
    return parser


def write_table(stem: Path, table: Table) -> None:
    """Write <stem>.csv, <stem>.md and <stem>.tex."""
    write_csv(_with_suffix(stem, "csv"), pd.DataFrame(table.rows, columns=list(table.columns)))
    write_text(_with_suffix(stem, "md"), markdown(table))
    write_text(_with_suffix(stem, "tex"), latex(table))


def _with_suffix(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}.{suffix}")


def markdown(table: Table) -> str:
    """A GitHub table with name and title above and its notes below."""
    rules = ["---:" if column in table.numbers else "---" for column in table.columns]
    cells = [[text.markdown(cell) for cell in row] for row in (table.columns, *table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in (cells[0], rules, *cells[1:])]
    notes = [f"- {text.markdown(note)}" for note in table.notes]
    return "\n".join(
        [f"**{table.name}. {text.markdown(table.title)}**", "", *lines, *([""] if notes else []), *notes, ""]
    )


def latex(table: Table) -> str:
    r"""A `table` environment; the document needs \usepackage{booktabs} and numbers the table itself."""
    alignment = "".join("r" if column in table.numbers else "l" for column in table.columns)
    header, *body = (" & ".join(_latex(cell) for cell in row) + r" \\" for row in (table.columns, *table.rows))
    notes = [rf"\par\smallskip\footnotesize {_latex(note)}" for note in table.notes]
    return "\n".join([
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table}",
        "",
    ])  # fmt: skip


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "β": r"$\beta$",
    "−": r"$-$",
    "≠": r"$\neq$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {character: f"\\{character}" for character in "&%$#_{}"}


def _latex(content: str) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(content.split()))
