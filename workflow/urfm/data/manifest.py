"""The manifest: one row per image of a data set, whatever its archive looks like; and a list of what is unusable.

A reader lists the images; every file is then decoded once in a child process to record what it holds. A file
that is absent or damaged goes to the rejected list with the reason, and the run goes on.

Rows go to disk as they come and are written again when all are known. Of each image only what must be compared
with all others stays in memory, in some tens of bytes: a manifest of a million rows takes little more than one of a
thousand (docs/benchmarks.md).
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from urfm.core.cli import parse_settings, run
from urfm.core.errors import UnusableImage, UrfmError
from urfm.core.files import atomic_path, parquet_blocks, parquet_rows, scratch_path, sha256, write_record
from urfm.core.progress import progress, say, warn
from urfm.core.provenance import fingerprint
from urfm.core.text import spreadsheet_cell
from urfm.data.counts import count, differences, report_differences
from urfm.data.datasets.common import Record
from urfm.data.images.decode import read_picture
from urfm.data.images.depth import UNSAID, Depth
from urfm.data.images.pixels import pixel_sha256
from urfm.data.images.workers import SECONDS, map_in_processes
from urfm.data.labels import plain
from urfm.data.leakage.near_duplicates import PROXY, proxy_patients
from urfm.data.leakage.perceptual import perceptual_hash
from urfm.data.nearest import nearest_file
from urfm.data.records import (
    COLUMNS,
    CONTRADICTION,
    Candidate,
    ManifestSettings,
    Rejection,
    list_records,
    made_by_simulator,
    metadata,
    screen,
    survey,
)

CHOICES = {"READERS": "reader"}  # of urfm.core.code

SCHEMA = pa.schema([(name, pa.int64() if name in ("width", "height") else pa.string()) for name in COLUMNS])
CATEGORIES = ["label", "excluded_reason", "erratum"]  # columns of few different texts
REJECTED_COLUMNS = ["path", "reason", "detail"]
FILES = pa.schema({"path": pa.string(), "size": pa.int64(), "modified": pa.int64()})  # of each row; urfm.data.check
BLANK = "it holds nothing: all its pixels are equal"
NAMED = 10  # missing files of which the nearest is looked for


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    sha256: str
    pixel_sha256: str
    phash: str
    width: int
    height: int
    blank: bool = False
    depth: Depth = UNSAID
    size: int = 0  # bytes
    modified: int = 0  # nanoseconds


@dataclass
class Counts:
    """What is counted while files are read: rejections by reason, blank pictures, and 16-bit ones by bits."""

    reasons: Counter[str] = field(default_factory=Counter)
    blank: int = 0
    depths: Counter[int] = field(default_factory=Counter)
    highest: dict[int, int] = field(default_factory=dict)  # value, by bits

    def add(self, content: Content) -> None:
        """Count one more picture."""
        self.blank += content.blank
        bits, highest = content.depth
        if bits:
            self.depths[bits] += 1
            self.highest[bits] = max(highest, self.highest.get(bits, 0))


CRASHED = Rejection("crashed", f"the decoder's process died on this file, or took more than {SECONDS} s")


def inspect(candidate: Candidate, bits: int | None = None) -> Content | Rejection:
    """Decode one file and describe it, unless its record alone rules it out."""
    record, rejection = candidate
    if rejection is not None:
        return rejection
    try:
        pixels, depth = read_picture(record.path, record.frame, bits)
    except UnusableImage as error:
        return Rejection(error.reason, error.detail)
    height, width = pixels.shape[:2]
    state = record.path.stat()
    return Content(
        sha256(record.path),
        pixel_sha256(pixels),
        perceptual_hash(pixels),
        width,
        height,
        blank=bool((pixels == pixels[0, 0]).all()),
        depth=depth,
        size=state.st_size,
        modified=state.st_mtime_ns,
    )


def describe(
    root: Path, settings: ManifestSettings, processes: int, described: Path, files: Path, rejected: Path
) -> Counts:
    """Write what every usable file holds, its size and time (both parquet), and what is not usable (CSV).

    All are in the reader's order. Returns what is counted on the way. The reader is asked twice, first for names only,
    so that neither the records nor their names need be kept.
    """
    folder = root / settings.folder
    found = survey(list_records(root, settings))
    if not (total := found.total):
        raise UrfmError(f"{folder}: the reader {settings.reader} finds no image there")
    contradictory = found.contradictory if settings.for_tasks else set()
    candidates, ahead = tee(screen(list_records(root, settings), root, found.repeated, contradictory))
    contents = map_in_processes(partial(inspect, bits=settings.bits), ahead, processes, lambda _: CRASHED)
    counts = Counts()
    first = ""
    images = 0
    with (
        parquet_rows(described, SCHEMA) as append,
        parquet_rows(files, FILES) as append_file,
        open(rejected, "w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        rejections = csv.writer(stream, lineterminator="\n")
        rejections.writerow(REJECTED_COLUMNS)
        for (record, _), content in zip(candidates, progress(contents, settings.dataset, total), strict=True):
            if isinstance(content, Rejection):
                counts.reasons[content.reason] += 1
                content = with_nearest(content, record.path, folder, counts)
                first = first or f"{record.path}: {content.reason} ({content.detail})"
                place = record.path.as_posix().removeprefix(f"{root.as_posix()}/")
                rejections.writerow(map(spreadsheet_cell, [place, content.reason, content.detail]))
            else:
                counts.add(content)
                row = metadata(record, settings.dataset, settings.organ, settings.source, settings.patients)
                row |= vars(content) | {"path": record.path.relative_to(root).as_posix()}
                row |= {"erratum": erratum(record, content), "excluded_reason": why_excluded(record, content, settings)}
                append(row)
                append_file(row)
            images += 1
    if images != total:
        raise UrfmError(
            f"{folder}: {total:,} images were listed at first and {images:,} while they were read; "
            "run it again when nothing is written there"
        )
    if counts.reasons.total() == total:
        raise UrfmError(
            f"{folder}: none of {total:,} listed images can be used; the first, {first}. "
            "Put the images beside the metadata as published"
        )
    return counts


def with_nearest(rejection: Rejection, path: Path, folder: Path, counts: Counts) -> Rejection:
    """A rejection that names, of the first missing files, what may be meant."""
    if rejection.reason != "missing" or counts.reasons["missing"] > NAMED or not (near := nearest_file(path, folder)):
        return rejection
    return replace(rejection, detail=f"{rejection.detail}; the nearest is {near}")


def why_excluded(record: Record, content: Content, settings: ManifestSettings) -> str:
    """Why an image is excluded, if it is."""
    return record.excluded_reason or (BLANK if content.blank and settings.blank == "exclude" else "")


def erratum(record: Record, content: Content) -> str:
    """What was corrected of an image's metadata: the reader's own correction, and a size that is not the file's."""
    sentences = [record.erratum] if record.erratum else []
    if record.size not in (None, (content.width, content.height)):
        width, height = record.size
        sentences.append(f"the metadata say {width} x {height} pixels, the file has {content.width} x {content.height}")
    return "; ".join(sentences)


def overview(described: Path) -> pd.DataFrame:
    """What is counted and compared over all images, row by row as described, in some twenty bytes each.

    Columns CATEGORIES, and 64-bit hashes of patient_id and, as `pixels`, of pixel_sha256: in a million of them, two
    are equal by chance once in 10^7 data sets.
    """
    blocks = list(parquet_blocks(described, CATEGORIES, CATEGORIES))
    table: pd.DataFrame = pa.Table.from_batches(blocks).to_pandas()
    return table.assign(patient_id=_hashes(described, "patient_id"), pixels=_hashes(described, "pixel_sha256"))


def _hashes(described: Path, column: str) -> npt.NDArray[np.int64]:
    batches = parquet_blocks(described, [column])
    return np.fromiter((hash(text) for batch in batches for text in batch[column].to_pylist()), np.int64)


def exclude_contradictions(images: pd.DataFrame, for_tasks: bool = True) -> pd.DataFrame:
    """Exclude images whose very same pixels also occur under another label: one of the labels is wrong.

    An image without a label contradicts none; one that is listed under two labels (`screen`) contradicts its copies.
    Where no task needs the labels, the first copy stays.
    """
    twice_listed = images["excluded_reason"] == CONTRADICTION
    counted = ((images["excluded_reason"] == "") | twice_listed) & (images["label"] != "")
    labelled = images.loc[counted, ["pixels", "label"]]
    repeated = labelled[labelled["pixels"].duplicated(keep=False)]
    written = repeated["label"].cat
    levels, _ = pd.factorize(np.array([plain(name) for name in written.categories], object))
    labels = pd.Series(levels[written.codes], repeated.index).groupby(repeated["pixels"]).transform("nunique")
    listed = twice_listed[repeated.index].groupby(repeated["pixels"]).transform("any")
    wrong = repeated[(labels > 1) | listed]
    if not for_tasks:
        wrong = wrong[wrong["pixels"].duplicated()]
    known = images["excluded_reason"].cat
    reasons = known.set_categories(known.categories.union([CONTRADICTION]))
    return images.assign(excluded_reason=reasons.mask(images.index.isin(wrong.index), CONTRADICTION))


def write_manifest(
    root: Path, settings: ManifestSettings, processes: int, manifest: Path, rejected: Path
) -> dict[str, Any]:
    """Write the manifest (parquet) and the rejected list (CSV) of one data set; returns what is counted.

    Both are in the reader's order, which depends on names alone. The manifest has the columns COLUMNS; rows with an
    empty excluded_reason are usable. Nothing is written if none is, or if counts are strict and differ. Sizes and times
    of the files are written beside it, as <manifest>.files.parquet: another result would depend on them.
    """
    with (
        scratch_path(manifest.with_suffix(".described")) as described,
        atomic_path(files_of(manifest)) as files,
        atomic_path(rejected) as rejections,
    ):
        counts = describe(root, settings, processes, described, files, rejections)
        images = overview(described)
        revised = ["excluded_reason"]
        if settings.proxy_patients is not None:
            columns = ["image_id", "phash", "frame", "patient_id", "patient_source"]
            proxies = proxy_patients(pd.read_parquet(described, columns=columns), settings.proxy_patients)
            images[proxies.columns] = proxies
            revised += ["patient_id", "patient_source"]
        images = exclude_contradictions(images, settings.for_tasks)
        found = report(settings, images, counts, rejected)
        if not found["images"]:
            raise UrfmError(
                f"{root / settings.folder}: no image can be used, for the reasons above ({found['rejected']:,} "
                f"rejected, {found['excluded']:,} excluded). Correct the metadata, or put the files where they say"
            )
        with atomic_path(manifest) as temporary:
            copy(described, temporary, images[revised])
    return found


def files_of(manifest: Path) -> Path:
    """Where the sizes and times of a manifest's files are, row by row."""
    return manifest.with_suffix(".files.parquet")


def images_of(manifest: Path) -> Path:
    """Where it says what an image store of the manifest holds: other labels do not change it."""
    return manifest.with_suffix(".images.json")


def images_sha256(manifest: Path) -> str:
    """Hash of the usable images, their names and pixels, whatever their order: the sum of the hashes of all."""
    total = 0
    for batch in parquet_blocks(manifest, ["image_id", "frame", "pixel_sha256", "excluded_reason"]):
        for row in batch.to_pylist():
            if row.pop("excluded_reason") == "":
                total += int(fingerprint(row), 16)
    return f"{total % 2**256:064x}"


def copy(described: Path, manifest: Path, revised: pd.DataFrame) -> None:
    """Write a described table again with the columns of `revised`, which has a row for each of its rows."""
    start = 0
    with pq.ParquetWriter(manifest, SCHEMA) as writer:
        for batch in parquet_blocks(described):
            block = revised.iloc[start : start + len(batch)]
            for name in revised.columns:
                column = pa.array(block[name].astype(str), pa.string())
                batch = batch.set_column(SCHEMA.get_field_index(name), name, column)
            writer.write_batch(batch)
            start += len(batch)


def report(settings: ManifestSettings, images: pd.DataFrame, counts: Counts, rejected: Path) -> dict[str, Any]:
    """Say what was found and what is wrong with it; returns the numbers. Differing counts are an error if strict."""
    usable = images[images["excluded_reason"] == ""]
    found = count(usable)
    repeated = int(usable["pixels"].duplicated().sum())
    sentences = differences(settings.expected, found)
    for reason, number in sorted(counts.reasons.items()):
        warn(f"{settings.dataset}: {number:,} images rejected, {reason}; see {rejected}")
    for reason, number in _frequencies(images["excluded_reason"]).items():
        warn(f"{settings.dataset}: {number:,} images excluded, {reason}")
    for sentence, number in _frequencies(usable["erratum"]).items():
        say(f"{settings.dataset}: corrected in {number:,} images: {sentence}")
    if "patient_source" in usable and (proxies := int((usable["patient_source"] == PROXY).sum())):
        say(f"{settings.dataset}: {proxies:,} images without a patient id share one with their near duplicates")
    if counts.blank and settings.blank == "keep":
        warn(f"{settings.dataset}: {counts.blank:,} images hold nothing (all pixels equal) and are kept")
    for sentence in depths(settings, counts):
        warn(f"{settings.dataset}: {sentence}")
    if repeated:
        warn(f"{settings.dataset}: {repeated:,} images repeat the pixels of another one (pixel_sha256)")
    report_differences(settings.dataset, sentences, settings.strict_counts)
    return {
        **found,
        "rejected": counts.reasons.total(),
        "excluded": len(images) - len(usable),
        "repeated": repeated,
        "blank": counts.blank,
        "sixteen_bit": {str(bits): number for bits, number in sorted(counts.depths.items())},
        "corrected": int((usable["erratum"] != "").sum()),
        "differences": sentences,
    }


def depths(settings: ManifestSettings, counts: Counts) -> list[str]:
    """What to know of the 16-bit pictures whose brightness nobody stated, a sentence each (D90)."""
    if settings.bits is not None or not counts.depths:
        return []
    key = f"datasets.{settings.dataset}.bits"
    sentences = [
        f"{counts.depths[bits]:,} 16-bit images hold no value above {highest:,} and are read as {bits} bits; if they "
        f"have others, say so: {key}"
        for bits, highest in sorted(counts.highest.items())
        if highest < 2**15
    ]
    if len(counts.depths) > 1:
        names = ", ".join(f"{number:,} as {bits}" for bits, number in sorted(counts.depths.items()))
        sentences.append(
            f"16-bit images are read in several ways ({names} bits), so one grey is not one value; set {key}"
        )
    return sentences


def _frequencies(column: pd.Series[str]) -> dict[str, int]:
    """How often every text occurs that is not empty, the most frequent first."""
    return {str(text): int(number) for text, number in column[column != ""].value_counts().items() if number}


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

    found = write_manifest(arguments.root, settings, arguments.threads, arguments.manifest, arguments.rejected)
    images = {
        "images_sha256": images_sha256(arguments.manifest),
        "simulated": made_by_simulator(arguments.root / settings.folder),
    }
    write_record(images_of(arguments.manifest), {"dataset": settings.dataset, **images})
    write_record(
        arguments.summary,
        {
            "dataset": settings.dataset,
            **found,
            **images,
            "expected": settings.expected.model_dump(exclude_unset=True),
            "sha256": sha256(arguments.manifest),
        },
    )
    say(f"{settings.dataset}: {found['images']:,} images of {found['patients']:,} patients in {arguments.manifest}")


if __name__ == "__main__":
    run(main)
