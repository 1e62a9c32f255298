"""The extractor: what is published comes out whole, what is hostile or damaged never does."""

import ast
import errno
import gzip
import io
import os
import random
import re
import shutil
import signal
import stat
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from urfm.core.errors import UrfmError
from urfm.download import extract as module
from urfm.download.extract import Limits, extract, extract_nested, is_archive

PACKAGE = Path(__file__).resolve().parents[3] / "workflow" / "urfm"
TREE = {"BUSBRA/bus_data.csv": b"ID,Case\n", "BUSBRA/Images/bus 1.png": os.urandom(5000), "BUSBRA/empty": b""}


def make_zip(path: Path, entries: dict[str, bytes], **attributes: Any) -> Path:
    """A zip file; `attributes` are set on every entry."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate names
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return path


def make_tar(path: Path, entries: dict[str, bytes], **attributes: Any) -> Path:
    mode = {".gz": "w:gz", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(archive: Path, folder: Path, message: str, limits: Limits | None = None) -> None:
    """The call ends in a sentence that names the archive, and nothing lies outside the target."""
    before = {path for path in folder.parent.rglob("*") if folder not in path.parents}
    with pytest.raises(UrfmError, match=message) as caught:
        extract(archive, folder, limits or Limits())
    assert str(archive) in str(caught.value)
    assert {path for path in folder.parent.rglob("*") if folder not in path.parents} <= before | {folder}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_a_published_archive_comes_out_whole(tmp_path: Path, name: str) -> None:
    make: Callable[..., Path] = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, {**TREE, "__MACOSX/BUSBRA/._empty": b"resource fork"})
    assert extract(archive, tmp_path / "out") == len(TREE)
    assert files(tmp_path / "out") == TREE
    assert stat.S_IMODE((tmp_path / "out/BUSBRA/empty").stat().st_mode) & 0o111 == 0


def test_archives_made_by_the_usual_programs(tmp_path: Path) -> None:
    """`tar` lists ./ first, zip programs list folders."""
    for name, content in TREE.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    for kind, suffix in (("zip", ".zip"), ("gztar", ".tar.gz"), ("xztar", ".tar.xz")):
        archive = shutil.make_archive(str(tmp_path / "made"), kind, tmp_path / "in")
        assert archive.endswith(suffix)
        extract(Path(archive), tmp_path / kind)
        assert files(tmp_path / kind) == TREE


def test_several_archives_share_a_target(tmp_path: Path) -> None:
    """As the liver set: three archives, each with its class folder."""
    for name in ("Benign", "Malignant"):
        extract(make_zip(tmp_path / f"{name}.zip", {f"{name}/image/1.jpg": name.encode()}), tmp_path / "out")
    assert files(tmp_path / "out") == {"Benign/image/1.jpg": b"Benign", "Malignant/image/1.jpg": b"Malignant"}


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "a/../../escaped",
        "/tmp/escaped",
        "//server/escaped",
        "..\\escaped",
        "a\\..\\..\\escaped",
        "C:escaped",
        "C:/escaped",
        "a/..",
        "new\nline",
    ],
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_lead_elsewhere(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    archive = make(tmp_path / ("a.zip" if make is make_zip else "a.tar"), {"good": b"1", name: b"2"})
    refused(archive, tmp_path / "out", "does not name a place inside the target|outside the destination")
    assert files(tmp_path / "out") == {"good": b"1"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
@pytest.mark.parametrize("target", ["good", "../../etc/passwd"])
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes, target: str) -> None:
    archive = make_tar(tmp_path / "a.tar", {"link": b""}, type=kind, linkname=target)
    refused(archive, tmp_path / "out", "is a link or a device")
    assert list((tmp_path / "out").iterdir()) == []


def test_links_in_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"link": b"/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16)
    refused(archive, tmp_path / "out", "is a link or a device")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.xz"])
def test_bomb(tmp_path: Path, name: str) -> None:
    """125 MB of zeros in some kilobytes: stopped near the cap, not after it has filled the disk."""
    make: Callable[..., Path] = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, {f"{number}.png": bytes(25_000_000) for number in range(5)})
    refused(archive, tmp_path / "out", r"it unpacks to more than 100\.0 MB, from")
    assert sum(len(content) for content in files(tmp_path / "out").values()) <= 100_000_000 + module.CHUNK


def tar_entry(kind: bytes, content: bytes, name: str = "a.png", size: int | None = None) -> bytes:
    """A header of this kind and what follows it, as they stand in a tar file."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content) if size is None else size
    return info.tobuf() + content + bytes(-len(content) % 512)


TAR_END = bytes(1024)


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Guard against code that never answers."""

    def stop(*_: Any) -> None:
        pytest.fail(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, b"g", b"X"])
def test_headers_that_fill_memory(tmp_path: Path, kind: bytes) -> None:
    """20 MB of zeros in some kilobytes, as the name of the next entry: refused before it is read."""
    archive = tmp_path / "a.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as stream:
        stream.write(tar_entry(kind, b"", size=20_000_000) + bytes(20_000_000))
        stream.write(tar_entry(tarfile.REGTYPE, b"1") + TAR_END)
    tracemalloc.start()
    try:
        refused(archive, tmp_path / "out", r"one of its headers is 20\.0 MB long")
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("payload", [b"1" * 1_000_000, b"11 path=a.p\n" * 70_000 + b"9" * 20_000])
def test_headers_that_take_for_ever(tmp_path: Path, payload: bytes) -> None:
    """Digits alone: Python 3.11 tries every place in them as the beginning of a record, and reads each to its end."""
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_entry(tarfile.XHDTYPE, payload) + tar_entry(tarfile.REGTYPE, b"1") + TAR_END)
    with within(30):
        refused(archive, tmp_path / "out", "damaged, incomplete")


@pytest.mark.parametrize(
    "records",
    [b"0 path=a\n", b"-9 path=a\n", b"99 path=a\n", b"9 path=ab\n", b"7 path\n", b"9 size=-1\n", b"15 size=1000000\n"],
)
def test_headers_that_are_damaged(tmp_path: Path, records: bytes) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_entry(tarfile.XHDTYPE, records) + tar_entry(tarfile.REGTYPE, b"1") + TAR_END)
    refused(archive, tmp_path / "out", "damaged, incomplete")


def test_headers_count_and_so_does_what_is_left_out(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "a.tar.gz", {f"__MACOSX/{number}.png": bytes(50_000) for number in range(3)})
    refused(archive, tmp_path / "out", r"it unpacks to more than 100\.0 kB, from", Limits(small_bytes=100_000))
    archive.write_bytes(gzip.compress(tar_entry(tarfile.XGLTYPE, b"14 comment=ab\n") * 200))
    refused(archive, tmp_path / "out", r"it unpacks to more than 100\.0 kB, from", Limits(small_bytes=100_000))


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_fill_the_disk(tmp_path: Path, make: Callable[..., Path]) -> None:
    """Folders count as files do; no name is longer or deeper than any program could use."""
    name = tmp_path / ("a.zip" if make is make_zip else "a.tar")
    archive = make(name, {f"{number}/b/c/d.png": b"1" for number in range(3)})
    refused(archive, tmp_path / "out", "it holds more than 11 files and folders", Limits(members=11))
    assert extract(archive, tmp_path / "all", Limits(members=12)) == 3
    refused(make(name, {"a" * 5000: b"1"}), tmp_path / "out", r"'aaa.*has more than 4,096 letters")
    refused(make(name, {"a/" * 100 + "b": b"1"}), tmp_path / "out", "lies more than 100 folders deep")


LONG = {"Straße/" + "ordner/" * 20 + "bild 1.png": b"1", "x" * 120: b"22", "kurz.png": os.urandom(1000)}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_come_out_whole(tmp_path: Path, form: int) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=form, pax_headers={"comment": "of every entry"}) as archive:
        for name, content in LONG.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            archive.addfile(info, io.BytesIO(content))
    assert extract(tmp_path / "a.tar", tmp_path / "out") == 3
    assert files(tmp_path / "out") == LONG


def test_a_header_before_the_header_has_the_size(tmp_path: Path) -> None:
    """As for files of more than 8 GB, whose size the older form has no room for; it is of one entry alone."""
    whole = tar_entry(tarfile.XHDTYPE, b"10 size=3\n") + tar_entry(tarfile.REGTYPE, b"abc", size=0)
    (tmp_path / "a.tar").write_bytes(whole + tar_entry(tarfile.REGTYPE, b"defg", name="b.png") + TAR_END)
    extract(tmp_path / "a.tar", tmp_path / "out")
    assert files(tmp_path / "out") == {"a.png": b"abc", "b.png": b"defg"}


def test_stored_with_holes(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_entry(tarfile.GNUTYPE_SPARSE, b"") + TAR_END)
    refused(tmp_path / "a.tar", tmp_path / "out", "stored with holes")
    sparse = tar_entry(tarfile.XHDTYPE, b"22 GNU.sparse.major=1\n") + tar_entry(tarfile.REGTYPE, b"1\n0\n1\n")
    (tmp_path / "b.tar").write_bytes(sparse + TAR_END)
    refused(tmp_path / "b.tar", tmp_path / "out", "stored with holes")


@pytest.mark.parametrize("cut", ["a damaged header", "between two entries", "before the end"])
def test_a_tar_that_breaks_off_is_never_taken_for_whole(tmp_path: Path, cut: str) -> None:
    """Python's own reader ends without a word at a header that it cannot read."""
    first, second = tar_entry(tarfile.REGTYPE, b"1"), tar_entry(tarfile.REGTYPE, b"2", name="b.png")
    rest = {"a damaged header": b"x" + second[1:] + TAR_END, "between two entries": b"", "before the end": second}
    (tmp_path / "a.tar").write_bytes(first + rest[cut])
    refused(tmp_path / "a.tar", tmp_path / "out", "damaged, incomplete")


def test_bomb_whose_headers_lie(tmp_path: Path) -> None:
    """The central directory says 10 bytes; what is written counts."""
    archive = make_zip(tmp_path / "a.zip", {"a.png": bytes(500_000)})
    content = bytearray(archive.read_bytes())
    for start, offset in ((content.index(b"PK\1\2"), 24), (0, 22)):  # uncompressed size, central and local
        content[start + offset : start + offset + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(UrfmError, match="damaged"):
        extract(archive, tmp_path / "out")
    assert sum(len(content) for content in files(tmp_path / "out").values()) <= 10


def test_caps(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {f"{number}": bytes(2000) for number in range(5)})
    for limits, message in (
        (Limits(members=4), "it holds more than 4 files"),
        (Limits(member_bytes=1999), "is larger than 2.0 kB"),
        (Limits(total_bytes=9999), "it unpacks to more than 10.0 kB"),
        (Limits(ratio=2, small_bytes=0), "it unpacks to more than"),
    ):
        refused(archive, tmp_path / "out", message, limits)
        shutil.rmtree(tmp_path / "out")
    assert extract(archive, tmp_path / "out", Limits(5, 2000, 10_000, 1000, 0)) == 5


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_nothing_is_written_twice(tmp_path: Path, name: str) -> None:
    make: Callable[..., Path] = make_zip if name.endswith("zip") else make_tar
    archive = make(tmp_path / name, {"a.png": b"first", "./a.png": b"second"})
    refused(archive, tmp_path / "out", r"it holds '\./a\.png' twice")
    assert files(tmp_path / "out") == {"a.png": b"first"}
    archive = make(tmp_path / name, {"b": b"a file", "b/c.png": b"in a folder of the same name"})
    refused(archive, tmp_path / "out", "as file and folder")


def test_names_that_differ_in_case_only(tmp_path: Path) -> None:
    """Both are kept where the file system tells them apart; elsewhere the second is refused."""
    archive = make_zip(tmp_path / "a.zip", {"A.png": b"1", "a.png": b"2"})
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        refused(archive, tmp_path / "out", "takes for one")
    else:
        extract(archive, tmp_path / "out")
        assert files(tmp_path / "out") == {"A.png": b"1", "a.png": b"2"}


def test_encrypted(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"a.png": b"secret"})
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, tmp_path / "out", "is encrypted. Unpack it by hand with the password")


def test_methods_that_blow_up_in_memory(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", bytes(1000))
    refused(tmp_path / "a.zip", tmp_path / "out", "a method other than deflate")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_damaged(tmp_path: Path, name: str) -> None:
    archive = tmp_path / name
    for content in (b"", b"<!DOCTYPE html><title>Sign in</title>", os.urandom(3000)):
        archive.write_bytes(content)
        refused(archive, tmp_path / "out", f"damaged, incomplete, or no archive.*{re.escape(repr(content[:16]))}")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_mutations_end_in_a_sentence_or_stay_inside(tmp_path: Path, name: str) -> None:
    """100 mutations: flipped bytes or a cut; no exception of another kind, nothing outside the target."""
    make: Callable[..., Path] = make_zip if name.endswith("zip") else make_tar
    whole = make(tmp_path / name, TREE).read_bytes()
    generator = random.Random(0)
    damaged = 0
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(generator.randint(1, 8)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        (tmp_path / name).write_bytes(content[: generator.choice([len(content), generator.randrange(len(content))])])
        try:
            extract(tmp_path / name, tmp_path / "out")
        except UrfmError:
            damaged += 1
        assert {path.name for path in tmp_path.iterdir()} <= {name, "out"}
        shutil.rmtree(tmp_path / "out")
    assert damaged > 20


def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", TREE)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    refused(archive, tmp_path / "out", r"5\.0 kB are needed, 100 bytes are free.*Free some space")
    assert files(tmp_path / "out") == {}

    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full(path: Any, mode: str = "r") -> IO[Any]:
        return Full() if mode == "xb" else open(path, mode)

    monkeypatch.undo()
    monkeypatch.setattr(module, "open", full, raising=False)
    refused(archive, tmp_path / "out", "No space left on device.*Free some space, and run the same again")


def test_archives_in_an_archive(tmp_path: Path) -> None:
    """A repository that zips what its users uploaded: one level more, in a folder of its own name."""
    inner = make_zip(tmp_path / "UF.zip", {"1.jpg": b"1"}).read_bytes()
    deeper = make_zip(tmp_path / "deep.zip", {"inner.zip": inner, "../out.jpg": b"2"}).read_bytes()
    extract(make_zip(tmp_path / "all.zip", {"Title/UF.ZIP": inner, "Title/read me.txt": b"!"}), tmp_path / "out")
    extract_nested(tmp_path / "out")
    assert files(tmp_path / "out") == {"Title/UF/1.jpg": b"1", "Title/read me.txt": b"!"}
    extract(make_zip(tmp_path / "all.zip", {"deep.zip": deeper}), tmp_path / "again")
    with pytest.raises(UrfmError, match="does not name a place inside"):
        extract_nested(tmp_path / "again")
    assert not (tmp_path / "out.jpg").exists()


def test_which_names_are_archives() -> None:
    assert all(map(is_archive, ("a.zip", "A.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz")))
    assert not any(map(is_archive, ("a.nii.gz", "a.rar", "a.7z", "zip", "a.csv")))


def test_nothing_else_in_the_library_unpacks_or_unpickles() -> None:
    """One door for archives; no pickle from outside is ever executed."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                if names & {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "unpack_archive"}:
                    found.append(place)
                if names & {"tarfile", "zipfile"} and path.name not in ("extract.py", "weights.py"):
                    found.append(place)
            elif isinstance(node, ast.Call):
                text = ast.unparse(node)
                called = ast.unparse(node.func)
                if called.endswith((".extractall", ".unpack_archive", ".extract", "pickle.load", "pickle.loads")):
                    found.append(place)
                if called == "torch.load" and "weights_only=True" not in text:
                    found.append(place)
                if "allow_pickle=True" in text or called.endswith("read_pickle"):
                    found.append(place)
    assert found == []
