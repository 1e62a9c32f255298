"""What is there of each data set and checkpoint: a look at the folders that decodes no image and writes nothing."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from urfm.config.data import Expected
from urfm.core.errors import UrfmError
from urfm.core.files import sha256, stand_in_mark
from urfm.core.progress import human_bytes
from urfm.data.images.decode import other_format
from urfm.data.records import ManifestSettings, list_records, made_by_simulator
from urfm.plan import settings
from urfm.plan.availability import Config, is_simulated


class State(NamedTuple):
    """How much is there: present, partial, absent, simulated or stand-in; whether it can be used; facts in words.

    `images` are those found, None if nobody could count them.
    """

    word: str
    usable: bool
    facts: list[str]
    images: int | None = None


def look_at_dataset(config: Config, name: str) -> State:
    """Count a data set with its own reader, and compare with what is expected.

    A data set that the reader refuses, or of which no image is there, is partial and not usable: the folder makes the
    workflow start on it, and the manifest would stop.
    """
    record = config["datasets"][name]
    expected = Expected.model_validate(record.get("expected", {}))
    if "images" in record.get("origin", {}):
        expected = expected.model_copy(update={"images": record["origin"]["images"]})
    folder = Path(config["data_root"]) / record["folder"]
    stops = f"the workflow stops at it: complete it, or move the folder away to go on without {name}"
    simulated = made_by_simulator(folder)
    if is_simulated(config, name) and not simulated:
        return State("simulated", True, ["not made yet; the workflow makes it when it is needed"])
    if not folder.is_dir():
        return State(
            "absent", False, [f"{_count(expected.images, None, 'images')} expected"] if expected.images else []
        )
    try:
        found = count(config, name)
    except (UrfmError, OSError) as error:
        return State("partial", False, [f"cannot be read: {error}", stops])
    images, absent, left_out = found["images"], found["absent"], found["left_out"]
    facts = [describe_counts(found, Expected() if simulated else expected)]
    facts += [f"{number:,} left out ({reason})" for reason, number in left_out.most_common(3)]
    if absent:
        facts.append(f"no file for {absent:,} of the listed images")
    if not images:
        facts.append(stops)
    if simulated:
        return State("simulated", images > 0, facts, images)
    whole = images > 0 and not absent and images + left_out.total() >= (expected.images or 0)
    return State("present" if whole else "partial", images > 0, facts, images)


def count(config: Config, name: str) -> dict[str, Any]:
    """Images, patients and labels that a data set's reader lists and that have a file.

    Also how many images have no file (absent), and how many are left out for which reason (left_out): one file of each
    suffix is looked at, since the manifest would refuse a set of DICOM files. Patients are None where the archive does
    not name them all.
    """
    kinds: dict[str, str] = {}  # of the first file of each suffix, what it is if it is no picture

    @cache
    def names(folder: Path) -> frozenset[str]:
        return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()

    images = absent = 0
    patients: set[str] = set()
    labels: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    stage = ManifestSettings.model_validate(settings.data.manifest(config, name))
    for record in list_records(Path(config["data_root"]), stage):
        if record.path.name not in names(record.path.parent):
            absent += 1
            continue
        if record.excluded_reason:
            left_out[record.excluded_reason] += 1
            continue
        suffix = record.path.suffix.lower()
        if suffix not in kinds:
            kinds[suffix] = other_format(record.path) if record.path.is_file() else ""
        if kinds[suffix]:
            left_out[f"{kinds[suffix]} files, which are not read; export them as PNG"] += 1
            continue
        images += 1
        patients.add(record.patient_id)
        labels[record.label] += 1
    return {
        "images": images,
        "absent": absent,
        "patients": None if "" in patients else len(patients),
        "labels": labels,
        "left_out": left_out,
    }


def describe_counts(found: dict[str, Any], expected: Expected) -> str:
    """`190 images (735 expected), 190 patients`; labels only where they differ."""
    parts = [_count(found["images"], expected.images, "images")]
    if found["patients"] is not None or expected.patients:
        parts.append(_count(found["patients"], expected.patients, "patients"))
    labels = [
        _count(found["labels"][label], images, label)
        for label, images in expected.labels.items()
        if found["labels"][label] != images
    ]
    as_expected = expected.images and not labels and not any("expected" in part for part in parts)
    return ", ".join(parts + labels) + (", as expected" if as_expected else "")


def _count(found: int | None, expected: int | None, what: str) -> str:
    number = "unknown" if found is None else f"{found:,}"
    return f"{number} {what}" + (f" ({expected:,} expected)" if expected not in (None, found) else "")


def look_at_file(path: Path, expected_sha256: str, stand_in: bool = False) -> State:
    """Look for a checkpoint; one of another hash than expected is refused by the workflow.

    `stand_in`: whether the configuration wants random weights there.
    """
    if stand_in_mark(path).is_file() and path.is_file():
        return State("stand-in", True, ["random weights, for demonstration only"])
    if not path.is_file() and stand_in:
        return State("stand-in", True, ["not made yet; the workflow makes it when it is needed"])
    if not path.is_file():
        half = path.with_name(f"{path.name}.part").exists()
        return State("partial", False, ["half fetched"]) if half else State("absent", False, [])
    size = human_bytes(path.stat().st_size)
    if not expected_sha256:
        return State("present", True, [size])
    found = sha256(path)
    if found != expected_sha256:
        fact = f"{size}, another version or incomplete: sha256 is {found[:12]}…, expected {expected_sha256[:12]}…"
        return State("partial", False, [fact])
    return State("present", True, [f"{size}, sha256 as expected"])


def checkpoint_files(config: Config) -> dict[str, Config]:
    """The files below checkpoint_root that teachers and models are loaded from, with the entry that names each."""
    records = [*config["teachers"].values(), *(model.get("checkpoint", {}) for model in config["models"].values())]
    return {record["file"]: record for record in records if record.get("file") and "hub" not in record}
