"""Decoding whatever a file may be, and the store."""

import io
import multiprocessing
import os
import pickle
import shutil
import signal
import struct
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from urfm.core.errors import UnusableImage, UrfmError
from urfm.data.images import build, workers
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import PNG, decode, read_picture
from urfm.data.images.pixels import pixel_sha256, reduce
from urfm.data.images.store import ImageStore, find
from urfm.data.images.workers import map_in_processes

GREY = np.arange(12 * 20, dtype=np.uint8).reshape(12, 20)
RGB = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def reason(path: Path) -> str:
    with pytest.raises(UnusableImage) as caught:
        decode(path)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("extension", ["png", "bmp", "tif"])
def test_grey_and_colour_come_back_exactly(tmp_path: Path, extension: str) -> None:
    grey = decode(save(tmp_path / f"grey.{extension}", Image.fromarray(GREY)))
    colour = decode(save(tmp_path / f"colour.{extension}", Image.fromarray(RGB)))
    assert grey.dtype == colour.dtype == np.uint8
    np.testing.assert_array_equal(grey, GREY[..., None])
    np.testing.assert_array_equal(colour, RGB)


def test_equal_colours_are_grey_and_hash_as_grey(tmp_path: Path) -> None:
    grey = decode(save(tmp_path / "grey.png", Image.fromarray(GREY)))
    for mode in ("RGB", "RGBA", "LA", "P"):
        same = decode(save(tmp_path / f"{mode}.png", Image.fromarray(GREY).convert(mode)))
        assert same.shape == (12, 20, 1)
        assert pixel_sha256(same) == pixel_sha256(grey)
    assert pixel_sha256(grey) != pixel_sha256(grey.reshape(20, 12, 1))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    wide = np.array([[0, 128, 129, 257], [25700, 32768, 65406, 65535]], dtype=np.uint16)
    exact = np.round(wide / 65535 * 255)
    for extension in ("png", "tif"):
        decoded = decode(save(tmp_path / f"wide.{extension}", Image.fromarray(wide)))
        np.testing.assert_array_equal(decoded[..., 0], exact)


@pytest.mark.parametrize(("highest", "bits"), [(255, 8), (256, 12), (3504, 12), (4095, 12), (4096, 16), (65535, 16)])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_those_they_use(tmp_path: Path, extension: str, highest: int, bits: int) -> None:
    wide = np.linspace(0, highest, 60).round().astype(np.uint16).reshape(6, 10)
    picture = read_picture(save(tmp_path / f"wide.{extension}", Image.fromarray(wide)))
    assert picture.depth == (bits, highest)
    np.testing.assert_array_equal(picture.pixels[..., 0], np.rint(wide / (2**bits - 1) * 255))
    stated = decode(tmp_path / f"wide.{extension}", bits=16)
    np.testing.assert_array_equal(stated[..., 0], np.rint(wide / 65535 * 255))
    if highest > 1023:
        with pytest.raises(UnusableImage, match="more than 10 bits hold"):
            decode(tmp_path / f"wide.{extension}", bits=10)


def test_white_that_is_zero_is_turned_within_its_bits(tmp_path: Path) -> None:
    wide = np.array([[0, 4095], [1024, 3000]], dtype=np.uint16)
    turned = decode(save(tmp_path / "turned.tif", Image.fromarray(wide), tiffinfo={262: 0}))
    np.testing.assert_array_equal(turned[..., 0], np.rint((4095 - wide) / 4095 * 255))


@pytest.mark.parametrize(("colours", "refused"), [(4095, True), (65535, False), (0, False)])
def test_colours_of_twelve_bits_in_sixteen_are_refused(tmp_path: Path, colours: int, refused: bool) -> None:
    values = np.full((4, 4, 3), colours, ">u2")
    values[0, 0] = 0
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    path = tmp_path / "deep.png"
    path.write_bytes(
        PNG
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )
    if refused:
        with pytest.raises(UnusableImage, match="16-bit colours that use 12 bits"):
            decode(path)
    else:
        assert decode(path).max() == colours >> 8


def large_profile() -> bytes:
    return bytes(1_500_000)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA", "I;16"])
def test_metadata_of_a_png_do_not_matter(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(GREY.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    options = {"transparency": 1} if mode == "P" else {}
    plain = decode(save(tmp_path / "plain.png", image, **options))
    text = PngInfo()
    text.add_text("a", "x" * 2_000_000, zip=True)
    text.add_itxt("b", "y" * 2_000_000, zip=True)
    large = save(tmp_path / "large.png", image, icc_profile=large_profile(), pnginfo=text, **options)
    np.testing.assert_array_equal(decode(large), plain)


@pytest.mark.parametrize("extension", ["jpg", "tif"])
def test_metadata_of_other_formats_do_not_matter(tmp_path: Path, extension: str) -> None:
    plain = decode(save(tmp_path / f"plain.{extension}", Image.fromarray(RGB)))
    large = save(tmp_path / f"large.{extension}", Image.fromarray(RGB), icc_profile=large_profile())
    np.testing.assert_array_equal(decode(large), plain)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (bytes(128) + b"DICM" + bytes(50), "DICOM"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"\0\0\0\x20ftypisom", "MP4 or MOV"),
        (b"PK\x03\x04rest", "zip"),
        (b"GIF89a", "GIF"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "file.png"
    path.write_bytes(content)
    with pytest.raises(UnusableImage, match=f"a {name} file, to be exported as PNG"):
        decode(path)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    decoded = decode(save(tmp_path / "red.jpg", cmyk, quality=100))
    assert decoded.shape == (16, 16, 3)
    np.testing.assert_allclose(decoded.mean(axis=(0, 1)), [255, 0, 0], atol=3)


def test_transparency_lies_over_black(tmp_path: Path) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0] = (200, 100, 50, 255)
    rgba[1] = (200, 100, 50, 0)
    decoded = decode(save(tmp_path / "rgba.png", Image.fromarray(rgba)))
    np.testing.assert_array_equal(decoded[0], [[200, 100, 50]] * 2)
    np.testing.assert_array_equal(decoded[1], 0)

    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    decoded = decode(save(tmp_path / "palette.png", palette, transparency=1))
    np.testing.assert_array_equal(decoded, [[[10, 20, 30], [0, 0, 0]]])


def test_one_bit_and_one_pixel(tmp_path: Path) -> None:
    bits = decode(save(tmp_path / "bits.png", Image.fromarray(GREY > 100)))
    np.testing.assert_array_equal(bits[..., 0], np.where(GREY > 100, 255, 0))
    assert decode(save(tmp_path / "pixel.png", Image.new("L", (1, 1), 7))).tolist() == [[[7]]]


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    turned = decode(save(tmp_path / "turned.jpg", Image.fromarray(GREY), exif=exif))
    plain = decode(save(tmp_path / "plain.jpg", Image.fromarray(GREY)))
    np.testing.assert_array_equal(turned, plain)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF"])
def test_truncated_files_are_unreadable(tmp_path: Path, kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(stream, kind)
    path = tmp_path / "cut"
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
    assert reason(path) == "unreadable"


def test_what_is_no_image(tmp_path: Path) -> None:
    empty, page = tmp_path / "empty.png", tmp_path / "page.png"
    empty.touch()
    page.write_text("<!DOCTYPE html><title>404</title>")
    assert reason(empty) == "unreadable"
    assert reason(page) == "unreadable"
    with pytest.raises(UnusableImage, match="begins with b'<!DOCTYPE html"):
        decode(page)
    assert reason(tmp_path / "absent.png") == "missing"
    assert reason(tmp_path) == "unreadable"  # a folder
    assert reason(save(tmp_path / "frames.gif", Image.fromarray(GREY))) == "unreadable"  # a format that is not read
    float_pixels = Image.fromarray(GREY.astype(np.float32))
    assert reason(save(tmp_path / "float.tif", float_pixels)) == "unsupported"


@pytest.mark.parametrize("side", [10_000, 14_000, 60_000])
def test_image_bombs_are_refused_by_their_header(tmp_path: Path, side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    assert reason(bomb) == "too_large"


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "damaged"
    outcomes = set()
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        stream = io.BytesIO()
        Image.fromarray(RGB).save(stream, kind)
        whole = np.frombuffer(stream.getvalue(), np.uint8)
        for _ in range(100):
            damaged = whole.copy()
            damaged[random.integers(len(whole), size=3)] ^= np.uint8(1) << random.integers(8, size=3).astype(np.uint8)
            path.write_bytes(damaged.tobytes())
            try:
                pixels = decode(path)
                outcomes.add("decoded")
                assert pixels.dtype == np.uint8
                assert pixels.ndim == 3
            except UnusableImage as error:
                outcomes.add(error.reason)
    assert {"decoded", "unreadable"} <= outcomes


def test_reduce_keeps_aspect_and_mean_and_never_enlarges() -> None:
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (300, 600, 3), dtype=np.uint8)
    small = reduce(picture, 200)
    assert small.shape == (100, 200, 3)
    assert abs(float(small.mean()) - float(picture.mean())) < 0.5
    assert small.std() < 0.5 * picture.std()  # antialiased: plain subsampling would keep the noise
    assert reduce(picture, 600) is picture
    assert reduce(picture[..., :1], 200).shape == (100, 200, 1)
    assert reduce(picture[:1], 200).shape == (1, 200, 3)


def make_store(tmp_path: Path, processes: int = 1, long_side: int = 16) -> tuple[Path, dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    pictures, entries = {}, []
    for number in range(40):
        shape = (int(random.integers(1, 30)), int(random.integers(1, 30)), 3 if number % 3 else 1)
        pixels = random.integers(0, 256, shape, dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels if shape[2] == 3 else pixels[..., 0]).save(path)
        pictures[f"set/{number}"] = pixels
        entries.append(Entry(f"set/{number}", path, pixel_sha256(decode(path))))
    folder = tmp_path / f"store-{processes}"
    write_store(entries, folder, long_side, processes, {"simulated": False, "manifest_sha256": "0"})
    return folder, pictures


def test_store_gives_back_what_was_decoded(tmp_path: Path) -> None:
    folder, pictures = make_store(tmp_path, long_side=64)
    store = ImageStore(folder, verify=True)
    assert store.image_ids == sorted(pictures)
    assert len(store) == store.record["images"] == 40
    assert "set/0" in store
    assert "set/40" not in store
    for opened in (store, pickle.loads(pickle.dumps(store))):
        for image_id, pixels in pictures.items():
            np.testing.assert_array_equal(opened.read(image_id), np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    assert (folder / "pixels.bin").stat().st_size == sum(pixels.size for pixels in pictures.values())
    with pytest.raises(UrfmError, match="no image 'set/40'"):
        store.read("set/40")


def test_store_is_the_same_with_any_number_of_processes(tmp_path: Path) -> None:
    one, _ = make_store(tmp_path, processes=1)
    two, _ = make_store(tmp_path, processes=2)
    assert (one / "pixels.bin").read_bytes() == (two / "pixels.bin").read_bytes()
    assert (one / "store.json").read_bytes() == (two / "store.json").read_bytes()


def test_a_store_that_is_there_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake has deleted its files."""
    entries = []
    for number in range(3):
        path = save(tmp_path / f"{number}.png", Image.fromarray(GREY + number))
        entries.append(Entry(f"set/{number}", path, pixel_sha256(decode(path))))
    folder = tmp_path / "store"
    decoded: list[int] = []
    mapped = build.map_in_processes
    monkeypatch.setattr(build, "map_in_processes", lambda *arguments: decoded.append(1) or mapped(*arguments))

    def files() -> list[tuple[int, bytes]]:
        return [((folder / name).stat().st_ino, (folder / name).read_bytes()) for name in build.FILES]

    def again(made: str) -> bool:
        """Whether images are decoded once more."""
        decoded.clear()
        write_store(entries, folder, 64, 1, {"simulated": False}, made=made)
        return bool(decoded)

    assert again("key")
    before = files()
    for name in build.FILES:
        (folder / name).unlink()
    assert not again("key")
    assert files() == before
    with open(folder / "pixels.bin", "r+b") as stream:
        stream.write(b"damage")
    assert again("key")
    assert [content for _, content in files()] == [content for _, content in before]
    assert again("another key")
    assert again("key")


def test_store_does_not_depend_on_the_size_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, pictures = make_store(tmp_path, processes=1)
    monkeypatch.setattr(build, "ROWS", 7)
    two, _ = make_store(tmp_path, processes=2)
    assert (one / "pixels.bin").read_bytes() == (two / "pixels.bin").read_bytes()
    assert ImageStore(two).image_ids == sorted(pictures)


def test_a_row_is_found_by_its_name(tmp_path: Path) -> None:
    names = sorted(["a", "ab", "b/1", "b/10", "b/2", "\u00e9", "\uffff", "\U0001f600"])
    assert [find(pa.array(names), name) for name in names] == list(range(len(names)))
    assert [find(pa.array(names), name) for name in ("", "aa", "b", "\U0001f601")] == [None] * 4
    assert find(pa.array([], pa.string()), "a") is None
    assert pc.sort_indices(pa.array(names)).to_pylist() == list(range(len(names)))  # Arrow sorts as Python does


def test_store_notices_damage(tmp_path: Path) -> None:
    folder, _ = make_store(tmp_path)
    pixels = folder / "pixels.bin"
    whole = pixels.read_bytes()
    pixels.write_bytes(whole[:-1])
    with pytest.raises(UrfmError, match="bytes"):
        ImageStore(folder)
    pixels.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    ImageStore(folder)
    with pytest.raises(UrfmError, match=r"pixels\.bin: its content changed"):
        ImageStore(folder, verify=True)
    pixels.write_bytes(whole)
    (folder / "index.parquet").write_bytes(b"")
    with pytest.raises(UrfmError, match=r"index\.parquet"):
        ImageStore(folder)


def test_store_refuses_an_image_that_changed_since_the_manifest(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(GREY))
    entry = Entry("set/a", path, pixel_sha256(decode(path)))
    Image.fromarray(255 - GREY).save(path)
    with pytest.raises(UrfmError, match=r"a\.png: its pixels are not those of the manifest"):
        write_store([entry], tmp_path / "store", 64, 1, {})
    assert not (tmp_path / "store" / "store.json").exists()
    assert not (tmp_path / "store" / "pixels.bin").exists()


def test_a_second_builder_of_a_store_deletes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(GREY))
    entry = Entry("set/a", path, pixel_sha256(decode(path)))
    processes = multiprocessing.get_context("fork")
    waits, goes = processes.Event(), processes.Event()
    folder = tmp_path / "stores" / "set"

    def slowly() -> Iterator[Entry]:
        waits.set()
        goes.wait(120)
        yield entry

    builder = processes.Process(target=lambda: write_store(slowly(), folder, 64, 1, {}))
    builder.start()
    assert waits.wait(120)
    with pytest.raises(UrfmError, match=rf"set: another process is at work on it \(process {builder.pid} on"):
        write_store([entry], folder, 64, 1, {})
    goes.set()
    builder.join(120)
    assert builder.exitcode == 0
    assert ImageStore(folder, verify=True).image_ids == ["set/a"]
    assert {item.name for item in folder.parent.iterdir()} == {"set"}


def test_room_for_a_store_is_asked_for_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "manifest.parquet"
    sizes = {"width": [1024, 100, 4000], "height": [768, 50, 3000], "excluded_reason": ["", "", "copy"]}
    pd.DataFrame(sizes).to_parquet(manifest)
    assert build.least_bytes(manifest, 512) == pytest.approx(512 * 384 + 100 * 50, rel=0.02)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(UrfmError, match=r"pixels\.bin: 2\.0 kB are needed and 1\.0 kB are free"):
        write_store([], tmp_path / "store", 64, 1, {}, 2000)


def die_on(numbers: set[int], item: int) -> int:
    if item in numbers:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


@pytest.mark.parametrize("fatal", [{37}, {0, 1, 30, 31, 59}])
def test_a_file_that_kills_its_process_stops_nothing(fatal: set[int]) -> None:
    results = list(map_in_processes(partial(die_on, fatal), range(60), 2, lambda item: -item))
    assert results == [-item if item in fatal else item * item for item in range(60)]


def test_items_are_taken_a_few_at_a_time() -> None:
    taken: list[int] = []
    items = (taken.append(item) or item for item in range(300))  # type: ignore[func-returns-value]
    results = map_in_processes(partial(die_on, {100}), items, 2, lambda item: -item)
    waiting = [len(taken) - done for done, _ in enumerate(results, 1)]
    assert len(waiting) == 300
    assert max(waiting) < 32


def hang_on(number: int, item: int) -> int:
    if item == number:
        time.sleep(3600)
    return item * item


def test_a_file_that_takes_too_long_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS", 1)
    results = list(map_in_processes(partial(hang_on, 3), range(20), 2, lambda item: -item))
    assert results == [-3 if item == 3 else item * item for item in range(20)]


@pytest.mark.data
def test_real_images_decode_as_published(real_data: Path) -> None:
    breast = decode(real_data / "BUSBRA" / "Images" / "bus_0001-l.png")
    assert breast.shape == (353, 274, 1)  # Height and Width of bus_data.csv
    liver = decode(real_data / "AUL" / "Benign" / "image" / "1.jpg")
    with Image.open(real_data / "AUL" / "Benign" / "image" / "1.jpg") as image:
        assert (image.height, image.width) == liver.shape[:2]
