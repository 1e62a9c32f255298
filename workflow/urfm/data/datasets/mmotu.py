"""MMOTU's OTU_2d (cv516Buaa/MMOTU_DS2Net): 1,469 JPEGs of the ovary in eight classes.

`OTU_2d/images/<n>.JPG`; `train_cls.txt` and `val_cls.txt` list "<n>.JPG  <label>". The colour masks of `annotations/`
and the contrast-enhanced images of `OTU_3d/` are not read. No patient ids are published, but the numbering follows the
patients (near duplicates lie at most three numbers apart), so `frame` is the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from urfm.core.errors import UrfmError
from urfm.data.datasets.common import Record, files_below, find_root, read_words, unlisted

LABELS = (
    "chocolate_cyst",
    "serous_cystadenoma",
    "teratoma",
    "theca_cell_tumor",
    "simple_cyst",
    "normal_ovary",
    "mucinous_cystadenoma",
    "serous_carcinoma",  # high grade serous cystadenocarcinoma
)
LISTS = {"train_cls.txt": "train", "val_cls.txt": "val"}


def read(folder: Path) -> Iterator[Record]:
    """Yield the listed images, then files in no list; what is not listed once, with a known label, is excluded."""
    root = find_root(folder, "OTU_2d", *LISTS)
    root = root / "OTU_2d" if (root / "OTU_2d").is_dir() else root
    files = {path.stem: path for path in files_below(root / "images")}  # some copies write .jpg
    listed: dict[str, list[tuple[str, str]]] = {}
    for name in LISTS:
        for line, words in read_words(root / name):
            if len(words) != 2:
                raise UrfmError(f"{root / name}: line {line} is {' '.join(words)!r}, not an image and its label")
            listed.setdefault(Path(words[0]).stem, []).append((name, words[1]))
    taken = set()
    for stem, entries in listed.items():
        name, number = entries[0]
        known = number in map(str, range(len(LABELS)))
        reason = "" if known else f"its label in {name}, {number}, is none of 0 to {len(LABELS) - 1}"
        if len(entries) > 1:
            reason = f"listed {len(entries)} times: {', '.join(sorted({name for name, _ in entries}))}"
        path = files.get(stem, root / "images" / f"{stem}.JPG")
        taken.add(path)
        yield Record(
            path=path,
            name=stem,
            label="" if reason else LABELS[int(number)],
            frame=stem,
            official_split="" if reason else LISTS[name],
            excluded_reason=reason,
        )
    yield from unlisted(root / "images", taken, " or ".join(LISTS))
