"""RadImageNet's ultrasound part (radimagenet.com, on request): 389,746 PNGs by the paper's count, no patient ids.

`radiology_ai/US/<class>/usn<number>.png`. The label is the class folder; the organ is what ALIASES says of it, to which
`folders` in the configuration adds, because the list of class folders is not confirmed. The publisher's division is in
`RadiologyAI_train.csv`, `_val.csv` and `_test.csv` (columns filename and label, all modalities), beside `radiology_ai`
or in it; without them no image has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from urfm.data.datasets.common import Record, files_below, find_root, interpret, is_junk, read_metadata

ALIASES = {
    "aorta": "aorta",
    "bladder": "bladder",
    "cbd": "bile_duct",
    "fibroid": "uterus",
    "gallbladder": "gallbladder",
    "ivc": "vein",
    "kidney": "kidney",
    "liver": "liver",
    "ovary": "ovary",
    "pancreas": "pancreas",
    "portal_vein": "vein",
    "spleen": "spleen",
    "thyroid": "thyroid",
    "thyroid_nodule": "thyroid",
    "uterus": "uterus",
}
PLACES = ("radiology_ai/US", "US")


def read(folder: Path, folders: Mapping[str, str] | None = None) -> Iterator[Record]:
    """Yield every file of the class folders; `folders` maps further ones to organs."""
    root = find_root(folder, *PLACES)
    images = next(root / place for place in PLACES if (root / place).is_dir())
    classes = [path.name for path in images.iterdir() if path.is_dir() and not is_junk(path.name)]
    organs = interpret(classes, {**ALIASES, **(folders or {})}, images)
    divisions = _read_divisions([root, images.parent])
    for name, organ in organs.items():
        for path in files_below(images / name):
            place = path.relative_to(images).as_posix()
            yield Record(path=path, name=place, label=name, organ=organ, official_split=divisions.get(place, ""))


def _read_divisions(folders: list[Path]) -> dict[str, str]:
    """The part of the division by image, `<class>/<file>`."""
    divisions = {}
    for part in ("train", "val", "test"):
        for path in sorted({folder / f"RadiologyAI_{part}.csv" for folder in folders}):
            if path.is_file():
                for row in read_metadata(path, ("filename",)):
                    _, ultrasound, place = row["filename"].partition("US/")
                    if ultrasound:
                        divisions[place] = part
    return divisions
