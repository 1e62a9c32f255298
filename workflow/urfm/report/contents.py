"""Figures and tables of the report: their order, captions and files (workflow/report/contents.yaml).

A result is `<results>/figures/<name>.png` with .pdf and .csv beside it, or `<results>/tables/<name>.csv` with .md and
.tex, or both. What lies in these folders and is not listed is shown too; what is listed and not there is named.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from docutils.core import publish_parts

from urfm.core.errors import UrfmError
from urfm.core.files import read_text_csv

FOLDERS = ("figures", "tables")
SHOWN = 300  # rows of a table in the page; its CSV has all
LONG = 24  # rows from which a table is folded


@dataclass(frozen=True)
class Table:
    """Cells as text; `rows` are at most SHOWN of `length`.

    `numbers` are the places of columns that are aligned right, `prose` those of columns that need room.
    """

    columns: list[str]
    rows: list[list[str]]
    numbers: frozenset[int]
    prose: frozenset[int]
    length: int

    @property
    def folded(self) -> bool:
        return self.length > LONG


@dataclass(frozen=True)
class Item:
    """One figure or table: picture as a data URI, alternative text, HTML caption, table, its notes, relative links."""

    name: str
    title: str
    caption: str = ""
    alternative: str = ""
    picture: str = ""
    table: Table | None = None
    notes: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        return bool(self.picture or self.table)


def read_contents(
    pages: Path, results: Path, output: Path, comparisons: Mapping[str, str] | None = None
) -> dict[str, list[Item]]:
    """Section name -> its items in order.

    Parameters
    ----------
    pages
        Folder of contents.yaml and the captions.
    results
        Folder of the results.
    output
        The page, from which links start.
    comparisons
        Name and title of each comparison of the user's own, which make up the section `comparisons`.
    """
    path = pages / "contents.yaml"
    try:
        listed: dict[str, list[dict[str, str]]] = yaml.safe_load(path.read_text(encoding="utf-8"))
        places = {entry["name"]: section for section, entries in listed.items() for entry in entries}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UrfmError(f"{path}: expected sections with lists of {{name, title}} ({error}); restore it") from error
    sections: dict[str, list[Item]] = {}
    for section, entries in listed.items():
        sections[section] = []
        for entry in entries:
            sections[section].append(read_item(pages, results, output, **entry))
            for name in unlisted(results, places):
                if name.rstrip("abcdefgh") == entry["name"]:  # figure_4a belongs to figure_4
                    sections[section].append(read_item(pages, results, output, name))
    sections["comparisons"] = [
        read_item(pages, results, output, name, title, caption="comparison")
        for name, title in (comparisons or {}).items()
    ]
    shown = {item.name for items in sections.values() for item in items}
    sections["further"] = [
        read_item(pages, results, output, name) for name in unlisted(results, places) if name not in shown
    ]
    return sections


def unlisted(results: Path, listed: dict[str, str]) -> Iterator[str]:
    """Names of pictures and tables that contents.yaml does not list: paths below figures/ or tables/."""
    found = {
        path.relative_to(results / folder).with_suffix("").as_posix()
        for folder, suffix in zip(FOLDERS, ("png", "csv"), strict=True)
        for path in (results / folder).rglob(f"*.{suffix}")
        if not any(part.startswith(".") for part in path.relative_to(results).parts)  # half written
    }
    yield from sorted(found - listed.keys())


def read_item(
    pages: Path, results: Path, output: Path, name: str, title: str = "", caption: str = "", file: str = ""
) -> Item:
    """One entry of contents.yaml; `file` is a path below the results, without suffix, that lies elsewhere."""
    title = title or name.replace("_", " ").replace("/", ": ").capitalize()
    stems = [results / file] if file else [results / folder / name for folder in FOLDERS]
    files = [Path(f"{stem}.{suffix}") for stem in stems for suffix in ("pdf", "png", "csv", "md", "tex", "parquet")]
    there = {path.suffix[1:]: path for path in files if path.is_file()}
    text = read_text(pages / f"{caption or name}.rst")
    notes: list[str] = []
    if "md" in there:
        notes = table_notes(there["md"].read_text(encoding="utf-8"))
    drawn = "png" in there and there.get("csv", Path()).parent == there["png"].parent
    links = {suffix.upper(): path for suffix, path in there.items()}
    if "png" in there and not drawn and (numbers := there["png"].with_suffix(".csv")).is_file():
        links["CSV of the figure"] = numbers  # CSV is the table
    return Item(
        name=name,
        title=title,
        caption=html(text) if text else "",
        alternative=f"{title}. {first_sentence(text)}".strip(),
        picture=data_uri(there["png"]) if "png" in there else "",
        table=read_table(there["csv"]) if "csv" in there and not drawn else None,
        notes=notes,
        links={kind: os.path.relpath(path, output.parent) for kind, path in links.items()},
    )


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def html(text: str) -> str:
    """reStructuredText, the form of Snakemake's captions, as HTML; it may neither include files nor hold raw HTML."""
    settings = {"file_insertion_enabled": False, "raw_enabled": False, "_disable_config": True, "report_level": 5}
    parts: dict[str, Any] = publish_parts(text, writer="html5", settings_overrides=settings)
    body: str = parts["body"]
    return body


def first_sentence(text: str) -> str:
    """Of a caption: what a picture shows, after its number."""
    paragraph = " ".join(re.sub(r"^Figure \w+\.\s*", "", text).split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0]


def table_notes(markdown: str) -> list[str]:
    """The notes below a table of urfm.tables.render."""
    return [re.sub(r"\\(.)", r"\1", line[2:]) for line in markdown.splitlines() if line.startswith("- ")]


def data_uri(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"


def read_table(path: Path) -> Table:
    """A CSV file as text; numbers with many digits are rounded to four significant ones."""
    try:
        table = read_text_csv(path)
    except (ValueError, OSError) as error:
        raise UrfmError(f"{path}: cannot be read as CSV ({error}); delete it and run the workflow again") from error
    return make_table(list(table.columns), table.to_numpy().tolist())


def make_table(columns: list[str], rows: list[list[str]]) -> Table:
    """The beginning of a table of text, and which of its columns hold numbers or long texts."""
    shown = [[rounded(cell) for cell in row] for row in rows[:SHOWN]]
    numbers = frozenset(
        place
        for place in range(len(columns))
        if any(row[place] for row in shown) and all(re.fullmatch(NUMBER, row[place]) for row in shown)
    )
    prose = frozenset(place for place in range(len(columns)) if any(len(row[place]) > 40 for row in shown))
    return Table(columns, shown, numbers, prose, len(rows))


NUMBER = r"(?:[-−]?[\d,]+(?:\.\d+)?(?:e[-+]?\d+)?|–|nan|)"


def rounded(cell: str) -> str:
    """0.8612345 -> 0.8612; everything else as it is."""
    return f"{float(cell):.4g}" if re.fullmatch(r"-?\d+\.\d{4,}(e-?\d+)?", cell) else cell
