"""Pictures that occur twice, in one data set or in two: what the leakage audit counts and lists.

A place is all that the audit asks of an image: data set, label, part of the published split, use. A cluster of n near
duplicates has n (n - 1) / 2 pairs; what is kept of it is, for every image, its nearest one in each place. So what is
kept grows with the number of images, and an image that has a duplicate somewhere is known to have one there.

Texts stay in the manifests: images are told apart by 64-bit hashes of their names and contents, of which two in a
million are equal by chance once in 10^7 audits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from urfm.core.files import parquet_blocks, read_json, verify_sha256
from urfm.data.leakage.near_duplicates import Index, Words, near_images, unpack

KINDS = ("file", "pixels", "near")  # strongest first
PLACE = ["dataset", "label", "official_split", "excluded", "pretraining"]  # and every run, and every task's subset
RUN = "run "  # begins the columns of runs, which may be called as a task is
COLUMNS = [
    "image_id", "path", "sha256", "pixel_sha256", "phash", "patient_id", "patient_source", "label", "official_split",
    "excluded_reason",
]  # fmt: skip
TEXTS = ["image_id", "patient_id", "path", "frame"]
WAITING = 1 << 21  # near pairs collected before the nearest are chosen


@dataclass(frozen=True)
class Source:
    """A manifest: its table and its summary."""

    path: Path
    summary: dict[str, Any]

    @property
    def dataset(self) -> str:
        return str(self.summary["dataset"])


@dataclass(frozen=True)
class Images:
    """All images that a model may see or that have a label, some 200 bytes each.

    Attributes
    ----------
    rows
        source and row (where its texts are), image, file, pixels, path and patient (64-bit hashes), known (whether the
        archive tells the patient), place.
    hashes
        Perceptual hashes, uint64 (n, windows, 3); zeros where there is nothing to compare.
    places
        One row per place, numbered from 0: columns PLACE; RUN and its name for every run, whether it sees the images;
        for every task their subset or an empty text.
    """

    rows: pd.DataFrame
    hashes: Words
    places: pd.DataFrame

    @property
    def tasks(self) -> list[str]:
        return [str(name) for name in self.places.columns[len(PLACE) + len(self.runs) :]]

    @property
    def runs(self) -> list[str]:
        names = map(str, self.places.columns[len(PLACE) :])
        return [name.removeprefix(RUN) for name in names if name.startswith(RUN)]

    def place(self, column: str, rows: Any = slice(None)) -> npt.NDArray[Any]:
        """A column of the places, for all images or for some."""
        values: npt.NDArray[Any] = self.places[column].to_numpy()[self.rows["place"].to_numpy()[rows]]
        return values


def read_sources(summaries: Iterable[Path]) -> list[Source]:
    """Manifests by their summaries, beside which the tables lie; sorted by data set, hashes checked."""
    sources = [Source(path.with_suffix(".parquet"), read_json(path)) for path in summaries]
    for source in sources:
        verify_sha256(source.path, source.summary["sha256"])
    return sorted(sources, key=lambda source: source.dataset)


def read_images(
    sources: list[Source], selections: dict[str, pd.Series[str]], splits: dict[str, pd.DataFrame]
) -> Images:
    """Read the manifests, block by block.

    Parameters
    ----------
    selections
        The image ids that a pre-training run sees, of each run.
    splits
        Columns image_id and subset of each task.
    """
    blocks = [block for number, source in enumerate(sources) for block in _read_blocks(source, number)]
    rows = pd.concat([block for block, _ in blocks], ignore_index=True)
    runs = {RUN + run: rows["image"].isin(_hash(ids)) for run, ids in selections.items()}
    rows = rows.assign(**runs)
    rows["pretraining"] = rows[list(runs)].any(axis=1)
    for task, split in splits.items():
        subset = pd.Series(split["subset"].to_numpy(), _hash(split["image_id"]))
        rows[task] = rows["image"].map(subset).fillna("").astype("category")
    names = [*PLACE, *runs, *splits]
    rows["place"] = rows.groupby(names, observed=True).ngroup()
    places = rows.drop_duplicates("place").set_index("place")[names].sort_index()
    return Images(
        rows=rows.drop(columns=names),
        hashes=np.concatenate([hashes for _, hashes in blocks]),
        places=places.astype(dict.fromkeys(splits, str)),
    )


def _read_blocks(source: Source, number: int) -> Iterator[tuple[pd.DataFrame, Words]]:
    start = 0
    for batch in parquet_blocks(source.path, COLUMNS):
        table = batch.to_pandas()
        block = pd.DataFrame(
            {
                "source": number,
                "row": np.arange(start, start + len(table)),
                "image": _hash(table["image_id"]),
                "file": _hash(table["sha256"]),
                "pixels": _hash(table["pixel_sha256"]),
                "path": _hash(table["path"]),
                "patient": _hash(table["patient_id"]),
                "known": table["patient_source"].isin(["metadata", "path"]),
                "dataset": source.dataset,
                "label": table["label"],
                "official_split": table["official_split"],
                "excluded": table["excluded_reason"] != "",
            }
        )
        start += len(table)
        wanted = ~block["excluded"] | (block["label"] != "")
        yield block[wanted], unpack(table.loc[wanted, "phash"])


def _hash(texts: pd.Series[str]) -> npt.NDArray[np.uint64]:
    hashes: npt.NDArray[np.uint64] = pd.util.hash_array(texts.to_numpy(object), categorize=False)
    return hashes


def read_texts(places: pd.DataFrame, sources: list[Source]) -> pd.DataFrame:
    """Columns TEXTS of images that are given by source and row, in their order; manifests are read block by block."""
    found = [pd.DataFrame(columns=["source", "row", *TEXTS])]
    for number, source in enumerate(sources):
        wanted = np.sort(places.loc[places["source"] == number, "row"].unique())
        start = 0
        for batch in parquet_blocks(source.path, TEXTS) if len(wanted) else ():
            rows = wanted[(wanted >= start) & (wanted < start + len(batch))]
            found.append(batch.take(rows - start).to_pandas().assign(source=number, row=rows))
            start += len(batch)
    texts = pd.concat(found).astype({"source": int, "row": int})
    merged: pd.DataFrame = places.merge(texts, on=["source", "row"], how="left")[TEXTS]
    return merged


def exact_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Images with equal pixels: each with the first of its like in each place, columns first, second, kind, distance.

    A file may hold many frames, so its hash alone says nothing: `file` is the same file under another path.
    """
    repeated = rows.loc[rows["pixels"].duplicated(keep=False), ["pixels", "place"]].rename_axis("first").reset_index()
    leading = repeated.drop_duplicates(["pixels", "place"]).rename(columns={"first": "second"})
    pairs = repeated.merge(leading[["pixels", "second"]], on="pixels")
    pairs = _unordered(pairs.loc[pairs["first"] != pairs["second"], ["first", "second"]])
    file, path = rows["file"].to_numpy(), rows["path"].to_numpy()
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    same_file = (file[first] == file[second]) & (path[first] != path[second])
    return pairs.assign(kind=np.where(same_file, "file", "pixels"), distance=0)


def near_pairs(images: Images, distance: int) -> tuple[pd.DataFrame, Counter[tuple[int, int]], Counter[int]]:
    """Near duplicates that are not exact ones. Of equal pictures in one place the first stands for all.

    Returns
    -------
    pairs
        Of different patients or data sets: each image and its nearest one in each place, columns as `exact_pairs`.
    across
        The number of all such pairs, by their two places.
    within
        The number of pairs of one patient, by the place of the first image.
    """
    standing = np.flatnonzero(~images.rows.duplicated(["pixels", "place"]))
    place, pixels = (images.rows[name].to_numpy() for name in ("place", "pixels"))
    across: Counter[tuple[int, int]] = Counter()
    within: Counter[int] = Counter()
    waiting = [pd.DataFrame(columns=["first", "second", "distance", "place"], dtype=np.int64)]
    for first, second, found in near_images(images.hashes[standing], distance, label="near duplicates"):
        first, second = standing[first], standing[second]
        different = pixels[first] != pixels[second]
        same = one_patient(images.rows, first, second)
        within.update(place[first[different & same]].tolist())
        kept = different & ~same
        first, second, found = first[kept], second[kept], found[kept]
        ends = np.sort(np.stack([place[first], place[second]], axis=1), axis=1)
        across.update(map(tuple, ends.tolist()))
        waiting += [
            pd.DataFrame({"first": one, "second": other, "distance": found, "place": place[other]})
            for one, other in ((first, second), (second, first))
        ]
        if sum(map(len, waiting[1:])) > WAITING:
            waiting = [_nearest(waiting)]
    pairs = _unordered(_nearest(waiting)[["first", "second", "distance"]])
    return pairs.assign(kind="near"), across, within


def one_patient(rows: pd.DataFrame, first: Index, second: Index) -> npt.NDArray[np.bool_]:
    """Whether both images are of one patient of one data set; patients that two sets share are leakage."""
    patient, known, source = (rows[name].to_numpy() for name in ("patient", "known", "source"))
    same: npt.NDArray[np.bool_] = (patient[first] == patient[second]) & (source[first] == source[second]) & known[first]
    same &= known[second]
    return same


def differ(one: Any, other: Any) -> Any:
    """Whether two texts, or arrays of them, are both there and not equal."""
    return (one != other) & (one != "") & (other != "")


def nearest_by_use(images: Images, pairs: pd.DataFrame) -> pd.DataFrame:
    """Of each image's pairs those with its nearest one of every data set, label, subset and use, whichever runs see it.

    These are enough to look at; which runs have seen a copy takes all pairs.
    """
    use = images.places.groupby([*PLACE, *images.tasks]).ngroup().to_numpy()[images.rows["place"].to_numpy()]
    both = pd.concat([pairs, pairs.rename(columns={"first": "second", "second": "first"})])
    return _unordered(_nearest([both.assign(place=use[both["second"]])]).drop(columns="place"))


def _nearest(pairs: list[pd.DataFrame]) -> pd.DataFrame:
    together = pd.concat(pairs, ignore_index=True).sort_values(["distance", "first", "second"])
    return together.drop_duplicates(["first", "place"], ignore_index=True)


def _unordered(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs with first < second, each once, sorted."""
    ends = np.sort(pairs[["first", "second"]].to_numpy(), axis=1)
    pairs = pairs.assign(first=ends[:, 0], second=ends[:, 1])
    return pairs.drop_duplicates(["first", "second"]).sort_values(["first", "second"], ignore_index=True)


def links(rows: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs from both sides, columns row, other, kind; near ones also for the pictures that an equal one stands for."""
    ends = ["first", "second"]
    both = [pairs[[*order, "kind"]].set_axis(["row", "other", "kind"], axis=1) for order in (ends, ends[::-1])]
    linked = pd.concat(both, ignore_index=True)
    key = ["pixels", "place"]
    alike = rows.loc[rows.duplicated(key, keep=False), key].rename_axis("copy").reset_index()
    standing = alike.drop_duplicates(key).rename(columns={"copy": "row"})
    copies = standing.merge(alike, on=key)[["row", "copy"]].query("row != copy")
    further = linked[linked["kind"] == "near"].merge(copies, on="row").assign(row=lambda table: table["copy"])
    return pd.concat([linked, further.drop(columns="copy")], ignore_index=True)
