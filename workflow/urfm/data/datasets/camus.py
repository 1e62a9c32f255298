"""CAMUS (doi 10.1109/TMI.2019.2900516, NIfTI release): apical views of the heart, 500 patients, 1,000 half sequences.

`database_nifti/patient<nnnn>/patient<nnnn>_2CH|4CH_half_sequence.nii.gz`, 11 to 29 frames each, a record per frame
(index from 0). Not read: `_ED` and `_ES`, which repeat the sequence's first and last frame, and `_gt`, which are masks.
The division is in `database_split/subgroup_{training,validation,testing}.txt`. Releases in .mhd are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urfm.core.errors import UnusableImage
from urfm.data.datasets.common import SPLITS, Record, find_root, read_words
from urfm.data.images.nifti import count_frames

VIEWS = ("2CH", "4CH")


def read(folder: Path) -> Iterator[Record]:
    """Yield the frames of both views of every patient; a sequence that is absent or unreadable as its first frame."""
    root = find_root(folder, "database_nifti")
    divisions = _read_divisions(root / "database_split")
    for patient in sorted(path for path in (root / "database_nifti").glob("patient*") if path.is_dir()):
        for view in VIEWS:
            series = f"{patient.name}_{view}"
            packed = patient / f"{series}_half_sequence.nii.gz"
            plain = packed.with_suffix("")
            path = plain if plain.is_file() and not packed.is_file() else packed
            try:
                frames = count_frames(path)
            except UnusableImage:  # what is wrong with it is said where it is decoded
                frames = 1
            for index in range(frames):
                yield Record(
                    path=path,
                    name=f"{series}_{index:03d}",
                    patient_id=patient.name,
                    patient_source="path",
                    view=view,
                    series=series,
                    frame=str(index),
                    official_split=divisions.get(patient.name, ""),
                )


def _read_divisions(folder: Path) -> dict[str, str]:
    """The part of the division by patient; empty if the lists are not there."""
    return {
        patient: SPLITS[part]
        for part in ("training", "validation", "testing")
        if (folder / f"subgroup_{part}.txt").is_file()
        for _, words in read_words(folder / f"subgroup_{part}.txt")
        for patient in words
    }
