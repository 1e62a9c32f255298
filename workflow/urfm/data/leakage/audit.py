"""The leakage audit: what the test images of a task share with pre-training, and with other parts of their set.

An image may be known from another one in four ways, the strongest first: `file` (the same file under another path),
`pixels` (the same picture), `near` (a near duplicate by perceptual hash), `patient` (another image of the patient, in
the same data set). Pairs of one patient whom the archive tells are what patients are for: they are counted, and listed
only if their pixels are equal and their labels are not. Proxy patients (D26) are near duplicates themselves: their
pairs are listed as those of any other images.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import Field

from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256, verify_sha256, write_csv, write_json, write_parquet
from urfm.core.progress import say
from urfm.data.leakage import duplicates
from urfm.data.leakage.duplicates import (
    KINDS,
    RUN,
    Images,
    Source,
    exact_pairs,
    near_pairs,
    nearest_by_use,
    one_patient,
    read_images,
    read_sources,
    read_texts,
)
from urfm.data.leakage.near_duplicates import SEARCH_RADIUS, Index

SEEN = ("image", *KINDS, "patient")  # how an image of a task was seen; image: it is itself used in pre-training
SUBSETS = ("train", "val", "test")
FINDINGS = (  # worst first; a pair means the first of these that is true of it
    "test image in the training part",
    "test image seen in pre-training",
    "across subsets of a task",
    "val image seen in pre-training",
    "across labels",
    "across the published split",
    "train image seen in pre-training",
    "between data sets",
    "within a data set",
)
COUNTS = ["images", *SEEN, "seen", "seen_percent", "seen_in"]
LISTED = 1000  # pairs in the CSV file


class AuditSettings(Settings):
    """Settings of the stage."""

    distance: int = Field(default=36, ge=0)  # near duplicates: bits, of 192, that differ at most


def finding(first: pd.Series[Any], second: pd.Series[Any], tasks: list[str]) -> str:
    """What a pair of images in two places means."""
    subsets = [{first[task], second[task]} for task in tasks]
    seen = {
        one[task] for one, other in ((first, second), (second, first)) if other["pretraining"] for task in tasks
    } - {""}
    one_set = first["dataset"] == second["dataset"]
    true = (
        {"train", "test"} in subsets,
        "test" in seen,
        any(len(pair) == 2 and "" not in pair for pair in subsets),
        "val" in seen,
        one_set and _differ(first["label"], second["label"]),
        one_set and _differ(first["official_split"], second["official_split"]),
        "train" in seen,
        not one_set,
        True,
    )
    return FINDINGS[true.index(True)]


def _differ(one: Any, other: Any) -> Any:
    """Whether two texts, or arrays of them, are both there and not equal."""
    return (one != other) & (one != "") & (other != "")


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
    labels = _differ(*(places["label"].to_numpy()[end] for end in ends))
    split = _differ(*(official[end] for end in ends))
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
                + sum(pairs for pair, pairs in near.items() if _differ(*official[list(pair)])),
                "split_images": _members(pairs[inside & split]),
                "split_patients": int(((parts["dataset"] == name) & (parts["size"] > 1)).sum()),
            }
        )
    return pd.DataFrame(table)


def _members(pairs: pd.DataFrame) -> int:
    """How many images are in the pairs."""
    return len(np.unique(pairs[["first", "second"]]))


def other_patients(images: Images, pairs: pd.DataFrame) -> pd.DataFrame:
    """The exact pairs that are listed: without those of one patient whose labels do not differ."""
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    labels = _differ(images.place("label", first), images.place("label", second))
    listed: pd.DataFrame = pairs[~one_patient(images.rows, first, second) | labels]
    return listed


def list_pairs(images: Images, pairs: pd.DataFrame, sources: list[Source]) -> pd.DataFrame:
    """The pairs as people read them, worst first.

    Columns finding, kind, distance, and of both images (_a, _b) image_id, patient_id, path, frame, dataset, label,
    official_split and use, which says where it is used: "breast_tumor test; pre-training".
    """
    rows, places = images.rows, images.places
    use = [_use(place, images.tasks) for _, place in places.iterrows()]
    described = places[["dataset", "label", "official_split"]].assign(use=use)
    ends = [rows["place"].to_numpy()[pairs[side]] for side in ("first", "second")]
    meaning = {
        pair: finding(places.loc[pair[0]], places.loc[pair[1]], images.tasks)
        for pair in set(zip(*(end.tolist() for end in ends), strict=True))
    }
    findings = [meaning[pair] for pair in zip(*(end.tolist() for end in ends), strict=True)]
    columns = [
        pd.DataFrame({"finding": pd.Categorical(findings, FINDINGS, ordered=True)}),
        pairs[["kind", "distance"]].reset_index(drop=True),
    ]
    for side, end, letter in zip(("first", "second"), ends, "ab", strict=True):
        texts = read_texts(rows.loc[pairs[side], ["source", "row"]].reset_index(drop=True), sources)
        columns.append(texts.join(described.loc[end].reset_index(drop=True)).add_suffix(f"_{letter}"))
    table = pd.concat(columns, axis=1)
    table["kind"] = pd.Categorical(table["kind"], KINDS, ordered=True)
    order = ["finding", "kind", "distance", "image_id_a", "image_id_b"]
    return table.sort_values(order, ignore_index=True).astype({"finding": str, "kind": str})


def _use(place: pd.Series[Any], tasks: list[str]) -> str:
    uses = [f"{task} {place[task]}" for task in tasks if place[task]]
    return "; ".join([*uses, *(name for name in ("pretraining", "excluded") if place[name])]).replace(
        "pretraining", "pre-training"
    )


def _read(summary: Path, columns: list[str]) -> tuple[dict[str, Any], pd.DataFrame]:
    """The summary of a split or a selection and the table beside it, whose hash is checked."""
    record, table = read_json(summary), summary.with_suffix(".parquet")
    verify_sha256(table, record["sha256"])
    return record, pd.read_parquet(table, columns=columns)


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(
        description="Find images that occur twice: in a data set, or in pre-training and a task."
    )
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(AuditSettings.model_fields))
    parser.add_argument("--manifests", type=Path, nargs="*", default=[], help="summaries (.json) beside their tables")
    parser.add_argument("--splits", type=Path, nargs="*", default=[], help="of the tasks, likewise")
    parser.add_argument("--selections", type=Path, nargs="*", default=[], help="of the pre-training runs, likewise")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    settings = parse_settings(AuditSettings, arguments.settings)

    sources = read_sources(arguments.manifests)
    if not sources:
        raise UrfmError("--manifests: there is none to audit; put a data set into the data root (docs/datasets.md)")
    splits = {
        str(record["task"]): (record, table)
        for record, table in (_read(path, ["image_id", "subset"]) for path in arguments.splits)
    }
    selections = {
        str(record["run"]): (record, table)
        for record, table in (_read(path, ["image_id"]) for path in arguments.selections)
    }
    images = read_images(
        sources,
        {run: table["image_id"] for run, (_, table) in selections.items()},
        {task: table for task, (_, table) in sorted(splits.items())},
    )
    say(f"audit: {len(images.rows):,} images of {len(sources)} data sets")

    exact = exact_pairs(images.rows)
    say(f"audit: {len(exact):,} pairs of equal pictures")
    near, across, within = near_pairs(images, settings.distance)
    say(f"audit: {across.total():,} pairs of near duplicates, and {within.total():,} within patients")
    listed = pd.concat(
        [other_patients(images, nearest_by_use(images, exact)), nearest_by_use(images, near)], ignore_index=True
    )
    pairs = list_pairs(images, listed, sources)
    links = duplicates.links(images.rows, pd.concat([exact, near], ignore_index=True))
    tasks, runs = task_table(images, links), run_table(images, links)
    datasets = dataset_table(images, listed, across, within)

    simulated = [source.dataset for source in sources if source.summary["simulated"]]
    pairs["simulated"] = pairs["dataset_a"].isin(simulated) | pairs["dataset_b"].isin(simulated)
    made = images.places["dataset"].isin(simulated)
    of_task = {task: record["dataset"] in simulated for task, (record, _) in splits.items()}
    of_run = {name: bool(made[images.places[RUN + name]].any()) for name in images.runs}
    tasks["simulated"] = tasks["task"].map(of_task).astype(bool) | any(of_run.values())
    runs["simulated"] = runs["task"].map(of_task).astype(bool) | runs["run"].map(of_run).astype(bool)
    datasets["simulated"] = datasets["dataset"].isin(simulated)
    write_parquet(arguments.output / "pairs.parquet", pairs)
    write_csv(arguments.output / "pairs.csv", pairs.head(LISTED))
    for name, table in (("tasks", tasks), ("runs", runs), ("datasets", datasets)):
        write_parquet(arguments.output / f"{name}.parquet", table)
        write_csv(arguments.output / f"{name}.csv", table)
    write_json(
        arguments.output / "audit.json",
        {
            "settings": settings.model_dump(),
            "search_radius": SEARCH_RADIUS,
            "manifests": {source.dataset: source.summary["sha256"] for source in sources},
            "splits": {task: record["sha256"] for task, (record, _) in splits.items()},
            "selections": {run: record["sha256"] for run, (record, _) in selections.items()},
            "simulated": simulated,
            "images": len(images.rows),
            "kinds": {kind: int((pairs["kind"] == kind).sum()) for kind in KINDS},
            "findings": {name: int((pairs["finding"] == name).sum()) for name in FINDINGS},
            "sha256": {name: sha256(arguments.output / name) for name in ("pairs.parquet", "pairs.csv")},
        },
    )
    for row in tasks[tasks["subset"] == "test"].itertuples():
        say(
            f"{row.task}: {row.images:,} test images, {row.seen:,} seen in pre-training, {row.in_train:,} repeated in "
            "the training part"
        )
    say(f"audit in {arguments.output}")


if __name__ == "__main__":
    run(main)
