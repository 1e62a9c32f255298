"""Readers of public archives, one module an archive: `read(folder)` yields a Record an image.

A reader knows the published layout and nothing else: it lists images with what the archive says of them and
opens none. Absent or damaged files are found when the manifest is made. A new archive is one more module
with a `read`, and one more line here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from urfm.data.datasets import aul, busbra, fetal_planes, generic
from urfm.data.datasets.common import Record

READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    "aul": aul.read,
    "busbra": busbra.read,
    "fetal_planes": fetal_planes.read,
    "generic": generic.read,
}
