"""Lines for a terminal: wrapped to its width, but for commands and addresses, which stay in one piece to be copied."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

GLUE = "\u00a0"  # in place of a space where no line may end: commands stay in one piece


def heading(what: str, folder: str) -> str:
    """What lies in a folder, which is named as configured and in full."""
    absolute = Path(folder).resolve()
    return f"{what} in {folder}" + (f" ({absolute})" if str(absolute) != folder else "")


def wrap(text: str, width: int, indent: int) -> list[str]:
    """Lines of at most `width` columns, but for addresses and commands that are longer: these stay whole."""
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(GLUE, " ") for line in lines]


def terminal_width() -> int:
    """Columns to write in: those of the terminal, between 60 and 100; 100 where there is none."""
    for stream in (sys.stdout, sys.stderr):  # standard output may go through tee
        try:
            return max(60, min(100, os.get_terminal_size(stream.fileno()).columns))
        except (OSError, ValueError):
            continue
    return 100
