"""BUS-BRA (doi 10.1002/mp.16812, zenodo 8231412): breast, 1,875 PNGs of 1,064 patients.

`bus_data.csv` lists ID (bus_0001-l), Case (the patient), Pathology, Device and Side; `Images/<ID>.png`.
Masks are not read. Height is wrong in four rows of the CSV: the manifest takes both sizes from the file and notes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urfm.data.datasets.common import Record, find_root, read_metadata, unlisted

METADATA = "bus_data.csv"


def read(folder: Path) -> Iterator[Record]:
    """Yield the images listed in bus_data.csv, then files that are not listed (excluded)."""
    root = find_root(folder, METADATA)
    listed = set()
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
            size=(int(row["Width"]), int(row["Height"])),
        )
    yield from unlisted(root / "Images", listed, METADATA)
