"""FETAL_PLANES_DB, the paper's Fetus12K (zenodo 3904280): 12,400 PNGs of 1,792 patients.

`FETAL_PLANES_DB_data.csv` (separator ;, the last header ends in a space) lists Image_name
(Patient00001_Plane1_1_of_15), Patient_num, Plane, Brain_plane, US_Machine and the authors' own division (Train, 1 or
0 for test); `Images/<Image_name>.png`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from urfm.data.datasets.common import Listed, Record, find_root, read_metadata, unlisted

METADATA = "FETAL_PLANES_DB_data.csv"
LABELS = {
    "Fetal abdomen": "fetal_abdomen",
    "Fetal brain": "fetal_brain",
    "Fetal femur": "fetal_femur",
    "Fetal thorax": "fetal_thorax",
    "Maternal cervix": "maternal_cervix",
    "Other": "other",
}
DIVISION = {"1": "train", "0": "test"}
NAME = re.compile(r"(?P<series>Patient\d+_Plane\d+)_(?P<frame>\d+)_of_\d+")


def read(folder: Path) -> Iterator[Record]:
    """Yield the images listed in the CSV, then files that are not listed (excluded)."""
    root = find_root(folder, METADATA)
    listed = Listed()
    for row in read_metadata(root / METADATA, ("Image_name", "Patient_num", "Plane", "Brain_plane", "US_Machine")):
        path = root / "Images" / f"{row['Image_name']}.png"
        listed.add(path)
        parts = NAME.fullmatch(row["Image_name"])
        yield Record(
            path=path,
            name=row["Image_name"],
            label=LABELS.get(row["Plane"], row["Plane"]),
            patient_id=row["Patient_num"],
            patient_source="metadata",
            device=row["US_Machine"],
            view="" if row["Brain_plane"] == "Not A Brain" else row["Brain_plane"],
            series=parts["series"] if parts else "",
            frame=parts["frame"] if parts else "",
            official_split=DIVISION.get(row.get("Train", ""), ""),
        )
    yield from unlisted(root / "Images", listed, METADATA)
