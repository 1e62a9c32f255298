"""What may be meant by a path where no file is: for the list of what is missing."""

from __future__ import annotations

import difflib
from pathlib import Path

from urfm.data.datasets.common import files_below
from urfm.data.labels import plain


def nearest_file(path: Path, folder: Path) -> str:
    """The file of the same name elsewhere below `folder`, or the one beside it whose name is most alike, or nothing."""
    for other in files_below(folder):
        if plain(other.name) == plain(path.name):
            return other.relative_to(folder).as_posix()
    beside = {plain(other.stem): other for other in sorted(path.parent.iterdir())} if path.parent.is_dir() else {}
    close = difflib.get_close_matches(plain(path.stem), beside, n=1, cutoff=0.75)
    return beside[close[0]].relative_to(folder).as_posix() if close else ""
