"""Words of other people (titles, labels, file names) as text: in a spreadsheet no formula, in Markdown no mark-up."""

from __future__ import annotations

import re

# What begins a formula in Excel, LibreOffice and Google Sheets, the last four where Chinese or Japanese is written.
FORMULA = tuple("=+-@\t\r＝＋－＠")
# A signed number, and an interval behind it: without letters, quotes, | and ! there is nothing to call or to reach.
NUMBER = re.compile(r"[-+][-+\d\s.,;:%±–−()\[\]]*(?:e[-+]?\d+)?", re.IGNORECASE)
MARKUP = re.compile(r"[\\|*_`<$]|&(?=#?\w+;)|(?<=\])\(")


def spreadsheet_cell(cell: str) -> str:
    """A cell that no spreadsheet computes: an apostrophe before what would begin a formula; numbers as they are."""
    return f"'{cell}" if cell.startswith(FORMULA) and not NUMBER.fullmatch(cell) else cell


def from_spreadsheet_cell(cell: str) -> str:
    """What `spreadsheet_cell` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell


def markdown(text: str) -> str:
    """One line of Markdown that shows `text`, whatever is in it."""
    return " ".join(MARKUP.sub(r"\\\g<0>", text).split())
