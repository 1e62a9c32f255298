"""ultrasoundcases.info, a teaching site with all rights reserved: 2,255 breast images in the paper, and no archive.

Read is every image in any depth of what was collected under the site's conditions. The folder that holds an image is
its case, and counts as a patient; an image that lies in no folder has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urfm.data.datasets.common import IMAGE_SUFFIXES, Record, files_below, require_folder


def read(folder: Path) -> Iterator[Record]:
    """Yield the images."""
    require_folder(folder)
    for path in files_below(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            place = path.relative_to(folder)
            case = "" if len(place.parts) == 1 else place.parent.as_posix()
            yield Record(
                path=path,
                name=place.as_posix(),
                patient_id=case,
                patient_source="path" if case else "none",
                series=case,
            )
