"""Fetching the data sets and the weight files that anybody may fetch, to where they are looked for.

Files are named in the configuration with their publisher's checksum, or asked of the repository's own interface
(`record`), which gives names, addresses and checksums. They arrive in `<data_root>/.downloads/<folder>/`, are verified,
unpacked there, and the folder moves to its place when it is whole, with DOWNLOADED.json in it. So a folder in its
place is complete, an interrupted call goes on where it stopped, and a folder that somebody else made is never touched.

A weight file arrives beside its place below the checkpoint root, as `<file>.part`, and moves there when it is whole and
has the checksum that its publisher states; where none is stated, what came is recorded in `<file>.downloaded.json`.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import requests
from pydantic import Field, ValidationError

from urfm.config.data import Publication, RemoteFile
from urfm.core.cli import Settings, parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, write_json
from urfm.core.progress import human_bytes, say
from urfm.download.extract import extract, extract_nested, is_archive
from urfm.download.fetch import Fetched, fetch, open_session, request

RECORD = "DOWNLOADED.json"  # lies in the folder of a fetched data set
WORK = ".downloads"  # below the data root
ZENODO = "https://zenodo.org/api/records"
MENDELEY = "https://data.mendeley.com/public-api"


class Archive(Publication):
    """One data set: its place, and what to fetch."""

    dataset: str
    folder: str  # below the data root


class Weights(Settings):
    """One weight file, of a model or a teacher."""

    name: str
    file: str  # below the checkpoint root
    where: str  # the page a person looks at
    licence: str
    url: str
    hash: str = ""  # empty: not published


class DownloadSettings(Settings):
    """Settings of the stage."""

    archives: list[Archive]
    weights: list[Weights] = Field(default_factory=list)


def zenodo_files(record: str, session: requests.Session) -> list[RemoteFile]:
    """The files of a Zenodo record, each with its MD5."""
    content = _ask(f"{ZENODO}/{record}", session)
    return [RemoteFile(name=file["key"], url=file["links"]["self"], hash=file["checksum"]) for file in content["files"]]


def mendeley_files(record: str, session: requests.Session) -> list[RemoteFile]:
    """The archives of a Mendeley data set, each with its SHA-256.

    A set of folders or single images comes as the zip file that the site makes of it, which has no published
    checksum: one transfer instead of thousands.
    """
    name, _, version = record.partition("/")
    files = _ask(f"{MENDELEY}/datasets/{name}/files?folder_id=root&version={version}", session)
    folders = _ask(f"{MENDELEY}/datasets/{name}/folders/{version}", session)
    if folders or not files or not all(is_archive(file["filename"]) for file in files):
        return [RemoteFile(name=f"{name}-{version}.zip", url=f"{MENDELEY}/zip/{name}/download/{version}")]
    return [
        RemoteFile(
            name=file["filename"],
            url=file["content_details"]["download_url"],
            hash=f"sha256:{file['content_details']['sha256_hash']}",
        )
        for file in files
    ]


REPOSITORIES: dict[str, Callable[[str, requests.Session], list[RemoteFile]]] = {
    "zenodo": zenodo_files,
    "mendeley": mendeley_files,
}


def list_files(archive: Archive, session: requests.Session) -> list[RemoteFile]:
    """What to fetch: the configured files, or those the repository lists."""
    if archive.files:
        return list(archive.files)
    repository, _, record = archive.record.partition(":")
    if repository not in REPOSITORIES:
        raise UrfmError(
            f"datasets.{archive.dataset}.origin: names neither files nor a record of {' or '.join(REPOSITORIES)}"
        )
    try:
        files = REPOSITORIES[repository](record, session)
    except (KeyError, TypeError, ValidationError) as error:
        raise UrfmError(
            f"{archive.record}: {repository} describes its files in another way than it did "
            f"({type(error).__name__}: {error}). Fetch them by hand from {archive.where}, or name them in "
            f"datasets.{archive.dataset}.origin.files"
        ) from error
    if not files:
        raise UrfmError(f"{archive.record}: {repository} lists no files; look at {archive.where}")
    return files


def _ask(url: str, session: requests.Session) -> Any:
    with request(session, url, {"Accept": "application/json"}) as response:
        try:
            return response.json()
        except requests.RequestException as error:
            raise UrfmError(f"{url}: did not answer with JSON ({error}); run the same again later") from error


def download(archive: Archive, root: Path, session: requests.Session) -> None:
    """Bring one data set to its folder below `root`, unless there is something already."""
    _check_below(archive.folder, f"datasets.{archive.dataset}.folder", "data root")
    target = root / archive.folder
    if (target / RECORD).is_file():
        say(f"{archive.dataset}: {target} is there already, fetched {read_json(target / RECORD)['fetched']}")
        return
    if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
        say(
            f"{archive.dataset}: {target} holds files that were not fetched here, and is left alone. To fetch the "
            "whole set, move them away first"
        )
        return
    say(f"{archive.dataset}: fetching from {archive.where}")
    work = root / WORK / archive.folder
    work.mkdir(parents=True, exist_ok=True)
    fetched = [fetch(file, work / file.name, session) for file in list_files(archive, session)]
    unpacked = work / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)  # of an interrupted call
    unpacked.mkdir()
    for file in fetched:
        if is_archive(file.name):
            extract(work / file.name, unpacked)
    if archive.nested:
        extract_nested(unpacked)
    for file in fetched:
        if not is_archive(file.name):
            (work / file.name).rename(unpacked / file.name)
            if file.name.lower().endswith((".rar", ".7z")):
                say(f"{archive.dataset}: {target / file.name} is of a kind that is not unpacked here; do it by hand")
    _record(unpacked / RECORD, {"dataset": archive.dataset}, archive.where, archive.licence, fetched)
    target.parent.mkdir(parents=True, exist_ok=True)
    unpacked.rename(target)
    shutil.rmtree(work)
    with suppress(OSError):  # another set is half fetched
        (root / WORK).rmdir()
    unverified = [file.name for file in fetched if not file.verified]
    say(
        f"{archive.dataset}: {human_bytes(sum(file.bytes for file in fetched))} fetched and unpacked in {target}; "
        + (
            f"NOT verified, because no checksum is published: {', '.join(unverified)}"
            if unverified
            else "checksums agree with the published ones"
        )
        + f". Licence: {archive.licence}"
    )


def download_weights(weights: Weights, root: Path, session: requests.Session) -> None:
    """Bring one weight file to its place below `root`, unless there is one already."""
    _check_below(weights.file, f"the file of {weights.name}", "checkpoint root")
    path = root / weights.file
    if os.path.lexists(path):
        say(f"{weights.name}: {path} is there already, and is left alone")
        return
    say(f"{weights.name}: fetching from {weights.where}")
    path.parent.mkdir(parents=True, exist_ok=True)
    fetched = fetch(RemoteFile(name=path.name, url=weights.url, hash=weights.hash), path, session)
    _record(
        path.with_name(f"{path.name}.downloaded.json"),
        {"name": weights.name},
        weights.where,
        weights.licence,
        [fetched],
    )
    verdict = (
        "checksum agrees with the published one"
        if fetched.verified
        else f"NOT verified, because no checksum is published; recorded: {fetched.hash}"
    )
    say(f"{weights.name}: {human_bytes(fetched.bytes)} in {path}; {verdict}. Licence: {weights.licence}")


def _check_below(place: str, what: str, root: str) -> None:
    if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
        raise UrfmError(f"{what}: {place!r} is not below the {root}")


def _record(path: Path, what: dict[str, str], where: str, licence: str, files: list[Fetched]) -> None:
    """Write down what was fetched, from where, when and under which licence."""
    fetched = datetime.now(UTC).isoformat(timespec="seconds")
    described = {"where": where, "licence": licence, "fetched": fetched, "files": [asdict(file) for file in files]}
    write_json(path, {**what, **described})


def main() -> None:
    """Command line of the stage. What cannot be fetched does not keep the others from being fetched."""
    parser = argparse.ArgumentParser(description="Fetch the data sets and weight files that are free to fetch.")
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    parser.add_argument("--checkpoint-root", type=Path, default=Path("checkpoints"), help="where weight files go")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(DownloadSettings.model_fields))
    arguments = parser.parse_args()
    settings = parse_settings(DownloadSettings, arguments.settings)
    if not settings.archives and not settings.weights:
        say("nothing to fetch: nothing is open, or what is open is simulated or stood in for")
    session = open_session()
    jobs = [(item.dataset, partial(download, item, arguments.root, session)) for item in settings.archives]
    root = arguments.checkpoint_root
    jobs += [(item.name, partial(download_weights, item, root, session)) for item in settings.weights]
    failures = []
    for name, fetch_it in jobs:
        try:
            fetch_it()
        except (UrfmError, OSError) as error:
            say(f"{name}: failed. {error}")
            failures.append(name)
    if failures:
        raise UrfmError(f"not fetched: {', '.join(failures)}; the lines above say why and what to do")


if __name__ == "__main__":
    run(main)
