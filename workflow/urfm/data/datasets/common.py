"""What every reader shares: the record it yields, finding the archive's folder, and reading its metadata."""

from __future__ import annotations

import csv
import os
import re
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from urfm.core.errors import UrfmError

# What a reader that walks folders of unknown content takes for an image; those that decode() refuses are then named.
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# Folder and list names of the parts of a division, and what they are called in the manifest.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# What systems and spreadsheets leave in folders of data, in small letters; hidden files are no data either.
JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir"}


@dataclass(frozen=True)
class Record:
    """One image of an archive, as its metadata and its place describe it. The file itself is not opened.

    Names and patients are unique within the archive; the manifest puts the data set's name before them.
    """

    path: Path
    name: str  # becomes image_id
    label: str = ""
    patient_id: str = ""  # empty: unknown, the image becomes a patient of its own
    patient_source: Literal["metadata", "path", "none"] = "none"  # the manifest adds near_duplicates
    device: str = ""
    view: str = ""
    series: str = ""
    frame: str = ""
    organ: str = ""  # empty: the data set's organ and source in the configuration
    source: str = ""
    official_split: str = ""  # the archive's own division: train, val, test, or fold-<k>
    size: tuple[int, int] | None = None  # width and height as the archive's metadata state them
    erratum: str = ""  # a published correction that was applied
    excluded_reason: str = ""  # empty: usable


def require_folder(folder: Path) -> None:
    """Raise an UrfmError if there is no such folder."""
    if not folder.is_dir():
        raise UrfmError(f"{folder}: no such folder. Put the data set there, or correct its `folder` or data_root")


def find_root(folder: Path, *wanted: str) -> Path:
    """The folder that holds one of the entries `wanted`: `folder` itself or its only subfolder that does."""
    require_folder(folder)
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [path for path in candidates if any((path / name).exists() for name in wanted)]
    if found and (found[0] == folder or len(found) == 1):
        return found[0]
    if found:
        raise UrfmError(f"{folder}: {' and '.join(path.name for path in found)} both hold {wanted[0]}; keep one")
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise UrfmError(
        f"{folder}: neither it nor a folder in it holds {' or '.join(wanted)}; it holds {present}. "
        "Unpack the archive as published, or correct the data set's `folder`"
    )


def read_metadata(path: Path, required: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file as text, white space stripped from headers and cells; no row is kept in memory.

    The separator is the header's , or ;. Raises UrfmError if the file is not a table, lacks a required column or has
    two of one name (all before the first row), or has a row of another length.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            stream.seek(0)
            separator = ";" if header.count(";") > header.count(",") else ","
            lines = csv.reader(stream, delimiter=separator, skipinitialspace=True)
            columns = [name.strip() for name in next(lines, [])]
            missing = [name for name in required if name not in columns]
            if missing:
                raise UrfmError(
                    f"{path}: no column {', '.join(map(repr, missing))}; it has "
                    f"{', '.join(map(repr, columns)) or 'no header'}. "
                    "Restore the archive's own file, or rename the column"
                )
            if twice := [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]:
                raise UrfmError(
                    f"{path}: several columns are called {', '.join(map(repr, twice))}; rename all but the right one"
                )
            for cells in lines:
                if cells and len(cells) != len(columns):
                    raise UrfmError(
                        f"{path}: line {lines.line_num} has {len(cells)} cells where the header has {len(columns)}; "
                        "correct it, or put cells that contain the separator in quotes"
                    )
                if cells:
                    yield {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    except FileNotFoundError as error:
        raise UrfmError(f"{path}: no such file; it is part of the archive as published") from error
    except UnicodeDecodeError as error:
        raise UrfmError(f"{path}: not in UTF-8; {other_encoding(path)}") from error
    except csv.Error as error:
        raise UrfmError(f"{path}: not a readable CSV file ({error})") from error


def other_encoding(path: Path) -> str:
    """Which encoding a text file that is not in UTF-8 looks like, with a line to judge by, and how to convert it."""
    content = path.read_bytes()
    guess = _guess(content)
    lines = content.decode(guess, errors="replace").splitlines()
    number, line = next(((n, line) for n, line in enumerate(lines, 1) if not line.isascii()), (1, lines[0]))
    return (
        f"it looks like {guess} (line {number} is then {line[:60]!r}). If that reads well: "
        f"iconv -f {guess} -t UTF-8 FILE > NEW, or save it as 'CSV UTF-8' in the spreadsheet"
    )


def _guess(content: bytes) -> str:
    """UTF-16 begins with a mark; in Chinese, bytes above 127 stand together in fours and more; all else is Western."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    runs = re.findall(rb"[\x80-\xff]+", content)
    together = sum(len(run) for run in runs if len(run) > 3)
    try:
        content.decode("gb18030")
    except UnicodeDecodeError:
        return "Windows-1252"
    return "GB18030" if together > sum(map(len, runs)) / 2 else "Windows-1252"


def read_words(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a text file that are not blank: line number from 1, and the words in it."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise UrfmError(f"{path}: no such file; it is part of the archive as published") from error
    except UnicodeDecodeError as error:
        raise UrfmError(f"{path}: not in UTF-8; {other_encoding(path)}") from error
    yield from ((number, line.split()) for number, line in enumerate(lines, 1) if line.strip())


def plain_name(name: str) -> str:
    """A folder's name as alias tables write it: small letters, words joined by underscores."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def interpret(names: Iterable[str], aliases: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What each folder name stands for, by an alias table whose keys may be written in any way `plain_name` levels.

    Raises an UrfmError that lists all names found and known if one is not in the table.
    """
    known = {plain_name(name): meaning for name, meaning in aliases.items()}
    names = sorted(names)
    unknown = [name for name in names if plain_name(name) not in known]
    if unknown:
        raise UrfmError(
            f"{folder}: no meaning is known for {', '.join(map(repr, unknown))}. Folders with images: "
            f"{', '.join(map(repr, names))}. Known: {', '.join(f'{name} = {known[name]}' for name in sorted(known))}. "
            f"Say in the configuration what it is, `folders: {{{unknown[0]!r}: …}}` in the data set's entry, "
            "or move the folder away"
        )
    return {name: known[plain_name(name)] for name in names}


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is no data, and nobody put it there."""
    return name.startswith((".", "~$")) or name.lower() in JUNK


def files_below(folder: Path) -> Iterator[Path]:
    """All files in and below a folder but junk (`is_junk`), sorted as paths are; none if there is no such folder.

    Names are sorted folder by folder, so only those of the folders being read are in memory and the order is the same
    on every file system. A linked file is a file. A linked folder is not entered, so nothing is met twice and the walk
    ends; the link itself is yielded, as a broken one is, and the manifest's rejected list then names it.
    """
    if not folder.is_dir():
        return
    names, folders = [], set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_junk(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
                elif not (entry.is_file() or entry.is_symlink()):  # a pipe, a socket
                    continue
                names.append(entry.name)
    except OSError as error:
        raise UrfmError(f"{folder}: cannot be listed ({error.strerror}); make it readable") from error
    names.sort()
    for name in names:
        if name in folders:
            yield from files_below(folder / name)
        else:
            yield folder / name


class Listed:
    """The paths that an archive's metadata list, 8 bytes each: hashes, of which a million agree by chance once in 10^7.

    To be filled with `add` first and asked (`in`) afterwards.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, path: Path) -> None:
        """Remember a path."""
        self._hashes.append(hash(path))

    def __contains__(self, path: object) -> bool:
        if len(self._sorted) != len(self._hashes):
            self._sorted = np.sort(np.array(self._hashes, np.int64))
        row = np.searchsorted(self._sorted, hash(path))
        return hash(path) in self._sorted[row : row + 1]


def unlisted(folder: Path, listed: Container[Path], metadata: str) -> Iterator[Record]:
    """An excluded record for each file of `folder` that the metadata does not list, so that none is passed over."""
    for path in files_below(folder):
        if path not in listed:
            name = path.relative_to(folder).as_posix()
            yield Record(path=path, name=name, excluded_reason=f"not listed in {metadata}")
