"""Unpacking archives from elsewhere: zip, and tar plain, gzipped or xz. The one door through which they enter.

An archive may be anything, so nothing is taken on trust. Only files and folders are made, only below the target, and
none replaces another; links, devices and names that lead elsewhere are refused. What is written is counted as it is
written, whatever the headers say, and the caps of `Limits` stop bombs. Damage, encryption and a full disk are an
UrfmError that says what to do. What an interrupted call leaves lies below the target.
"""

from __future__ import annotations

import errno
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from urfm.core.errors import UrfmError
from urfm.core.progress import human_bytes, progress

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
CHUNK = 1 << 20  # bytes in memory at a time
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others can blow one chunk up to gigabytes


class Limits(NamedTuple):
    """Caps on one archive. The largest set of the paper has 1.35 million files; deflate can make 1,032 bytes of one."""

    members: int = 3_000_000
    member_bytes: int = 50 * 10**9
    total_bytes: int = 1000 * 10**9
    ratio: int = 100  # unpacked bytes for one packed byte, when more than `small_bytes` are unpacked
    small_bytes: int = 100 * 10**6


class _Refused(Exception):
    """Why an archive is not unpacked."""


Member = tuple[str, IO[bytes] | None]  # a name as stored, and the content; None for a folder


def is_archive(name: str) -> bool:
    """Whether `extract` takes a file of this name."""
    return name.lower().endswith(SUFFIXES)


def extract(archive: Path, folder: Path, limits: Limits = Limits()) -> int:  # noqa: B008 (immutable)
    """Unpack `archive` into `folder`, which is made if need be; returns the number of files written.

    `__MACOSX/`, which macOS adds, is left out. Raises UrfmError for whatever is wrong with the archive; what was
    written until then is still in `folder`.
    """
    packed = archive.stat().st_size
    allowed = min(limits.total_bytes, max(limits.small_bytes, limits.ratio * packed))
    members = written = files = 0
    name = ""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for name, stream in progress(_members(archive, folder), f"unpacking {archive.name}"):
            path = folder.joinpath(*_confined(name))
            members += 1
            if members > limits.members:
                raise _Refused(f"it holds more than {limits.members:,} files")
            if stream is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            files += 1
            size = 0
            with open(path, "xb") as output:
                while chunk := stream.read(CHUNK):
                    size += len(chunk)
                    written += len(chunk)
                    if size > limits.member_bytes:
                        raise _Refused(f"{name!r} is larger than {human_bytes(limits.member_bytes)}")
                    if written > allowed:
                        raise _Refused(f"it unpacks to more than {human_bytes(allowed)}, from {human_bytes(packed)}")
                    output.write(chunk)
    except _Refused as error:
        raise UrfmError(
            f"{archive}: not unpacked, because {error}. No published data set needs this: compare the file with its "
            "publisher's checksum, and fetch it again"
        ) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UrfmError(
            f"{archive}: not unpacked, because it holds {name!r} twice, as file and folder, or in two spellings that "
            "this file system takes for one. Unpack it by hand and see which one is meant"
        ) from error
    except UrfmError:
        raise
    except Exception as error:  # a damaged file makes zipfile and tarfile raise almost anything
        if not isinstance(error, OSError) or error.errno is None:  # gzip calls damage an OSError
            raise _damaged(archive, error) from error
        todo = "Free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend that"
        raise UrfmError(
            f"{archive}: cannot be unpacked into {folder}: {error.strerror}{f' ({name!r})' if name else ''}. "
            f"{todo}, and run the same again"
        ) from error
    return files


def extract_nested(folder: Path, limits: Limits = Limits()) -> None:  # noqa: B008
    """Unpack the archives in `folder`, one level deep, each into a folder of its own name, and remove them."""
    for archive in sorted(path for path in folder.rglob("*") if path.is_file() and is_archive(path.name)):
        suffix = next(suffix for suffix in SUFFIXES[::-1] if archive.name.lower().endswith(suffix))
        extract(archive, archive.with_name(archive.name[: -len(suffix)]), limits)
        archive.unlink()


def _damaged(archive: Path, error: Exception) -> UrfmError:
    with open(archive, "rb") as stream:
        beginning = stream.read(16)
    reason = " ".join(str(error).split())[:200]
    return UrfmError(
        f"{archive}: damaged, incomplete, or no archive at all ({type(error).__name__}: {reason}; it begins with "
        f"{beginning!r}). Delete it and fetch it again; a web page in its place (<html …) means that the site wants "
        "a login or a click"
    )


def _confined(name: str) -> list[str]:
    """The parts of a member's path below the target, none for the target itself.

    Refuses every name that may lead elsewhere, on any system.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    absolute = name.startswith("/") or re.match(r"[A-Za-z]:", name)
    if absolute or "\\" in name or ".." in parts or any(ord(letter) < 32 for letter in name):
        raise _Refused(f"its entry {name!r} does not name a place inside the target")
    return parts


def _members(archive: Path, folder: Path) -> Iterator[Member]:
    members = _zip_members(archive, folder) if archive.name.lower().endswith(".zip") else _tar_members(archive, folder)
    return (member for member in members if member[0].split("/")[0] != "__MACOSX")


def _zip_members(archive: Path, folder: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as content:
        _check_space(folder, sum(info.file_size for info in content.infolist()))
        for info in content.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):  # 0: written on Windows
                raise _Refused(f"its entry {info.filename!r} is a link or a device")
            if info.flag_bits & 0x1:
                raise UrfmError(f"{archive}: {info.filename!r} is encrypted. Unpack it by hand with the password")
            if info.is_dir():
                yield info.filename, None
                continue
            if info.compress_type not in ZIP_METHODS:
                raise _Refused(f"its entry {info.filename!r} is compressed by a method other than deflate")
            with content.open(info) as stream:
                yield info.filename, stream


def _tar_members(archive: Path, folder: Path) -> Iterator[Member]:
    with tarfile.open(archive, "r:*") as content:
        for member in content:
            if not member.isreg() and not member.isdir():
                raise _Refused(f"its entry {member.name!r} is a link or a device")
            try:
                tarfile.data_filter(member, str(folder))  # Python's own checks, on top of ours
            except tarfile.FilterError as error:
                raise _Refused(str(error)) from error
            yield member.name, content.extractfile(member)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{human_bytes(needed)} are needed, {human_bytes(free)} are free")
