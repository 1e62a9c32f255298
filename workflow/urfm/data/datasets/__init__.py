"""Readers of public archives, one module an archive: `read(folder)` yields a Record an image.

A reader knows the published layout and nothing else: it lists images with what the archive says of them and
opens none (of a NIfTI sequence the header, which counts the frames). Absent or damaged files are found when the
manifest is made. A new archive is one more module with a `read`, and one more line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

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

READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    "aul": aul.read,
    "buid": buid.read,
    "busbra": busbra.read,
    "buv": buv.read,
    "camus": camus.read,
    "fetal_planes": fetal_planes.read,
    "generic": generic.read,
    "lepset": lepset.read,
    "lepset_unlabelled": lepset.read_unlabelled,
    "mmotu": mmotu.read,
    "radimagenet": radimagenet.read,
    "uf1990": uf1990.read,
    "ultrasoundcases": ultrasoundcases.read,
}
# Those that also take `folders`, what class folders of unconfirmed names stand for: `read(folder, folders)`.
FOLDER_READERS: dict[str, Callable[[Path, Mapping[str, str]], Iterator[Record]]] = {
    "radimagenet": radimagenet.read,
    "uf1990": uf1990.read,
}
