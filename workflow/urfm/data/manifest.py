"""The manifest: one row an image of a data set, whatever its archive looks like; and a list of what is unusable.

A reader lists the images; every file is then decoded once in a child process to record what it holds. A file
that is absent or damaged goes to the rejected list with the reason, and the run goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from pydantic import Field

from urfm.cli import Settings, parse_settings, run
from urfm.data.counts import Expected, count, differences, report_differences
from urfm.data.datasets import FOLDER_READERS, READERS
from urfm.data.datasets.common import Record
from urfm.data.images import decode, map_in_processes, perceptual_hash, pixel_sha256
from urfm.errors import UnusableImage, UrfmError
from urfm.files import sha256, write_csv, write_json, write_parquet
from urfm.progress import progress, say

COLUMNS = [
    "image_id",
    "dataset",
    "source",
    "organ",
    "path",
    "sha256",
    "pixel_sha256",
    "phash",
    "width",
    "height",
    "patient_id",
    "patient_source",
    "label",
    "device",
    "view",
    "series",
    "frame",
    "official_split",
    "erratum",
    "excluded_reason",
]
REJECTED_COLUMNS = ["path", "reason", "detail"]
SIMULATED = "SIMULATED.json"  # lies in the folder of a simulated data set


class ManifestSettings(Settings):
    """Settings of the stage: one data set of the configuration."""

    dataset: str
    reader: str
    folder: str  # below the data root
    organ: str = ""
    source: str = ""
    folders: dict[str, str] = Field(default_factory=dict)  # folder name: label or organ, for readers that ask
    expected: Expected = Expected()
    strict_counts: bool = False


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    sha256: str
    pixel_sha256: str
    phash: str
    width: int
    height: int


@dataclass(frozen=True)
class Rejection:
    """Why a file cannot be used."""

    reason: str  # missing, unreadable, too_large, unsupported, crashed, listed_twice, outside
    detail: str


def inspect(record: Record) -> Content | Rejection:
    """Decode one image and describe it and its file."""
    try:
        pixels = decode(record.path, record.frame)
    except UnusableImage as error:
        return Rejection(error.reason, error.detail)
    height, width = pixels.shape[:2]
    return Content(sha256(record.path), pixel_sha256(pixels), perceptual_hash(pixels), width, height)


def list_records(root: Path, settings: ManifestSettings) -> list[Record]:
    """What the data set's reader finds below the data root, sorted by name."""
    if settings.reader not in READERS:
        raise UrfmError(
            f"datasets.{settings.dataset}.reader: {settings.reader!r} is none of {', '.join(sorted(READERS))}"
        )
    if not root.is_dir():
        raise UrfmError(f"{root}: no such folder; set data_root to where the data sets lie")
    if PurePosixPath(settings.folder).is_absolute() or ".." in PurePosixPath(settings.folder).parts:
        raise UrfmError(f"datasets.{settings.dataset}.folder: {settings.folder!r} is not below the data root")
    if settings.folders and settings.reader not in FOLDER_READERS:
        raise UrfmError(
            f"datasets.{settings.dataset}.folders: the reader {settings.reader} knows its archive's folders; "
            f"{' and '.join(sorted(FOLDER_READERS))} take this key"
        )
    folder = root / settings.folder
    if settings.reader in FOLDER_READERS:
        found = FOLDER_READERS[settings.reader](folder, settings.folders)
    else:
        found = READERS[settings.reader](folder)
    records = sorted(found, key=lambda record: (record.name, record.path))
    if not records:
        raise UrfmError(f"{root / settings.folder}: the reader {settings.reader} finds no image there")
    return records


def to_table(records: Iterable[Record], dataset: str, organ: str = "", source: str = "") -> pd.DataFrame:
    """Records as the manifest's metadata columns (all but the file's content), `path` as the reader gave it.

    Also what a split needs when only an archive's metadata is at hand.
    """
    table = pd.DataFrame([asdict(record) for record in records])
    table["dataset"] = dataset
    table["image_id"] = dataset + "/" + table["name"]
    own = table["patient_id"] == ""
    table["patient_id"] = dataset + "/" + table["patient_id"].where(~own, table["name"])
    table["patient_source"] = table["patient_source"].where(~own, "none")
    table["organ"] = table["organ"].where(table["organ"] != "", organ)
    table["source"] = table["source"].where(table["source"] != "", source)
    return table.drop(columns=["name", "size"])


def make_manifest(root: Path, settings: ManifestSettings, processes: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest and the rejected list of one data set.

    Returns
    -------
    manifest
        Columns COLUMNS, sorted by image_id; rows with an empty excluded_reason are usable.
    rejected
        Columns path, reason, detail, sorted by path.
    """
    records: list[Record] = []
    rejected: list[tuple[Path, Rejection]] = []
    for record in list_records(root, settings):
        if ".." in record.path.parts or not record.path.is_relative_to(root):
            rejected.append((record.path, Rejection("outside", f"image {record.name} is not below the data root")))
        elif records and record.name == records[-1].name:
            rejected.append((record.path, Rejection("listed_twice", f"another row or file is image {record.name} too")))
        else:
            records.append(record)
    contents = map_in_processes(
        inspect, records, processes, lambda record: Rejection("crashed", "the decoder's process died on this file")
    )
    usable: list[Record] = []
    described: list[Content] = []
    for record, content in zip(records, progress(contents, settings.dataset, len(records)), strict=True):
        if isinstance(content, Rejection):
            rejected.append((record.path, content))
        else:
            usable.append(record)
            described.append(content)
    if not usable:
        path, first = rejected[0]
        raise UrfmError(
            f"{root / settings.folder}: none of {len(rejected):,} listed images can be used; the first, {path}: "
            f"{first.reason} ({first.detail}). Put the images beside the metadata as published"
        )
    table = to_table(usable, settings.dataset, settings.organ, settings.source)
    table["path"] = [record.path.relative_to(root).as_posix() for record in usable]
    table["erratum"] = [erratum(record, content) for record, content in zip(usable, described, strict=True)]
    manifest = pd.concat([table, pd.DataFrame([asdict(content) for content in described])], axis=1)[COLUMNS]
    manifest = exclude_contradictions(manifest.sort_values("image_id", ignore_index=True))
    rejections = pd.DataFrame(
        [(path.as_posix().removeprefix(f"{root.as_posix()}/"), why.reason, why.detail) for path, why in rejected],
        columns=REJECTED_COLUMNS,
    )
    return manifest, rejections.sort_values(REJECTED_COLUMNS, ignore_index=True)


def erratum(record: Record, content: Content) -> str:
    """What was corrected of an image's metadata: the reader's own correction, and a size that is not the file's."""
    sentences = [record.erratum] if record.erratum else []
    if record.size not in (None, (content.width, content.height)):
        width, height = record.size
        sentences.append(f"the metadata say {width} x {height} pixels, the file has {content.width} x {content.height}")
    return "; ".join(sentences)


def exclude_contradictions(manifest: pd.DataFrame) -> pd.DataFrame:
    """Exclude images whose very same pixels also occur under another label: one of the labels is wrong.

    An image without a label contradicts none.
    """
    labelled = manifest[(manifest["excluded_reason"] == "") & (manifest["label"] != "")]
    labels = labelled.groupby("pixel_sha256")["label"].transform("nunique")
    twice = labelled.index[labels > 1]
    return manifest.assign(
        excluded_reason=manifest["excluded_reason"].where(
            ~manifest.index.isin(twice), "the same picture occurs under another label"
        )
    )


def is_simulated(folder: Path) -> bool:
    """Whether the simulator made this data set, itself or one wrapper folder."""
    return (folder / SIMULATED).exists() or any(folder.glob(f"*/{SIMULATED}"))


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="List and describe every image of one data set.")
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(ManifestSettings.model_fields))
    parser.add_argument("--threads", type=int, default=1, help="child processes")
    parser.add_argument("--manifest", type=Path, required=True, help="parquet file to write")
    parser.add_argument("--rejected", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--summary", type=Path, required=True, help="JSON file to write")
    arguments = parser.parse_args()
    settings = parse_settings(ManifestSettings, arguments.settings)

    manifest, rejected = make_manifest(arguments.root, settings, arguments.threads)
    usable = manifest[manifest["excluded_reason"] == ""]
    found: dict[str, Any] = count(usable)
    repeated = int(usable["pixel_sha256"].duplicated().sum())
    sentences = differences(settings.expected, found)
    for reason, images in rejected["reason"].value_counts().sort_index().items():
        say(f"warning: {settings.dataset}: {images:,} images rejected, {reason}; see {arguments.rejected}")
    for reason, images in manifest.loc[manifest["excluded_reason"] != "", "excluded_reason"].value_counts().items():
        say(f"warning: {settings.dataset}: {images:,} images excluded, {reason}")
    for sentence, images in usable.loc[usable["erratum"] != "", "erratum"].value_counts().items():
        say(f"{settings.dataset}: corrected in {images:,} images: {sentence}")
    if repeated:
        say(f"warning: {settings.dataset}: {repeated:,} images repeat the pixels of another one (pixel_sha256)")
    report_differences(settings.dataset, sentences, settings.strict_counts)
    write_parquet(arguments.manifest, manifest)
    write_csv(arguments.rejected, rejected)
    write_json(
        arguments.summary,
        {
            "dataset": settings.dataset,
            **found,
            "rejected": len(rejected),
            "excluded": len(manifest) - len(usable),
            "repeated": repeated,
            "corrected": int((usable["erratum"] != "").sum()),
            "simulated": is_simulated(arguments.root / settings.folder),
            "expected": settings.expected.model_dump(exclude_unset=True),
            "differences": sentences,
            "sha256": sha256(arguments.manifest),
        },
    )
    say(f"{settings.dataset}: {found['images']:,} images of {found['patients']:,} patients in {arguments.manifest}")


if __name__ == "__main__":
    run(main)
