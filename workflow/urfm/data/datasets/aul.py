"""Annotated Ultrasound Liver, the paper's Liver735 (zenodo 7272660): 735 JPEGs, one per patient.

`Benign|Malignant|Normal/image/<n>.jpg`; the numbers restart in every class, so a patient is class and number.
The polygons in `segmentation/` are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urfm.data.datasets.common import Record, files_below, find_root

CLASSES = ("Benign", "Malignant", "Normal")


def read(folder: Path) -> Iterator[Record]:
    """Yield every file of the class folders that are there."""
    root = find_root(folder, *CLASSES)
    for name in CLASSES:
        for path in files_below(root / name / "image"):
            case = f"{name.lower()}-{path.stem}"
            yield Record(path=path, name=case, label=name.lower(), patient_id=case, patient_source="path")
