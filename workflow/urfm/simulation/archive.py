"""What all archives are made of: files, tables, shares of the classes, copies, and the pictures that sets share."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from urfm.config.data import Simulated
from urfm.config.fields import WholeNumber
from urfm.simulation.anatomy import Case
from urfm.simulation.pictures import ORGANS, Picture, machines, take_picture
from urfm.simulation.scanner import Random


class SimulateSettings(Simulated):
    """Settings of the stage: one data set."""

    dataset: str
    layout: Literal[
        "aul",
        "buid",
        "busbra",
        "buv",
        "camus",
        "fetal_planes",
        "generic",
        "lepset",
        "mmotu",
        "radimagenet",
        "uf1990",
        "ultrasoundcases",
    ]
    image_size: tuple[int, int] = (160, 224)  # pixels of the longer side, smallest and largest
    seed: WholeNumber = 0
    # The generic layout only; the others are what they are.
    organ: str = ""
    labels: dict[str, int] = Field(default_factory=dict)  # label: weight; none: images for pre-training
    images_per_patient: float = Field(default=1, ge=1)  # mean


@dataclass(frozen=True)
class File:
    """A file of an archive.

    `copy_of` says that it is a planted duplicate: the kind (exact: the same pixels; framed: black was added; otherwise
    a name of ALTERATIONS) and the original, a file of the same archive or `shared/<organ>`, a picture that other sets
    may hold too.
    """

    name: str
    content: bytes
    images: int = 0  # 1 for a picture, the frames of a sequence
    copy_of: tuple[str, str] | None = None


def shared_picture(organ: str, image_size: tuple[int, int]) -> Picture:
    """A benign case of this organ, the same wherever it is asked for: how a picture gets into two data sets."""
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(f"shared/{organ}".encode()).digest()[:4]))
    scan = machines(ORGANS[organ].probe, image_size, random, 1)[0]
    return take_picture(ORGANS[organ], scan, Case("benign", 0.3, int(random.integers(2**31))), random)


def shares(total: int, weights: dict[str, int], least: int = 6) -> list[str]:
    """`total` labels in the proportion of `weights`, each at least `least` times (or evenly, if that is too many)."""
    least = min(least, total // len(weights))
    counts: dict[str, int] = {}
    rest = dict(weights)
    while small := [label for label in rest if total * rest[label] < least * sum(rest.values())]:
        for label in small:
            counts[label] = least
            total -= least
            del rest[label]
    counts |= {label: total * weight // sum(rest.values()) for label, weight in rest.items()}
    counts[max(rest, key=lambda label: rest[label])] += total - sum(counts[label] for label in rest)
    counts = {label: counts[label] for label in weights}
    return [label for label, images in counts.items() for _ in range(images)]


def shuffled(labels: list[str], random: Random) -> list[str]:
    """The labels in random order."""
    order: list[str] = random.permutation(labels).tolist()
    return order


def table(rows: Sequence[Sequence[object]], separator: str = ",") -> bytes:
    """The file of a CSV table."""
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def lines(items: Sequence[object]) -> bytes:
    """The file of a list, one item per line."""
    return "".join(f"{item}\n" for item in items).encode()
