"""Readers of public archives, one module per archive: `read(folder)` yields one Record per image.

A reader knows the published layout and nothing else: it lists images with what the archive says of them and
opens none (of a NIfTI sequence the header, which counts the frames). Absent or damaged files are found when the
manifest is made. A new archive is one more module with a `read`, and one more line in READERS. Planning asks this
table too, so neither pandas nor torch nor nibabel is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from urfm.data.datasets import (
    aul,
    buid,
    busbra,
    buv,
    camus,
    fetal_planes,
    generic,
    lepset,
    mmotu,
    radimagenet,
    uf1990,
    ultrasoundcases,
)
from urfm.data.datasets.common import Record


class Reader(NamedTuple):
    """How an archive is read, and what can be said of it before anything is.

    Attributes
    ----------
    read
        `read(folder)` yields the archive's records, in an order that depends on names alone.
    official_split
        Whether the records have an official_split where the archive is complete; of uf1990 and of the generic format,
        where the set says it.
    takes_folders
        Whether it is also `read(folder, folders)`: what class folders of unconfirmed names stand for.
    """

    read: Callable[..., Iterator[Record]]
    official_split: bool = False
    takes_folders: bool = False


READERS: dict[str, Reader] = {
    "aul": Reader(aul.read),
    "buid": Reader(buid.read),
    "busbra": Reader(busbra.read, official_split=True),
    "buv": Reader(buv.read, official_split=True),
    "camus": Reader(camus.read, official_split=True),
    "fetal_planes": Reader(fetal_planes.read, official_split=True),
    "generic": Reader(generic.read, official_split=True),
    "lepset": Reader(lepset.read),
    "lepset_unlabelled": Reader(lepset.read_unlabelled),
    "mmotu": Reader(mmotu.read, official_split=True),
    "radimagenet": Reader(radimagenet.read, official_split=True, takes_folders=True),
    "uf1990": Reader(uf1990.read, official_split=True, takes_folders=True),
    "ultrasoundcases": Reader(ultrasoundcases.read),
}
