"""LEPset (zenodo 8041285, doi 10.1109/TMI.2023.3289859): endoscopic ultrasound of the pancreas, JPEGs, two data sets.

`labeled/NPC|PC/<patient>/<k>.jpg`: 1,820 images of 140 patients without pancreatic cancer, 1,680 of 280 with it.
Patient numbers restart in each class, so a patient is class and number. `unlabeled/<k>.jpg`: 8,000 images without
patients; whether they show the labelled ones, the archive does not tell. Both layouts are known from one public reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urfm.data.datasets.common import Record, files_below, find_root

CLASSES = {"NPC": "non_cancer", "PC": "cancer"}


def read(folder: Path) -> Iterator[Record]:
    """Yield every file of the class folders that are there."""
    root = find_root(folder, "labeled") / "labeled"
    for name, label in CLASSES.items():
        for path in files_below(root / name):
            place = path.relative_to(root)
            known = len(place.parts) > 2
            yield Record(
                path=path,
                name=place.as_posix(),
                label=label,
                patient_id=f"{name}_{place.parts[1]}" if known else "",
                patient_source="path" if known else "none",
                frame=path.stem,
            )


def read_unlabelled(folder: Path) -> Iterator[Record]:
    """Yield every file of `unlabeled`."""
    root = find_root(folder, "unlabeled") / "unlabeled"
    for path in files_below(root):
        yield Record(path=path, name=path.relative_to(root).as_posix(), frame=path.stem)
