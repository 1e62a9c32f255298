"""Results that need not be made again, although Snakemake deletes the outputs of a job before it starts.

So a stage whose result is large gives its files a second name when they are whole, in a hidden folder beside them, and
finds them there. A second name (a hard link) takes no space. Where a file system has none, all is made again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

PREFIX = ".kept-"


def keep(folder: Path, names: Iterable[str], key: str) -> None:
    """Keep files of `folder` under `key`, a fingerprint of all that they depend on, and forget what was kept before."""
    forget(folder)
    kept = folder / f"{PREFIX}{key}"
    temporary = kept.with_suffix(".tmp")
    temporary.mkdir()
    try:
        for name in names:
            os.link(folder / name, temporary / name)
    except OSError:
        shutil.rmtree(temporary)
    else:
        temporary.rename(kept)


def restored(folder: Path, names: Iterable[str], key: str) -> bool:
    """Whether the files are kept under `key`: then they are in their places again, the last one last.

    What is kept under another key is forgotten, before others are written: two may not have room.
    """
    kept = folder / f"{PREFIX}{key}"
    forget(folder, kept)
    if not all((kept / name).is_file() for name in names):
        return False
    for name in names:
        (folder / name).unlink(missing_ok=True)
        os.link(kept / name, folder / name)
    return True


def forget(folder: Path, but: Path | None = None) -> None:
    """Remove the second names of all files that are kept, but of those in one folder."""
    for other in folder.glob(f"{PREFIX}*"):
        if other != but:
            shutil.rmtree(other)
