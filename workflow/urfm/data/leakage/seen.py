"""What is counted of duplicates: for each task, run and data set, how many images, and how these were seen."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from urfm.data.leakage.duplicates import KINDS, RUN, Images, differ
from urfm.data.leakage.near_duplicates import Index

SEEN = ("image", *KINDS, "patient")  # how an image of a task was seen; image: it is itself used in pre-training
SUBSETS = ("train", "val", "test")
COUNTS = ["images", *SEEN, "seen", "seen_percent", "seen_in"]


class Sightings(NamedTuple):
    """How images of the tasks were seen, by row: the strongest kind, and every data set it was seen in."""

    strongest: pd.Series[Any]
    sources: pd.Series[Any]

    def counts(self, members: Index) -> dict[str, Any]:
        """Columns COUNTS of some images: each under its strongest kind only, `seen` their sum."""
        kinds = self.strongest[self.strongest.index.isin(members)].value_counts()
        seen_in = self.sources[self.sources.index.isin(members)].value_counts().sort_index()
        return {
            "images": len(members),
            **{kind: int(kinds[kind]) for kind in SEEN},
            "seen": int(kinds.sum()),
            "seen_percent": _percent(int(kinds.sum()), len(members)),
            "seen_in": "; ".join(f"{source} {number:,}" for source, number in seen_in.items()),
        }


def sightings(images: Images, links: pd.DataFrame, chosen: npt.NDArray[np.bool_]) -> Sightings:
    """Of the images of the tasks, how pre-training on the `chosen` images, a mask, has seen them."""
    rows, dataset = images.rows, images.place("dataset")
    used = (images.places[images.tasks] != "").any(axis=1).to_numpy()[rows["place"].to_numpy()]
    own = np.flatnonzero(used & chosen)
    by_link = links[used[links["row"]] & chosen[links["other"]]]
    patients = rows.loc[chosen & rows["known"], "patient"]
    by_patient = np.flatnonzero(used & rows["known"] & rows["patient"].isin(patients))
    found = pd.concat(
        [
            pd.DataFrame({"row": row, "kind": kind, "source": source})
            for row, kind, source in (
                (own, "image", dataset[own]),
                (by_link["row"], by_link["kind"], dataset[by_link["other"]]),
                (by_patient, "patient", dataset[by_patient]),
            )
        ],
        ignore_index=True,
    )
    found["kind"] = pd.Categorical(found["kind"], SEEN, ordered=True)
    found = found.sort_values(["row", "kind", "source"])
    return Sightings(
        strongest=found.drop_duplicates("row").set_index("row")["kind"],
        sources=found.drop_duplicates(["row", "source"]).set_index("row")["source"],
    )


def task_table(images: Images, links: pd.DataFrame) -> pd.DataFrame:
    """For each task and subset: how many images any of the runs has seen, how, and in which data sets.

    Columns task, subset, images; image, file, pixels, near, patient (every image under its strongest kind only); seen
    and seen_percent, their sum; seen_in; in_train and in_train_percent: images with an exact or near duplicate in the
    training part of the same task.
    """
    seen = sightings(images, links, images.place("pretraining"))
    table = []
    for task in images.tasks:
        subset = images.place(task)
        repeated = links.loc[(subset[links["row"]] != "train") & (subset[links["other"]] == "train"), "row"]
        for name in SUBSETS:
            members = np.flatnonzero(subset == name)
            in_train = int(np.isin(members, repeated).sum())
            repeats = {"in_train": in_train, "in_train_percent": _percent(in_train, len(members))}
            table.append({"task": task, "subset": name, **seen.counts(members), **repeats})
    return pd.DataFrame(table, columns=["task", "subset", *COUNTS, "in_train", "in_train_percent"])


def run_table(images: Images, links: pd.DataFrame) -> pd.DataFrame:
    """For each task and run: how many test images this run has seen. Columns task, run, and those of `task_table`."""
    tests = {task: np.flatnonzero(images.place(task) == "test") for task in images.tasks}
    table = []
    for name in images.runs:
        seen = sightings(images, links, images.place(RUN + name))
        table += [{"task": task, "run": name, **seen.counts(members)} for task, members in tests.items()]
    table.sort(key=lambda row: images.tasks.index(row["task"]))
    return pd.DataFrame(table, columns=["task", "run", *COUNTS])


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def dataset_table(
    images: Images, pairs: pd.DataFrame, across: Counter[tuple[int, int]], within: Counter[int]
) -> pd.DataFrame:
    """For each data set: what repeats in it, and what its published split leaks.

    Columns dataset, images, excluded; file, pixels, near: images with such a duplicate in the set, of another patient;
    across_labels: images with a duplicate of another label, excluded ones included; near_pairs; one_patient_pairs: near
    pairs of one patient; split_pairs and split_images: pairs across the published split, and images in them;
    split_patients: patients that the archive tells, with images in several parts of it.
    """
    rows, places = images.rows, images.places
    dataset, official = places["dataset"].to_numpy(), places["official_split"].to_numpy()
    ends = [rows["place"].to_numpy()[pairs[side]] for side in ("first", "second")]
    labels = differ(*(places["label"].to_numpy()[end] for end in ends))
    split = differ(*(official[end] for end in ends))
    used = ~images.place("excluded")
    divided = pd.DataFrame({name: images.place(name) for name in ("dataset", "official_split")})
    divided = divided.assign(patient=rows["patient"])[rows["known"] & used & (divided["official_split"] != "")]
    parts = divided.drop_duplicates().groupby(["dataset", "patient"], as_index=False).size()

    table = []
    for name in sorted(set(dataset)):
        inside = (dataset[ends[0]] == name) & (dataset[ends[1]] == name)
        near = {pair: pairs for pair, pairs in across.items() if (dataset[list(pair)] == name).all()}
        table.append(
            {
                "dataset": name,
                "images": int((used & (images.place("dataset") == name)).sum()),
                "excluded": int((~used & (images.place("dataset") == name)).sum()),
                **{kind: _members(pairs[inside & (pairs["kind"] == kind)]) for kind in KINDS},
                "across_labels": _members(pairs[inside & labels]),
                "near_pairs": sum(near.values()),
                "one_patient_pairs": sum(pairs for place, pairs in within.items() if dataset[place] == name),
                "split_pairs": int((inside & split & (pairs["kind"] != "near")).sum())
                + sum(pairs for pair, pairs in near.items() if differ(*official[list(pair)])),
                "split_images": _members(pairs[inside & split]),
                "split_patients": int(((parts["dataset"] == name) & (parts["size"] > 1)).sum()),
            }
        )
    return pd.DataFrame(table)


def _members(pairs: pd.DataFrame) -> int:
    """How many images are in the pairs."""
    return len(np.unique(pairs[["first", "second"]]))
