"""The generic format for private or new data: `metadata.csv` and `images/`.

| column | required | meaning |
|---|---|---|
| image | yes | path below images/, forward slashes |
| patient_id | yes; a cell may be empty | any text; empty: the image counts as a patient of its own |
| label | for downstream tasks | one of the task's classes |
| organ, source, device, view, series, frame | no | free text; organ and source replace the configuration's |
| official_split | no | the set's own division: train, val, test or fold-<k> |
| exclude | no | not empty: the image is left out, the text is the reason |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from urfm.core.errors import UrfmError
from urfm.data.datasets.common import Listed, Record, find_root, read_metadata, unlisted

METADATA = "metadata.csv"
DIVISION = re.compile(r"(train|val|test|fold-\w+)?")


def read(folder: Path) -> Iterator[Record]:
    """Yield the images listed in metadata.csv, then files that are not listed (excluded)."""
    root = find_root(folder, METADATA)
    listed = Listed()
    for row in read_metadata(root / METADATA, ("image", "patient_id")):
        path = root / "images" / row["image"]
        listed.add(path)
        division = row.get("official_split", "")
        if not DIVISION.fullmatch(division):
            raise UrfmError(
                f"{root / METADATA}: image {row['image']}, column official_split: {division!r} is none of train, val, "
                "test and fold-<k>"
            )
        yield Record(
            path=path,
            name=row["image"],
            label=row.get("label", ""),
            patient_id=row["patient_id"],
            patient_source="metadata" if row["patient_id"] else "none",
            device=row.get("device", ""),
            view=row.get("view", ""),
            series=row.get("series", ""),
            frame=row.get("frame", ""),
            organ=row.get("organ", ""),
            source=row.get("source", ""),
            official_split=division,
            excluded_reason=row.get("exclude", ""),
        )
    yield from unlisted(root / "images", listed, METADATA)
