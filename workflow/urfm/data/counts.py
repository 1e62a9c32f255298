"""How many images, patients and labels a table holds, beside how many were expected."""

from __future__ import annotations

from typing import Any

import pandas as pd

from urfm.config.data import Expected
from urfm.core.errors import UrfmError
from urfm.core.progress import warn


def count(table: pd.DataFrame) -> dict[str, Any]:
    """{images, patients, labels: {label: images}} of a table with columns patient_id and label (text or categories)."""
    labels = table.loc[table["label"] != "", "label"].value_counts().sort_index()
    return {
        "images": len(table),
        "patients": int(table["patient_id"].nunique()),
        "labels": {str(label): int(images) for label, images in labels.items() if images},
    }


def differences(expected: Expected, found: dict[str, Any]) -> list[str]:
    """One sentence for every count that is not the expected one; None is a number of patients that is not known."""
    pairs = [("images", expected.images, found["images"]), ("patients", expected.patients, found["patients"])]
    pairs += [
        (f"images labelled {label}", images, found["labels"].get(label, 0))
        for label, images in sorted(expected.labels.items())
    ]
    return [
        f"{'unknown' if have is None else f'{have:,}'} {what}, {want:,} expected"
        for what, want, have in pairs
        if want is not None and want != have
    ]


def report_differences(name: str, sentences: list[str], strict: bool) -> None:
    """Print a warning per difference, or raise one UrfmError with all of them if counts are strict."""
    if sentences and strict:
        raise UrfmError(
            f"{name}: {'; '.join(sentences)}. Complete the data, correct `expected` in the configuration, "
            "or set strict_counts: false"
        )
    for sentence in sentences:
        warn(f"{name}: {sentence}")
