"""The generic format for private or new data: `metadata.csv` and `images/`.

| column | required | meaning |
|---|---|---|
| image | yes | path below images/, forward slashes |
| patient_id | yes; a cell may be empty | any text; empty or a placeholder: the image counts as a patient of its own |
| label | for downstream tasks | one of the task's classes |
| organ, source, device, view, series, frame | no | free text; organ and source replace the configuration's |
| official_split | no | the set's own division: train, val, test or fold-<k> |
| exclude | no | not empty: the image is left out, the text is the reason |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from urfm.core.errors import UrfmError
from urfm.data.datasets.common import Listed, Record, files_below, find_root, read_metadata, unlisted
from urfm.data.labels import plain

METADATA = "metadata.csv"
DIVISION = re.compile(r"(train|val|test|fold-\w+)?")
# Patient ids that say that nobody knows; of signs alone, such as "-" and "?", all do.
PLACEHOLDERS = {
    "anon", "anonymous", "anonymised", "anonymized", "missing", "n/a", "na", "nan", "nil", "none", "not available",
    "not known", "null", "undefined", "unk", "unknown",
}  # fmt: skip
OTHERWISE = f"the only file that its path in {METADATA} can mean has another spelling (case, \\, images/, Unicode form)"

Names = dict[str, list[str]]  # of a folder: plain name -> the entries that have it


def read(folder: Path) -> Iterator[Record]:
    """Yield the images listed in metadata.csv, then files that are not listed (excluded)."""
    root = find_root(folder, METADATA)
    images = root / "images"
    there, listed = Listed(), Listed()
    for path in files_below(images):
        there.add(path)
    names = lru_cache(maxsize=16)(_names)
    for row in read_metadata(root / METADATA, ("image", "patient_id")):
        written = images / row["image"]
        path = written if written in there else _meant(images, row["image"], there, names) or written
        listed.add(path)
        division = row.get("official_split", "")
        if not DIVISION.fullmatch(division):
            raise UrfmError(
                f"{root / METADATA}: image {row['image']}, column official_split: {division!r} is none of train, val, "
                "test and fold-<k>"
            )
        patient, notes = row["patient_id"], [OTHERWISE] if path != written else []
        if patient and is_placeholder(patient):
            notes.append(f"the patient id {patient!r} is read as unknown")
            patient = ""
        yield Record(
            path=path,
            name=path.relative_to(images).as_posix() if path in there else row["image"],
            label=row.get("label", ""),
            patient_id=patient,
            patient_source="metadata" if patient else "none",
            device=row.get("device", ""),
            view=row.get("view", ""),
            series=row.get("series", ""),
            frame=row.get("frame", ""),
            organ=row.get("organ", ""),
            source=row.get("source", ""),
            official_split=division,
            erratum="; ".join(notes),
            excluded_reason=row.get("exclude", ""),
        )
    yield from unlisted(images, listed, METADATA)


def is_placeholder(patient: str) -> bool:
    """Whether a patient id stands for "unknown", so that it would make one patient of many."""
    return plain(patient) in PLACEHOLDERS or not any(letter.isalnum() for letter in patient)


def _meant(images: Path, written: str, there: Container[Path], names: Callable[[Path], Names]) -> Path | None:
    r"""The one file that a path can mean which is not there as it is written; None if there is none, or several.

    A backslash may part folders, `images/` may stand in front, and letters may have another case or Unicode form.
    """
    path = PurePosixPath(written.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return None
    within = [path.relative_to(path.parts[0])] if plain(path.parts[0] if path.parts else "") == "images" else []
    for relative in [path, *within]:
        found = images
        for part in relative.parts:
            known = names(found).get(plain(part), [])
            found /= known[0] if len(known) == 1 else part
        if found in there:
            return found
    return None


def _names(folder: Path) -> Names:
    found: Names = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        found.setdefault(plain(path.name), []).append(path.name)
    return found
