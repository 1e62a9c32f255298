"""BUV (CVA-Net, arXiv 2207.00141): breast lesions, 188 videos of 25,272 frames.

`rawframes/benign|malignant/<video>/<frame>.png`; the lists `imagenet_vid_train_15frames.json` and
`imagenet_vid_val.json` (`train.json` and `val.json` in the README) give each video's part of the division; a video in
both has none. A video counts as a patient.

Errata of the README of 2023-03-25, applied: benign/x66ef02e7f1b9a0ef copies malignant/x3b88488853e8b7d1 (excluded);
x63c9ba1377f35bf6 and x5a1c46ec6377e946 are malignant; they and the malignant 2390fbea047347b and 7a39ab5d4970bf89 are
one patient, with shared frames. Not applied, because one user alone reports it: x1282311c38f808f repeats a test video.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from urfm.core.errors import UrfmError
from urfm.data.datasets.common import Record, files_below, find_root, is_junk

CLASSES = ("benign", "malignant")
LISTS = {
    "train": ("imagenet_vid_train_15frames.json", "train.json"),
    "val": ("imagenet_vid_val.json", "val.json"),
}
COPY = "benign/x66ef02e7f1b9a0ef"
RELABELLED = {"benign/x63c9ba1377f35bf6", "benign/x5a1c46ec6377e946"}
ONE_PATIENT = {
    "63c9ba1377f35bf6",
    "5a1c46ec6377e946",
    "2390fbea047347b",
    "7a39ab5d4970bf89",
}  # the x is not always written


def read(folder: Path) -> Iterator[Record]:
    """Yield every file of every video."""
    root = find_root(folder, "rawframes")
    divisions = _read_divisions(root)
    for name in CLASSES:
        for video in sorted(
            path for path in (root / "rawframes" / name).glob("*") if path.is_dir() and not is_junk(path.name)
        ):
            place = f"{name}/{video.name}"
            shared = video.name.removeprefix("x") in ONE_PATIENT
            errata = ["malignant, published as benign"] if place in RELABELLED else []
            errata += ["one patient with three other videos"] if shared else []
            for path in files_below(video):
                yield Record(
                    path=path,
                    name=f"{place}/{path.name}",
                    label="malignant" if place in RELABELLED else name,
                    patient_id="errata-2023" if shared else video.name,
                    patient_source="path",
                    series=video.name,
                    frame=path.stem,
                    official_split=divisions.get(place, ""),
                    erratum="; ".join(errata),
                    excluded_reason="copy of malignant/x3b88488853e8b7d1 (errata)" if place == COPY else "",
                )


def _read_divisions(root: Path) -> dict[str, str]:
    """The part of the division by video, `<class>/<video>`; empty for a video of two parts."""
    divisions: dict[str, str] = {}
    for part, names in LISTS.items():
        for path in (root / name for name in names if (root / name).is_file()):
            try:
                files = [image["file_name"] for image in json.loads(path.read_text(encoding="utf-8"))["images"]]
                videos = {PurePosixPath(file).parent.as_posix() for file in files}
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UrfmError(
                    f"{path}: not a list of frames in COCO's form, images with file_name ({type(error).__name__}: "
                    f"{error}). Restore the archive's own file, or take it away: then no video has a division"
                ) from error
            for video in videos:
                divisions[video] = part if divisions.get(video, part) == part else ""
    return divisions
