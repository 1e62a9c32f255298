"""Whether the files of the data sets are still those that the manifests describe (target `check_data`).

Snakemake sees files that come and go, by the times of folders; one that was overwritten in place it does not see. This
asks every file of a manifest for its size and time, as they were when the manifest was made, and reads those that
differ; or it reads all (`check_data: contents`), which finds what was changed under its old time, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from urfm.config.data import Check
from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import parquet_blocks, read_json, sha256, verify_sha256
from urfm.core.progress import progress, say, warn
from urfm.data.manifest import files_of

NAMED = 10  # files of a data set that are named
THREADS = 8  # that read: a network answers several at once


class CheckSettings(Settings):
    """Settings of the stage."""

    datasets: list[str]
    check_data: Check


@dataclass(frozen=True)
class File:
    """A file as its manifest knows it."""

    path: Path
    sha256: str
    size: int
    modified: int  # nanoseconds


def files(root: Path, manifest: Path) -> Iterator[File]:
    """The files of a manifest, each once; the frames of a sequence are one file."""
    known = files_of(manifest)
    rows = (row for batch in parquet_blocks(manifest, ["path", "sha256"]) for row in batch.to_pylist())
    times = (row for batch in parquet_blocks(known) for row in batch.to_pylist())
    last = ""
    for row, time in zip(rows, times, strict=True):
        if row["path"] != time["path"]:
            raise UrfmError(f"{known}: not made with {manifest}; delete both and run the workflow again")
        if row["path"] != last:
            yield File(root / row["path"], row["sha256"], time["size"], time["modified"])
        last = row["path"]


def change(file: File, contents: bool) -> str:
    """What became of a file since its manifest was made; empty if it is the same."""
    try:
        state = file.path.stat()
        if state.st_size != file.size:
            return f"{state.st_size:,} bytes, {file.size:,} when the manifest was made"
        if (contents or state.st_mtime_ns != file.modified) and sha256(file.path) != file.sha256:
            return "other content of the same size"
    except OSError as error:
        return error.strerror or "cannot be read"
    return ""


def check(root: Path, manifest: Path, contents: bool) -> tuple[int, list[tuple[Path, str]]]:
    """How many files a manifest has, and those that changed, with what became of them."""
    listed = list(files(root, manifest))
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda file: change(file, contents), listed)
        changed = [
            (file.path, what)
            for file, what in zip(listed, progress(found, manifest.stem, len(listed)), strict=True)
            if what
        ]
    return len(listed), changed


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Compare the files of data sets with their manifests.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(CheckSettings.model_fields))
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--manifests", type=Path, required=True, help="folder of the manifests")
    arguments = parser.parse_args()
    settings = parse_settings(CheckSettings, arguments.settings)
    contents = settings.check_data == "contents"
    stale = []
    for name in settings.datasets:
        summary = arguments.manifests / f"{name}.json"
        manifest = summary.with_suffix(".parquet")
        if not summary.is_file() or not files_of(manifest).is_file():
            say(f"{name}: no manifest yet")
            continue
        verify_sha256(manifest, read_json(summary)["sha256"])
        total, changed = check(arguments.root, manifest, contents)
        for path, what in changed[:NAMED]:
            warn(f"{name}: {path}: {what}")
        how = "by content" if contents else "by size and time"
        say(f"{name}: {total - len(changed):,} of {total:,} files are as the manifest says, {how}")
        if changed:
            stale.append(str(summary))
    if stale:
        raise UrfmError(
            f"files changed since their manifests were made. To use them as they are now: snakemake --forcerun "
            f"{' '.join(stale)} -- and what you want; or put the old ones back"
        )


if __name__ == "__main__":
    run(main)
