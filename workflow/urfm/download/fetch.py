"""One file from the internet: streamed, resumed where it stopped, verified, and only then given its name.

Nothing here knows what the file is, an archive of images or the weights of a network. A server's passing faults (429,
5xx, a connection refused) are tried again by urllib3; a transfer that breaks off goes on from the last byte with a
Range request, which If-Range ties to the very version that was begun. Only https is spoken.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from urfm.config.data import RemoteFile
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, write_json
from urfm.core.progress import byte_progress, human_bytes, say

CHUNK = 1 << 16  # bytes
TIMEOUT = (20, 60)  # seconds: to connect, and without a byte
ATTEMPTS = 5  # transfers in a row that bring nothing new
BACKOFF = 2.0  # seconds before the second attempt, twice as many before each later one
LONGEST_WAIT = 60  # seconds between two attempts, whatever a server asks for
AGENT = "Mozilla/5.0 (compatible; urfm)"  # some sites refuse the default of Python's libraries


@dataclass(frozen=True)
class Fetched:
    """What arrived. `verified` says whether `hash` was compared with a published one."""

    name: str
    url: str
    bytes: int
    hash: str
    verified: bool


class _LocalOnly(HTTPAdapter):
    """Plain http, for the tests' own server and for nobody else."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        if urlsplit(request.url or "").hostname not in ("localhost", "127.0.0.1", "::1"):
            raise UrfmError(f"{request.url}: only https is used, because anybody on the way can change plain http")
        return super().send(request, *args, **kwargs)


def open_session() -> requests.Session:
    """A session that speaks https only and tries passing faults again."""
    retry = Retry(
        total=ATTEMPTS - 1,
        backoff_factor=BACKOFF / 2,
        backoff_max=LONGEST_WAIT,
        retry_after_max=LONGEST_WAIT,
        status_forcelist=(408, 429, 500, 502, 503, 504),
        allowed_methods=("GET",),
        raise_on_status=False,
    )
    session = requests.Session()
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", _LocalOnly(max_retries=retry))
    session.headers.update({"User-Agent": AGENT, "Accept-Encoding": "identity"})  # the bytes as they are published
    return session


def request(session: requests.Session, url: str, headers: dict[str, str] | None = None) -> requests.Response:
    """GET `url` without its body; whatever is wrong is an UrfmError. 416 (nothing after this byte) passes."""
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.exceptions.SSLError as error:
        raise UrfmError(
            f"{url}: its certificate is not trusted ({error}). A proxy that opens connections needs its own "
            "certificate: REQUESTS_CA_BUNDLE=/path/to/bundle.pem"
        ) from error
    except requests.RequestException as error:
        cause = str(error).rpartition("Caused by ")[2].rstrip(")")  # urllib3 wraps it twice
        raise UrfmError(
            f"{url}: no answer ({cause}). Is this machine online? Compute nodes often are not: use the login node; "
            "behind a proxy set https_proxy"
        ) from error
    if response.ok or response.status_code == 416:
        return response
    response.close()
    advice = {
        401: "it wants a login: fetch it by hand",
        403: "it refuses this machine or wants a login: fetch it by hand in a browser",
        404: "it is no longer there: look at the publisher's page for its new place, and correct `files`",
        410: "it was withdrawn: look at the publisher's page",
    }.get(response.status_code, "the server has a fault: run the same again later")
    raise UrfmError(f"{response.url}: {response.status_code} {response.reason}; {advice}")


def fetch(file: RemoteFile, path: Path, session: requests.Session) -> Fetched:
    """Bring `file` to `path`, whose folder exists; a file that is there already and is right is kept.

    Until it is whole and verified it is `<path>.part`, and a later call goes on with that. Raises UrfmError if it
    cannot be had, if the disk is too small, or if it is not the file whose hash was published.
    """
    if path.is_file() and (not file.hash or _digest(path, file.hash) == file.hash):
        return _describe(file, path)
    part = path.with_name(f"{path.name}.part")
    furthest, failures = _size(part), 0
    try:
        while (reason := _transfer(file, part, session)) is not None:
            failures = 0 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures == ATTEMPTS:
                raise UrfmError(
                    f"{file.url}: {ATTEMPTS} attempts in a row brought nothing new ({reason}). "
                    f"{human_bytes(_size(part))} are kept in {part}: run the same again later, it goes on there"
                )
            wait = min(BACKOFF * 2**failures, LONGEST_WAIT)
            say(f"{file.name}: interrupted at {human_bytes(_size(part))} ({reason}); going on in {wait:.0f} s")
            time.sleep(wait)
    except OSError as error:
        todo = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
        raise UrfmError(f"{part}: {error.strerror or error}; {todo}, and run the same again") from error
    if file.hash and (found := _digest(part, file.hash)) != file.hash:
        part.unlink()
        _origin(part).unlink(missing_ok=True)
        raise UrfmError(
            f"{file.url}: what arrived is not the published file: {found}, expected {file.hash}. It was deleted; run "
            "the same again. If that does not help, the publisher has changed the file: compare with the page"
        )
    part.rename(path)
    _origin(part).unlink(missing_ok=True)
    return _describe(file, path)


def _transfer(file: RemoteFile, part: Path, session: requests.Session) -> str | None:
    """Add to `part` what the server gives; None when it is whole, else why it broke off."""
    have, validator = _resume_point(file, part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and validator:
        headers["If-Range"] = validator
    with request(session, file.url, headers) as response:
        described = response.headers.get("Content-Range", "")
        if response.status_code == 416 and described == f"bytes */{have}":
            return None  # the last byte had come before
        resumed = response.status_code == 206 and described.startswith(f"bytes {have}-")
        if response.status_code in (206, 416) and not resumed:
            part.unlink(missing_ok=True)
            return f"the server cannot go on at byte {have}"
        if not resumed:  # another version, or a server that knows no ranges: from the start
            have = 0
            part.unlink(missing_ok=True)
            write_json(_origin(part), {"url": file.url, "validator": _validator(response)})
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _check_space(part, (total or 0) - have)
        try:
            with open(part, "ab") as output:
                for chunk in byte_progress(response.iter_content(CHUNK), file.name, total, have):
                    output.write(chunk)
        except requests.RequestException as error:
            return type(error).__name__
    return None if total in (None, _size(part)) else "the connection closed early"


def _resume_point(file: RemoteFile, part: Path) -> tuple[int, str]:
    """How many bytes to keep, and what ties them to the version on the server.

    Without such a tie they are kept only if a published hash will tell whether the halves fit.
    """
    with suppress(UrfmError):
        origin = read_json(_origin(part))
        if origin["url"] == file.url and (origin["validator"] or file.hash):
            return _size(part), origin["validator"]
    return 0, ""


def _validator(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")  # If-Range takes no weak ETag


def _origin(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, like: str) -> str:
    """Hash of a file, by the algorithm of `like` (`md5:…`); SHA-256 if that is empty."""
    algorithm = like.partition(":")[0] or "sha256"
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


def _describe(file: RemoteFile, path: Path) -> Fetched:
    known = file.hash or _digest(path, "")
    return Fetched(file.name, file.url, path.stat().st_size, known, verified=bool(file.hash))


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{human_bytes(needed)} are needed, {human_bytes(free)} are free")
