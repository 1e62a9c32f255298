"""The records of a data set: what its reader finds, which of their files are not even opened, and a record as a row.

Nothing is decoded here and nothing but names is kept: a million records pass through in a few bytes each.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from urfm.config.data import Archive
from urfm.core.errors import UrfmError
from urfm.data.datasets import READERS
from urfm.data.datasets.common import Record
from urfm.data.labels import plain

COLUMNS = [
    "image_id",
    "dataset",
    "source",
    "organ",
    "path",
    "sha256",
    "pixel_sha256",
    "phash",
    "width",
    "height",
    "patient_id",
    "patient_source",
    "label",
    "device",
    "view",
    "series",
    "frame",
    "official_split",
    "erratum",
    "excluded_reason",
]
SIMULATED = "SIMULATED.json"  # lies in the folder of a simulated data set
CONTRADICTION = "the same picture occurs under another label"


class ManifestSettings(Archive):
    """Settings of the stage: one data set of the configuration."""

    dataset: str
    reader: str
    organ: str = ""  # none: each record has its own
    source: str = ""
    strict_counts: bool = False
    for_tasks: bool = (
        True  # whether a task is made of it; else labels do not matter, and of a picture one copy is enough
    )


@dataclass(frozen=True)
class Rejection:
    """Why a file cannot be used."""

    reason: str  # missing, unreadable, too_large, unsupported, crashed, listed_twice, outside
    detail: str


Candidate = tuple[Record, Rejection | None]  # a record, and why its file is not even opened


def list_records(root: Path, settings: ManifestSettings) -> Iterator[Record]:
    """What the data set's reader finds below the data root, in the reader's order."""
    if settings.reader not in READERS:
        raise UrfmError(
            f"datasets.{settings.dataset}.reader: {settings.reader!r} is none of {', '.join(sorted(READERS))}"
        )
    if not root.is_dir():
        raise UrfmError(f"{root}: no such folder; set data_root to where the data sets lie")
    if PurePosixPath(settings.folder).is_absolute() or ".." in PurePosixPath(settings.folder).parts:
        raise UrfmError(f"datasets.{settings.dataset}.folder: {settings.folder!r} is not below the data root")
    reader = READERS[settings.reader]
    if settings.folders and not reader.takes_folders:
        takers = sorted(name for name, other in READERS.items() if other.takes_folders)
        raise UrfmError(
            f"datasets.{settings.dataset}.folders: the reader {settings.reader} knows its archive's folders; "
            f"{' and '.join(takers)} take this key"
        )
    folder = root / settings.folder
    return reader.read(folder, settings.folders) if settings.folders else reader.read(folder)


@dataclass(frozen=True)
class Survey:
    """What must be known of all records before the first is read, in 16 bytes per record.

    Attributes
    ----------
    total
        How many there are.
    repeated, contradictory
        Hashes of names that occur twice, and of those that do so under two labels.
    """

    total: int
    repeated: set[int]
    contradictory: set[int]


def survey(records: Iterable[Record]) -> Survey:
    """Count the records, and find the names that occur twice."""
    names, labels = array("q"), array("q")
    for record in records:
        names.append(hash(record.name))
        labels.append(hash(plain(record.label)) if record.label and not record.excluded_reason else 0)
    name, label = (np.frombuffer(values, np.int64) for values in (names, labels))
    ordered = np.sort(name)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    rows = np.flatnonzero(np.isin(name, repeated) & (label != 0))
    pairs = np.unique(np.stack([name[rows], label[rows]], axis=1), axis=0)
    several, labels_of = np.unique(pairs[:, 0], return_counts=True)
    return Survey(len(name), set(repeated.tolist()), set(several[labels_of > 1].tolist()))


def screen(
    records: Iterable[Record], root: Path, repeated: set[int], contradictory: Container[int] = ()
) -> Iterator[Candidate]:
    """Every record, with the reason if its file is not to be opened.

    `repeated` holds at least the hashes of all names that occur twice; only those names are remembered. Of these in
    `contradictory` the first record is excluded.
    """
    seen = set()
    for record in records:
        if not record.path.is_relative_to(root) or ".." in record.path.relative_to(root).parts:
            yield record, Rejection("outside", f"image {record.name} is not below the data root")
        elif record.name in seen:
            yield record, Rejection("listed_twice", f"another row or file is image {record.name} too")
        elif not _is_unicode(record):
            yield record, Rejection("unsupported", "its name is not UTF-8; rename the file")
        else:
            if hash(record.name) in repeated:
                seen.add(record.name)
            if hash(record.name) in contradictory and not record.excluded_reason:
                record = replace(record, excluded_reason=CONTRADICTION)
            yield record, None


def _is_unicode(record: Record) -> bool:
    try:
        f"{record.name}{record.path}".encode()
    except UnicodeEncodeError:  # bytes of a file's name that stand for themselves
        return False
    return True


def metadata(record: Record, dataset: str, organ: str = "", source: str = "", patients: str = "") -> dict[str, object]:
    """A record as a manifest's row without the file's content; `path` as the reader gave it.

    Patient ids begin with `patients`, which data sets of the same hospital may have in common, or with the data set.
    """
    own = f"{dataset}/{record.name}"
    row = vars(record) | {
        "image_id": own,
        "dataset": dataset,
        "organ": record.organ or organ,
        "source": record.source or source,
        "patient_id": f"{patients or dataset}/{record.patient_id}" if record.patient_id else own,
        "patient_source": record.patient_source if record.patient_id else "none",
    }
    return {name: row[name] for name in COLUMNS if name in row}


def made_by_simulator(folder: Path) -> bool:
    """Whether the simulator made this data set, itself or one wrapper folder."""
    return (folder / SIMULATED).exists() or any(folder.glob(f"*/{SIMULATED}"))
