"""One file over http, from a server that misbehaves in every way that servers do."""

import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from file_server import Page, Server, serve
from pydantic import ValidationError
from urfm.core.errors import UrfmError
from urfm.download import fetch as module
from urfm.download.fetch import RemoteFile, fetch, open_session

CONTENT = random.Random(0).randbytes(700_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[requests.Session]:
    monkeypatch.setattr(module, "BACKOFF", 0.0)
    monkeypatch.setattr(module, "TIMEOUT", (0.5, 0.2))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with open_session() as running:
        yield running


def remote(url: str, published: str = MD5) -> RemoteFile:
    return RemoteFile(name="a.zip", url=url, hash=published)


def fetch_and_kill(file: RemoteFile, path: Path, session: requests.Session) -> None:
    """Ctrl-C after three chunks."""

    def interrupted(chunks: Any, *args: Any) -> Iterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number == 3:
                raise KeyboardInterrupt
            yield chunk

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "byte_progress", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(file, path, session)


@pytest.mark.parametrize("published", [MD5, SHA256])
def test_a_file_arrives_and_is_verified(
    tmp_path: Path, server: Server, session: requests.Session, published: str
) -> None:
    url = server.put("/a.zip", Page(CONTENT))
    fetched = fetch(remote(url, published), tmp_path / "a.zip", session)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert (fetched.hash, fetched.verified, fetched.bytes) == (published, True, len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    assert server.requests[0][1]["Accept-Encoding"] == "identity"
    fetch(remote(url, published), tmp_path / "a.zip", session)
    assert len(server.requests) == 1  # it is not fetched again


def test_without_a_published_hash_it_is_said(tmp_path: Path, server: Server, session: requests.Session) -> None:
    url = server.put("/a.zip", Page(CONTENT, length=False))
    fetched = fetch(remote(url, ""), tmp_path / "a.zip", session)
    assert (fetched.hash, fetched.verified) == (SHA256, False)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_an_interrupted_transfer_goes_on(
    tmp_path: Path, server: Server, session: requests.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.put("/a.zip", Page(CONTENT, cut=[200_000, 300_000]))
    fetch(remote(url), tmp_path / "a.zip", session)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    first, second, third = server.ranges()
    assert first == ""
    assert 0 < int(second[6:-1]) < int(third[6:-1]) < len(CONTENT)
    assert server.requests[1][1]["If-Range"] == '"1"'
    assert "a.zip: interrupted at" in capsys.readouterr().out


def test_a_killed_program_goes_on(tmp_path: Path, server: Server, session: requests.Session) -> None:
    """The next call asks for the rest only."""
    url = server.put("/a.zip", Page(CONTENT))
    fetch_and_kill(remote(url), tmp_path / "a.zip", session)
    assert not (tmp_path / "a.zip").exists()
    fetch(remote(url), tmp_path / "a.zip", session)
    assert server.ranges() == ["", f"bytes={3 * module.CHUNK}-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_the_last_byte_had_come(tmp_path: Path, server: Server, session: requests.Session) -> None:
    """Killed between the last byte and the new name: the server has nothing more to give (416)."""
    url = server.put("/a.zip", Page(CONTENT))
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    (tmp_path / "a.zip.part.json").write_text(f'{{"url": "{url}", "validator": "\\"1\\""}}')
    fetch(remote(url), tmp_path / "a.zip", session)
    assert server.ranges() == [f"bytes={len(CONTENT)}-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_without_ranges(tmp_path: Path, server: Server, session: requests.Session) -> None:
    """It sends the whole file again, which must not be put behind the first half."""
    url = server.put("/a.zip", Page(CONTENT, ranges=False, cut=[200_000]))
    fetch(remote(url), tmp_path / "a.zip", session)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_server_without_ranges_that_always_breaks_off(
    tmp_path: Path, server: Server, session: requests.Session
) -> None:
    url = server.put("/a.zip", Page(CONTENT, ranges=False, cut=[200_000] * 100))
    with pytest.raises(UrfmError, match="5 attempts in a row brought nothing new"):
        fetch(remote(url), tmp_path / "a.zip", session)
    assert len(server.requests) == 6  # the first one brought something


@pytest.mark.parametrize("published", [MD5, ""])
def test_a_file_that_changed_meanwhile(
    tmp_path: Path, server: Server, session: requests.Session, published: str
) -> None:
    """The half of the old version is thrown away, whether or not a hash would tell."""
    url = server.put("/a.zip", Page(bytes(700_000), etag='"0"'))
    fetch_and_kill(remote(url, published), tmp_path / "a.zip", session)
    server.put("/a.zip", Page(CONTENT, etag='"1"'))
    fetch(remote(url, published), tmp_path / "a.zip", session)
    assert server.requests[1][1]["If-Range"] == '"0"'
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_without_etag_and_hash_nothing_is_resumed(tmp_path: Path, server: Server, session: requests.Session) -> None:
    url = server.put("/a.zip", Page(CONTENT, etag="", cut=[200_000]))
    fetch(remote(url, ""), tmp_path / "a.zip", session)
    assert server.ranges() == ["", ""]
    url = server.put("/b.zip", Page(CONTENT, etag="", cut=[200_000]))
    fetch(remote(url), tmp_path / "b.zip", session)  # the hash will tell
    assert server.ranges()[3].startswith("bytes=")
    assert "If-Range" not in server.requests[3][1]


def test_weak_etags_are_no_tie(tmp_path: Path, server: Server, session: requests.Session) -> None:
    modified = "Tue, 01 Oct 2024 10:00:00 GMT"
    url = server.put("/a.zip", Page(CONTENT, etag='W/"1"', modified=modified, cut=[200_000]))
    fetch(remote(url, ""), tmp_path / "a.zip", session)
    assert server.requests[1][1]["If-Range"] == modified
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_wrong_checksum(tmp_path: Path, server: Server, session: requests.Session) -> None:
    url = server.put("/a.zip", Page(CONTENT[:-1]))
    with pytest.raises(UrfmError, match=rf"{url}: what arrived is not the published file: md5:.*, expected {MD5}"):
        fetch(remote(url), tmp_path / "a.zip", session)
    assert not (tmp_path / "a.zip").exists()
    assert not (tmp_path / "a.zip.part").exists()


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "wants a login"),
        (403, "refuses this machine"),
        (404, "no longer there.*correct `files`"),
        (410, "withdrawn"),
        (500, "run the same again later"),
        (503, "run the same again later"),
    ],
)
def test_refusals(tmp_path: Path, server: Server, session: requests.Session, status: int, advice: str) -> None:
    url = server.put("/a.zip", Page(CONTENT, status=[status] * 50))
    with pytest.raises(UrfmError, match=rf"{url}: {status} .*; .*{advice}"):
        fetch(remote(url), tmp_path / "a.zip", session)
    assert len(server.requests) == (5 if status >= 500 else 1)


def test_passing_faults_are_tried_again(tmp_path: Path, server: Server, session: requests.Session) -> None:
    page = Page(CONTENT, status=[500, 503, 429], headers={"Retry-After": "0"})
    fetch(remote(server.put("/a.zip", page)), tmp_path / "a.zip", session)
    assert len(server.requests) == 4
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_no_server_asks_for_an_hour(
    tmp_path: Path, server: Server, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waited.append)
    page = Page(CONTENT, status=[503], headers={"Retry-After": "3600"})
    fetch(remote(server.put("/a.zip", page)), tmp_path / "a.zip", session)
    assert waited == [60]


def test_a_stalled_transfer_goes_on(tmp_path: Path, server: Server, session: requests.Session) -> None:
    url = server.put("/a.zip", Page(CONTENT, stall=[200_000]))
    fetch(remote(url), tmp_path / "a.zip", session)
    assert server.ranges()[1].startswith("bytes=")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_nobody_answers(tmp_path: Path, server: Server, session: requests.Session) -> None:
    with pytest.raises(UrfmError, match=r"http://127\.0\.0\.1:9/a\.zip: no answer .*login node"):
        fetch(remote("http://127.0.0.1:9/a.zip"), tmp_path / "a.zip", session)


def test_no_space_left(
    tmp_path: Path, server: Server, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.put("/a.zip", Page(CONTENT))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UrfmError, match=r"a\.zip\.part: 700\.0 kB are needed, 1\.0 kB are free; free some space"):
        fetch(remote(url), tmp_path / "a.zip", session)
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("place", ["http://example.org/a.zip", "http://127.0.0.1.example.org/a.zip"])
def test_only_https(tmp_path: Path, server: Server, session: requests.Session, place: str) -> None:
    """Also when an address that is allowed sends the client on to one that is not."""
    with pytest.raises(UrfmError, match=rf"{place}: only https is used"):
        fetch(remote(place), tmp_path / "a.zip", session)
    url = server.put("/a.zip", Page(status=[302], headers={"Location": place}))
    with pytest.raises(UrfmError, match=rf"{place}: only https is used"):
        fetch(remote(url), tmp_path / "a.zip", session)


@pytest.mark.parametrize("name", ["../a.zip", "a/b.zip", "a\\b.zip", ".hidden", "", ".."])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(ValidationError):
        RemoteFile(name=name, url="https://example.org")


def test_progress_in_a_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line every 15 seconds: how much of how much, and the time left."""
    now = 0.0
    monkeypatch.setattr("urfm.core.progress.time.monotonic", lambda: now)
    chunks = [bytes(10_000_000)] * 4
    for chunk in module.byte_progress(iter(chunks), "a.zip", 100_000_000, 20_000_000):
        assert chunk == chunks[0]
        now += 10
    assert capsys.readouterr().out.splitlines() == [
        "a.zip: 40.0 MB of 100.0 MB, about 60 s left",
        "a.zip: 60.0 MB of 100.0 MB, about 40 s left",
    ]
