"""Pairs of images as people read them: what each pair means, where both are used, the worst first."""

from __future__ import annotations

from typing import Any

import pandas as pd

from urfm.data.leakage.duplicates import KINDS, Images, Source, differ, one_patient, read_texts

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
        one_set and differ(first["label"], second["label"]),
        one_set and differ(first["official_split"], second["official_split"]),
        "train" in seen,
        not one_set,
        True,
    )
    return FINDINGS[true.index(True)]


def other_patients(images: Images, pairs: pd.DataFrame) -> pd.DataFrame:
    """The exact pairs that are listed: without those of one patient whose labels do not differ."""
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    labels = differ(images.place("label", first), images.place("label", second))
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
