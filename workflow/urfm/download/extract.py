"""Unpacking archives from elsewhere: zip, and tar plain, gzipped or xz. The one door through which they enter.

An archive may be anything, so nothing is taken on trust. Only files and folders are made, only below the target, and
none replaces another; links, devices and names that lead elsewhere are refused. What comes out is counted as it comes,
with a tar file's headers and what is left out, whatever the headers say, and the caps of `Limits` stop bombs: little
memory is taken, and time goes with what may be unpacked. Damage, encryption and a full disk are an UrfmError that says
what to do. What an interrupted call leaves lies below the target.
"""

from __future__ import annotations

import errno
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from urfm.core.errors import UrfmError
from urfm.core.progress import human_bytes, progress

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
CHUNK = 1 << 20  # bytes in memory at a time
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others can blow one chunk up to gigabytes
TAR_BLOCK = tarfile.BLOCKSIZE
TAR_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
TAR_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
TAR_RECORDS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)  # "pax"


class Limits(NamedTuple):
    """Caps on one archive. The largest set of the paper has 1.35 million files; deflate can make 1,032 bytes of one."""

    members: int = 3_000_000  # files and folders
    member_bytes: int = 50 * 10**9
    total_bytes: int = 1000 * 10**9
    ratio: int = 100  # unpacked bytes for one packed byte, when more than `small_bytes` are unpacked
    small_bytes: int = 100 * 10**6
    name: int = 4096  # letters; Linux opens no longer ones
    depth: int = 100  # folders


class _Refused(Exception):
    """Why an archive is not unpacked."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Counted:
    """A stream of which no more than `allowed` bytes come out, whatever they are."""

    def __init__(self, stream: _Stream, allowance: _Allowance) -> None:
        self.stream, self.allowance = stream, allowance

    def read(self, size: int) -> bytes:
        content = self.stream.read(size)
        self.allowance.spend(len(content))
        return content


class _Allowance:
    """What an archive may unpack to, all its streams together."""

    def __init__(self, packed: int, limits: Limits) -> None:
        self.packed = packed
        self.whole = self.left = min(limits.total_bytes, max(limits.small_bytes, limits.ratio * packed))

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _Refused(f"it unpacks to more than {human_bytes(self.whole)}, from {human_bytes(self.packed)}")


class _Part:
    """The next `size` bytes of a stream, all of which must come."""

    def __init__(self, stream: _Stream, size: int) -> None:
        self.stream, self.left = stream, size

    def read(self, size: int) -> bytes:
        content = self.stream.read(min(size, self.left))
        if not content and self.left:
            raise EOFError("it ends in the middle")
        self.left -= len(content)
        return content

    def skip(self) -> None:
        while self.left:
            self.read(CHUNK)


Member = tuple[str, _Stream | None]  # a name as stored, and the content; None for a folder


def is_archive(name: str) -> bool:
    """Whether `extract` takes a file of this name."""
    return name.lower().endswith(SUFFIXES)


def extract(archive: Path, folder: Path, limits: Limits = Limits()) -> int:  # noqa: B008 (immutable)
    """Unpack `archive` into `folder`, which is made if need be; returns the number of files written.

    `__MACOSX/`, which macOS adds, is left out. Raises UrfmError for whatever is wrong with the archive; what was
    written until then is still in `folder`.
    """
    allowance = _Allowance(archive.stat().st_size, limits)
    files = 0
    name = ""
    folder.mkdir(parents=True, exist_ok=True)
    folders = {folder}
    try:
        for name, stream in progress(_members(archive, folder, allowance), f"unpacking {archive.name}"):
            path = folder.joinpath(*_confined(name, limits))
            for place in _missing(path if stream is None else path.parent, folders):
                place.mkdir(exist_ok=True)
                folders.add(place)
            files += stream is not None
            if files + len(folders) - 1 > limits.members:
                raise _Refused(f"it holds more than {limits.members:,} files and folders")
            if stream is None:
                continue
            size = 0
            with open(path, "xb") as output:
                while chunk := stream.read(CHUNK):
                    size += len(chunk)
                    if size > limits.member_bytes:
                        raise _Refused(f"{name!r} is larger than {human_bytes(limits.member_bytes)}")
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


def _confined(name: str, limits: Limits) -> list[str]:
    """The parts of a member's path below the target, none for the target itself.

    Refuses every name that may lead elsewhere, on any system.
    """
    if len(name) > limits.name:
        raise _Refused(f"the name of an entry, {name[:60]!r}…, has more than {limits.name:,} letters")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    absolute = name.startswith("/") or re.match(r"[A-Za-z]:", name)
    if absolute or "\\" in name or ".." in parts or any(ord(letter) < 32 for letter in name):
        raise _Refused(f"its entry {name!r} does not name a place inside the target")
    if len(parts) > limits.depth:
        raise _Refused(f"its entry {name[:60]!r}… lies more than {limits.depth} folders deep")
    return parts


def _missing(path: Path, folders: set[Path]) -> list[Path]:
    """Those of `path` and the folders around it that are not among `folders`, outermost first."""
    places = []
    while path not in folders:
        places.append(path)
        path = path.parent
    return places[::-1]


def _members(archive: Path, folder: Path, allowance: _Allowance) -> Iterator[Member]:
    read = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    return (member for member in read(archive, folder, allowance) if member[0].split("/")[0] != "__MACOSX")


def _zip_members(archive: Path, folder: Path, allowance: _Allowance) -> Iterator[Member]:
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
                yield info.filename, _Counted(stream, allowance)


def _tar_members(archive: Path, folder: Path, allowance: _Allowance) -> Iterator[Member]:
    """Headers are read here, one block at a time: Python's own reader takes any that says it is long into memory."""
    with _decompressed(archive) as content:
        stream = _Counted(content, allowance)
        common: dict[bytes, bytes] = {}  # records for every entry, and for the next one
        records: dict[bytes, bytes] = {}
        while any(block := _block(stream)):
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if header.type in TAR_LONG_NAMES or header.type in TAR_RECORDS:
                payload = _payload(stream, header.size)
                if header.type == tarfile.XGLTYPE:
                    common |= _records(payload)
                elif header.type in TAR_RECORDS:
                    records |= _records(payload)
                elif header.type == tarfile.GNUTYPE_LONGNAME:
                    records[b"path"] = payload.rstrip(b"\0")
                continue
            records, said = {}, common | records
            if b"path" in said:
                header.name = said[b"path"].decode("utf-8", "surrogateescape")
            if not (header.isdir() or header.type in TAR_FILES) or any(key.startswith(b"GNU.sparse") for key in said):
                raise _Refused(f"its entry {header.name!r} is a link or a device, or stored with holes")
            try:
                tarfile.data_filter(header, str(folder))  # Python's own checks, on top of ours
            except tarfile.FilterError as error:
                raise _Refused(str(error)) from error
            if header.isdir():
                yield header.name, None
                continue
            size = _length(said[b"size"]) if b"size" in said else header.size
            part = _Part(stream, size)
            yield header.name, part
            part.skip()
            _Part(stream, -size % TAR_BLOCK).skip()


def _decompressed(archive: Path) -> IO[bytes] | gzip.GzipFile | lzma.LZMAFile:
    with open(archive, "rb") as stream:
        beginning = stream.read(6)
    if beginning.startswith(b"\x1f\x8b"):
        return gzip.open(archive)
    return lzma.open(archive) if beginning == b"\xfd7zXZ\0" else open(archive, "rb")


def _block(stream: _Stream) -> bytes:
    block = stream.read(TAR_BLOCK)
    if len(block) < TAR_BLOCK:
        raise EOFError("it ends without the mark of its end")
    return block


def _payload(stream: _Stream, size: int) -> bytes:
    """What follows a header that describes the next one."""
    if not 0 <= size <= CHUNK:
        raise _Refused(f"one of its headers is {human_bytes(size)} long")
    return b"".join(_block(stream) for _ in range(-(-size // TAR_BLOCK)))[:size]


def _records(payload: bytes) -> dict[bytes, bytes]:
    """Pax records, each `<length> <key>=<value>` and a line feed."""
    records = {}
    start = 0
    while start < len(payload):
        digits = payload[start : start + 20].partition(b" ")[0]
        end = start + _length(digits)
        key, equals, value = payload[start + len(digits) + 1 : end].partition(b"=")
        if end > len(payload) or not equals or not value.endswith(b"\n"):
            raise tarfile.HeaderError("a record of its headers is damaged")
        records[key] = value[:-1]
        start = end
    return records


def _length(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise tarfile.HeaderError(f"{digits[:20]!r} is no length")
    return int(digits)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{human_bytes(needed)} are needed, {human_bytes(free)} are free")
