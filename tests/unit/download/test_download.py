"""Fetching a data set from a local server: whole or not at all, and never over somebody's files."""

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from configurations import load
from file_server import Page, Server, serve
from urfm.core.errors import UrfmError
from urfm.doctor import inventory
from urfm.download import download as module
from urfm.download import fetch as fetching
from urfm.download.download import Archive, Weights, download, download_weights, main
from urfm.download.fetch import RemoteFile, open_session
from urfm.plan import settings

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


# Weight files ---------------------------------------------------------------------------------------------------------

CONTENT = b"weights" * 60_000  # arrives in parts of 65,536 bytes, of which whole ones are kept


def weights(server: Server, digest: str = "", **page: Any) -> Weights:
    url = server.put("/model.pth", Page(CONTENT, **page))
    return Weights(name="mae", file="mae/vit.pth", where="https://a.org", licence="MIT", url=url, hash=digest)


SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.mark.parametrize("digest", [SHA256, ""])
def test_weights_come_under_the_configured_name_and_are_recorded(
    tmp_path: Path, server: Server, session: requests.Session, capsys: pytest.CaptureFixture[str], digest: str
) -> None:
    """Broken off twice; the checksum is compared where one is published, and recorded in any case."""
    download_weights(weights(server, digest, cut=[100_000, 100_000]), tmp_path, session)
    assert server.ranges() == ["", "bytes=65536-", "bytes=131072-"]
    found = tree(tmp_path)
    record = json.loads(found.pop("mae/vit.pth.downloaded.json"))
    assert found == {"mae/vit.pth": CONTENT}
    described = {"name": "vit.pth", "url": f"{server.url}/model.pth", "bytes": len(CONTENT), "hash": SHA256}
    assert record["files"] == [{**described, "verified": bool(digest)}]
    assert (record["name"], record["licence"]) == ("mae", "MIT")
    said = capsys.readouterr().out
    assert ("checksum agrees with the published one" in said) == bool(digest)
    assert (f"NOT verified, because no checksum is published; recorded: {SHA256}" in said) != bool(digest)
    before = len(server.requests)
    download_weights(weights(server, digest), tmp_path, session)
    assert len(server.requests) == before


def test_other_weights_than_published_are_not_kept(tmp_path: Path, server: Server, session: requests.Session) -> None:
    with pytest.raises(UrfmError, match="is not the published file"):
        download_weights(weights(server, f"sha256:{'0' * 64}"), tmp_path, session)
    assert tree(tmp_path) == {}


def test_interrupted_weights_go_on(tmp_path: Path, server: Server, session: requests.Session) -> None:
    """Between two calls `<file>.part` is all there is: neither the workflow nor `doctor` take it for the file."""
    with pytest.raises(UrfmError, match="brought nothing new"):
        download_weights(weights(server, SHA256, cut=[100_000, *[0] * 10]), tmp_path, session)
    assert {"mae/vit.pth.part", "mae/vit.pth.part.json"} == set(tree(tmp_path))
    assert inventory.look_at_file(tmp_path / "mae" / "vit.pth", "")[:3] == ("partial", False, ["half fetched"])
    server.requests.clear()
    download_weights(weights(server, SHA256), tmp_path, session)
    assert server.ranges() == ["bytes=65536-"]
    assert tree(tmp_path)["mae/vit.pth"] == CONTENT


def test_somebodys_weights_are_never_touched(tmp_path: Path, server: Server, session: requests.Session) -> None:
    (tmp_path / "mae").mkdir()
    (tmp_path / "mae" / "vit.pth").write_bytes(b"mine")
    download_weights(weights(server, SHA256), tmp_path, session)
    assert tree(tmp_path) == {"mae/vit.pth": b"mine"}
    assert server.requests == []
    outside = weights(server).model_copy(update={"file": "../vit.pth"})
    with pytest.raises(UrfmError, match="is not below the checkpoint root"):
        download_weights(outside, tmp_path, session)


def test_the_configuration_names_what_is_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: Server) -> None:
    """By name of a model or teacher, with its pinned hash, through the command line; stand-ins are not fetched."""
    config = load()
    everything = settings.data.download(config)
    names = {item["name"] for item in everything["weights"]}
    assert names == {"biomedclip", "clip", "sl_imagenet", "mim_imagenet", "moco_v3_imagenet", "dino_imagenet"}
    assert everything["archives"]
    config["teachers"]["clip"] |= {"sha256": SHA256.removeprefix("sha256:")}
    config["teachers"]["clip"]["origin"]["files"][0]["url"] = server.put("/clip", Page(CONTENT))
    config["download"] = ["clip"]
    chosen = settings.data.download(config)
    assert chosen["archives"] == []
    roots = ["--root", str(tmp_path / "data"), "--checkpoint-root", str(tmp_path / "checkpoints")]
    monkeypatch.setattr(sys, "argv", ["download", *roots, "--settings", json.dumps(chosen)])
    main()
    assert (tmp_path / "checkpoints" / config["teachers"]["clip"]["file"]).read_bytes() == CONTENT
    config["stand_ins"]["teachers"] = ["clip"]
    assert settings.data.download(config)["weights"] == []
