"""BUS-BRA (doi 10.1002/mp.16812, zenodo 8231412): breast, 1,875 PNGs of 1,064 patients.

`bus_data.csv` lists ID (bus_0001-l), Case (the patient), Pathology, Device and Side; `Images/<ID>.png`.
`5-fold-cv.csv` gives each ID's fold (kFold), if it is there. Masks are not read. Height is wrong in four rows: the
manifest takes both sizes from the file and notes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urfm.core.errors import UrfmError
from urfm.data.datasets.common import Listed, Record, find_root, read_metadata, unlisted

METADATA = "bus_data.csv"
FOLDS = "5-fold-cv.csv"


def read(folder: Path) -> Iterator[Record]:
    """Yield the images listed in bus_data.csv, then files that are not listed (excluded)."""
    root = find_root(folder, METADATA)
    folds = {}
    if (root / FOLDS).is_file():
        folds = {row["ID"]: f"fold-{row['kFold']}" for row in read_metadata(root / FOLDS, ("ID", "kFold"))}
    listed = Listed()
    for row in read_metadata(root / METADATA, ("ID", "Case", "Pathology", "Device", "Width", "Height", "Side")):
        path = root / "Images" / f"{row['ID']}.png"
        listed.add(path)
        yield Record(
            path=path,
            name=row["ID"],
            label=row["Pathology"].lower(),
            patient_id=row["Case"],
            patient_source="metadata",
            device=row["Device"],
            view=row["Side"],
            official_split=folds.get(row["ID"], ""),
            size=(_number(root, row, "Width"), _number(root, row, "Height")),
        )
    yield from unlisted(root / "Images", listed, METADATA)


def _number(root: Path, row: dict[str, str], column: str) -> int:
    try:
        return int(row[column])
    except ValueError:
        raise UrfmError(
            f"{root / METADATA}: row {row['ID']}, column {column}: {row[column]!r} is not a whole number of pixels; "
            "restore the archive's own file"
        ) from None
