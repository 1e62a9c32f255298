"""Fetching a data set from a local server: whole or not at all, and never over somebody's files."""

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from file_server import Page, Server, serve
from urfm import fetch as fetching
from urfm.data import download as module
from urfm.data.download import Archive, download, main
from urfm.errors import UrfmError
from urfm.fetch import RemoteFile, open_session

BENIGN = {"Benign/image/1.jpg": b"1" * 5000, "Benign/image/2.jpg": b"2"}
NORMAL = {"Normal/image/1.jpg": b"3"}


def zipped(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # of 1980: the same bytes every time
    return stream.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "BACKOFF", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as running:
        yield running


@pytest.fixture
def session(server: Server) -> Iterator[requests.Session]:
    with open_session() as running:
        yield running


def served(server: Server, name: str, content: bytes, algorithm: str = "md5") -> RemoteFile:
    digest = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}" if algorithm else ""
    return RemoteFile(name=name, url=server.put(f"/{name}", Page(content)), hash=digest)


def liver(*files: RemoteFile, **settings: object) -> Archive:
    return Archive.model_validate(
        {"dataset": "aul", "folder": "AUL", "where": "https://example.org", "licence": "CC BY 4.0", "files": files}
        | settings
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_several_archives_become_one_folder(
    tmp_path: Path, server: Server, session: requests.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [served(server, "Benign.zip", zipped(BENIGN)), served(server, "Normal.zip", zipped(NORMAL), "sha256")]
    files.append(served(server, "readme.txt", b"About"))
    root = tmp_path / "not" / "there yet"
    download(liver(*files), root, session)
    found = tree(root / "AUL")
    record = json.loads(found.pop("DOWNLOADED.json"))
    assert found == {**BENIGN, **NORMAL, "readme.txt": b"About"}
    assert [path.name for path in root.iterdir()] == ["AUL"]
    assert record["dataset"] == "aul"
    assert record["fetched"].endswith("+00:00")
    assert record["files"][0] == {
        "name": "Benign.zip",
        "url": f"{server.url}/Benign.zip",
        "bytes": len(zipped(BENIGN)),
        "hash": files[0].hash,
        "verified": True,
    }
    assert f"unpacked in {root}/AUL; checksums agree with the published ones. Licence: CC" in capsys.readouterr().out
    # A finished set is not fetched again.
    before = len(server.requests)
    download(liver(*files), root, session)
    assert len(server.requests) == before
    assert f"aul: {root}/AUL is there already, fetched {record['fetched']}" in capsys.readouterr().out


def test_unverified_is_said(
    tmp_path: Path, server: Server, session: requests.Session, capsys: pytest.CaptureFixture[str]
) -> None:
    download(liver(served(server, "Benign.zip", zipped(BENIGN), "")), tmp_path, session)
    assert "NOT verified, because no checksum is published: Benign.zip" in capsys.readouterr().out
    record = json.loads((tmp_path / "AUL" / "DOWNLOADED.json").read_text())
    assert record["files"][0]["verified"] is False
    assert record["files"][0]["hash"] == f"sha256:{hashlib.sha256(zipped(BENIGN)).hexdigest()}"


@pytest.mark.parametrize("content", ["SIMULATED.json", "Benign/image/1.jpg"])
def test_somebodys_folder_is_never_touched(
    tmp_path: Path, server: Server, session: requests.Session, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    mine = tmp_path / "AUL" / content
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    download(liver(served(server, "Benign.zip", zipped(BENIGN))), tmp_path, session)
    assert tree(tmp_path) == {f"AUL/{content}": b"mine"}
    assert server.requests == []
    assert f"aul: {tmp_path}/AUL holds files that were not fetched here, and is left alone" in capsys.readouterr().out


def test_a_link_to_somebodys_disk_is_never_touched(tmp_path: Path, server: Server, session: requests.Session) -> None:
    (tmp_path / "AUL").symlink_to(tmp_path / "a disk that is not mounted now")
    download(liver(served(server, "Benign.zip", zipped(BENIGN))), tmp_path, session)
    assert (tmp_path / "AUL").is_symlink()
    assert server.requests == []


def test_an_empty_folder_is_filled(tmp_path: Path, server: Server, session: requests.Session) -> None:
    (tmp_path / "AUL").mkdir()
    download(liver(served(server, "Benign.zip", zipped(BENIGN))), tmp_path, session)
    assert set(BENIGN) < set(tree(tmp_path / "AUL"))


def test_a_zip_that_tries_to_escape(tmp_path: Path, server: Server, session: requests.Session) -> None:
    root = tmp_path / "data"
    evil = zipped({"good.jpg": b"1", "../../../escaped": b"2"})
    with pytest.raises(UrfmError, match=r"evil\.zip: not unpacked, because its entry '\.\./\.\./\.\./escaped'"):
        download(liver(served(server, "evil.zip", evil)), root, session)
    assert not (root / "AUL").exists()
    assert [path.name for path in tmp_path.rglob("*escaped*")] == []


def test_interrupted_while_unpacking(tmp_path: Path, server: Server, session: requests.Session) -> None:
    """No half folder at its place; the next call unpacks afresh and fetches nothing."""
    archive = liver(served(server, "Benign.zip", zipped(BENIGN)))

    def killed(*arguments: object) -> None:
        (tmp_path / ".downloads" / "AUL" / "unpacked" / "half").write_bytes(b"")
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "extract", killed)
        with pytest.raises(KeyboardInterrupt):
            download(archive, tmp_path, session)
    assert not (tmp_path / "AUL").exists()
    download(archive, tmp_path, session)
    assert len(server.requests) == 1
    assert set(tree(tmp_path / "AUL")) == {*BENIGN, "DOWNLOADED.json"}


def test_zenodo_is_asked(
    tmp_path: Path, server: Server, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer has the form of zenodo.org/api/records/<record>."""
    monkeypatch.setattr(module, "ZENODO", f"{server.url}/api/records")
    content = zipped(BENIGN)
    answer = {
        "id": 8041285,
        "files": [
            {
                "key": "LEPset.zip",
                "size": len(content),
                "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                "links": {"self": server.put("/api/records/8041285/files/LEPset.zip/content", Page(content))},
            }
        ],
    }
    server.put("/api/records/8041285", Page(json.dumps(answer).encode()))
    download(liver(record="zenodo:8041285"), tmp_path, session)
    assert set(BENIGN) < set(tree(tmp_path / "AUL"))
    assert json.loads((tmp_path / "AUL" / "DOWNLOADED.json").read_text())["files"][0]["verified"] is True


def mendeley(server: Server, monkeypatch: pytest.MonkeyPatch, files: object, folders: object) -> Archive:
    monkeypatch.setattr(module, "MENDELEY", f"{server.url}/public-api")
    server.put(
        "/public-api/datasets/552zbvzwrk/files?folder_id=root&version=1", Page(json.dumps(files).encode(), etag="")
    )
    server.put("/public-api/datasets/552zbvzwrk/folders/1", Page(json.dumps(folders).encode(), etag=""))
    return liver(record="mendeley:552zbvzwrk/1", nested=True)


def test_mendeley_archives_are_verified(
    tmp_path: Path, server: Server, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = zipped(BENIGN)
    details = {
        "sha256_hash": hashlib.sha256(content).hexdigest(),
        "download_url": server.put("/file_downloaded", Page(content)),
    }
    archive = mendeley(server, monkeypatch, [{"filename": "UF.zip", "content_details": details}], [])
    download(archive, tmp_path, session)
    assert set(BENIGN) < set(tree(tmp_path / "AUL"))
    assert json.loads((tmp_path / "AUL" / "DOWNLOADED.json").read_text())["files"][0]["verified"] is True


@pytest.mark.parametrize(
    ("files", "folders"), [([], [{"id": "1", "name": "UF"}]), ([{"filename": "1.jpg", "content_details": {}}], [])]
)
def test_mendeley_images_come_as_one_zip(
    tmp_path: Path,
    server: Server,
    session: requests.Session,
    monkeypatch: pytest.MonkeyPatch,
    files: object,
    folders: object,
) -> None:
    server.put("/public-api/zip/552zbvzwrk/download/1", Page(zipped({"Title/UF.zip": zipped(BENIGN)})))
    download(mendeley(server, monkeypatch, files, folders), tmp_path, session)
    assert set(tree(tmp_path / "AUL")) == {*(f"Title/UF/{name}" for name in BENIGN), "DOWNLOADED.json"}
    assert json.loads((tmp_path / "AUL" / "DOWNLOADED.json").read_text())["files"][0]["verified"] is False


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"<html>", "did not answer with JSON"),
        (b"{}", "describes its files in another way.*by hand from https://example.org"),
        (b'{"files": []}', "lists no files"),
        (
            b'{"files": [{"key": "../../x", "checksum": "md5:0", "links": {"self": "https://a"}}]}',
            "describes its files in another way",
        ),
    ],
)
def test_a_repository_that_answers_otherwise(
    tmp_path: Path,
    server: Server,
    session: requests.Session,
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    message: str,
) -> None:
    monkeypatch.setattr(module, "ZENODO", server.url)
    server.put("/1", Page(answer))
    with pytest.raises(UrfmError, match=message):
        download(liver(record="zenodo:1"), tmp_path, session)
    assert not (tmp_path / "AUL").exists()


@pytest.mark.parametrize("folder", ["../elsewhere", "/tmp/elsewhere"])
def test_folders_lie_below_the_data_root(tmp_path: Path, session: requests.Session, folder: str) -> None:
    with pytest.raises(UrfmError, match="is not below the data root"):
        download(liver(folder=folder), tmp_path, session)


def test_one_failure_does_not_keep_the_others(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = liver(RemoteFile(name="a.zip", url=f"{server.url}/gone.zip"), dataset="gone", folder="Gone")
    good = liver(served(server, "Benign.zip", zipped(BENIGN)))
    settings = json.dumps({"archives": [archive.model_dump(mode="json") for archive in (gone, good)]})
    monkeypatch.setattr(sys, "argv", ["download", "--root", str(tmp_path), "--settings", settings])
    with pytest.raises(UrfmError, match="not fetched: gone"):
        main()
    output = capsys.readouterr().out
    assert f"gone: failed. {server.url}/gone.zip: 404 Not Found; it is no longer there" in output
    assert (tmp_path / "AUL" / "DOWNLOADED.json").is_file()
    server.put("/gone.zip", Page(zipped(NORMAL)))
    main()
    assert (tmp_path / "Gone" / "Normal").is_dir()
