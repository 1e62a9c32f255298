"""BUID, the QAMEBI breast database (doi 10.1016/j.compbiomed.2022.106438): 109 benign and 123 malignant lesions, BMP.

`Benign|Malignant/<n> <class> Image.bmp`, names with spaces; the numbers restart in every class, so a patient is class
and number. The drawings (`... Lesion.bmp`) and masks (`... Mask.tif`) beside the images are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from urfm.data.datasets.common import Record, files_below, find_root

CLASSES = ("Benign", "Malignant")
NAME = re.compile(r"(?P<number>\d+) .*Image\.bmp", re.IGNORECASE)


def read(folder: Path) -> Iterator[Record]:
    """Yield the images of the class folders that are there."""
    root = find_root(folder, *CLASSES)
    for name in CLASSES:
        for path in files_below(root / name):
            if match := NAME.fullmatch(path.name):
                case = f"{name.lower()}-{match['number']}"
                yield Record(path=path, name=case, label=name.lower(), patient_id=case, patient_source="path")
