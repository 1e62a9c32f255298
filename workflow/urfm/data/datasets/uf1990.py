"""UF1990 (mendeley 552zbvzwrk): 875 images with and 1,115 without uterine fibroids; no patient ids are published.

The layout is not confirmed. Read is every image in any depth; its class is the folder it lies in (ALIASES, to which
`folders` in the configuration adds), its part of the publisher's division any train, val or test folder around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from urfm.data.datasets.common import (
    IMAGE_SUFFIXES,
    SPLITS,
    Record,
    files_below,
    interpret,
    plain_name,
    require_folder,
)

ALIASES = {
    "uf": "fibroid",
    "fibroid": "fibroid",
    "fibroids": "fibroid",
    "uterine_fibroid": "fibroid",
    "uterine_fibroids": "fibroid",
    "nuf": "non_fibroid",
    "non": "non_fibroid",
    "non_uf": "non_fibroid",
    "non_fibroid": "non_fibroid",
    "non_fibroids": "non_fibroid",
    "non_uterine_fibroid": "non_fibroid",
    "non_uterine_fibroids": "non_fibroid",
    "normal": "non_fibroid",
}


def read(folder: Path, folders: Mapping[str, str] | None = None) -> Iterator[Record]:
    """Yield the images; `folders` maps further class folders to labels."""
    require_folder(folder)
    images = [path for path in files_below(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    labels = interpret({_class_folder(path, folder) for path in images}, {**ALIASES, **(folders or {})}, folder)
    for path in images:
        place = path.relative_to(folder)
        divisions = [SPLITS[plain_name(part)] for part in place.parts[:-1] if plain_name(part) in SPLITS]
        yield Record(
            path=path,
            name=place.as_posix(),
            label=labels[_class_folder(path, folder)],
            official_split=divisions[-1] if divisions else "",
        )


def _class_folder(path: Path, folder: Path) -> str:
    """The innermost folder around an image that is no part of a division; a dot if there is none."""
    around = [part for part in path.relative_to(folder).parts[:-1] if plain_name(part) not in SPLITS]
    return around[-1] if around else "."
