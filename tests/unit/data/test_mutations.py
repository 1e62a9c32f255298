"""A thousand files that are images, were images or pretend to be: all are in the manifest, right, or listed."""

import io
import signal
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from manifest_tables import make_manifest
from PIL import Image
from urfm.data.images.decode import decode
from urfm.data.images.pixels import pixel_sha256
from urfm.data.records import ManifestSettings

SETTINGS = ManifestSettings(dataset="own", reader="generic", folder="Own")
Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """A file, and what may become of it. With `pixels`: if it is taken at all, then as these, to `tolerance`."""

    kind: str
    extension: str
    content: bytes | None  # None: listed, and not there
    pixels: Array | None = None  # (height, width, 1 or 3)
    tolerance: int = 0
    taken: bool | None = None  # True: must be; False: must not be; None: either
    reason: str = ""  # of a file that must not be taken


def picture(random: np.random.Generator, channels: int, least: int = 9) -> Array:
    """A smooth image, so that JPEG keeps it nearly, in 8 bits: (height, width, channels)."""
    height, width = random.integers(least, 60, size=2)
    y, x = np.mgrid[:height, :width][..., None] / 60
    phase, speed = random.uniform(0, 6, channels), random.uniform(1, 3, channels)
    return (127.5 + 120 * np.sin(speed * x + phase) * np.cos(y + phase)).round().astype(np.uint8)


def pillow(image: Image.Image | Array, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image)
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels: Array, depth: int, colour: int, *extra: bytes, interlaced: bool = False) -> bytes:
    """A PNG from (height, width, samples); `depth` 1, 2, 4, 8 or 16 bits; Adam7 if interlaced."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, right in passes if interlaced else [(0, 0, 1, 1)]:
        some = pixels[top::down, left::right]
        for row in some if some.size else ():
            bits = np.unpackbits(row.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 16 - depth :]
            rows += b"\0" + np.packbits(bits).tobytes()
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour, 0, 0, int(interlaced))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + data + chunk(b"IEND", b"")


def tiff(pixels: Array, order: str, photometric: int = 1, sample_format: int = 1, size: int = 0) -> bytes:
    """An uncompressed grey TIFF of (height, width); `order` < or >; `size` instead of the true sides, if given."""
    height, width = (size, size) if size else pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    tags = {256: width, 257: height, 258: pixels.dtype.itemsize * 8, 259: 1, 262: photometric, 273: 8, 277: 1}
    tags |= {278: height, 279: len(data), 339: sample_format}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def narrowed(wide: Array) -> Array:
    """16 bits to 8 by arithmetic of its own: 65535 is 255."""
    return np.floor(wide.astype(np.float64) / 257 + 0.5).astype(np.uint8)


def turned(pixels: Array, orientation: int) -> Array:
    """How TIFF's (and EXIF's) orientation 1 to 8 is to be shown."""
    shown = pixels.swapaxes(0, 1) if orientation > 4 else pixels
    shown = shown[:, ::-1] if orientation in (2, 3, 6, 7) else shown
    return shown[::-1] if orientation in (3, 4, 7, 8) else shown


def encoded(random: np.random.Generator) -> Iterator[Case]:
    """One file of every unusual encoding, with the pixels it must give."""
    grey, rgb, small = picture(random, 1), picture(random, 3), picture(random, 3)
    for name, image in (("grey", grey), ("colour", rgb)):
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield Case(f"{name}-{compression}", "tif", pillow(image, "TIFF", compression=compression), image, 0, True)
        yield Case(f"{name}-bmp", "bmp", pillow(image, "BMP"), image, 0, True)
        yield Case(f"{name}-jpeg", "jpg", pillow(image, "JPEG", quality=95, subsampling=0), image, 8, True)
        yield Case(f"{name}-progressive", "jpg", pillow(image, "JPEG", quality=95, progressive=True), image, 16, True)
        colour = 0 if image.shape[2] == 1 else 2
        yield Case(f"{name}-interlaced", "png", png(image, 8, colour, interlaced=True), image, 0, True)
        yield Case(f"{name}-wrong-extension", "jpg", pillow(image, "PNG"), image, 0, True)
        yield Case(f"{name}-upper-case", "PNG", pillow(image, "PNG"), image, 0, True)
        yield Case(f"{name}-garbage-after", "png", pillow(image, "PNG") + random.bytes(300), image, 0, True)
        yield Case(
            f"{name}-jpeg-garbage-after", "jpg", pillow(image, "JPEG", quality=95) + random.bytes(99), image, 16, True
        )
        for turn in range(2, 9):
            exif = Image.Exif()
            exif[0x0112] = turn
            jpeg = pillow(image, "JPEG", quality=95, subsampling=0, exif=exif)
            yield Case(f"{name}-turned", "jpg", jpeg, image, 8, True)
            yield Case(f"{name}-turned", "png", pillow(image, "PNG", exif=exif), image, 0, True)
            yield Case(f"{name}-turned", "tif", pillow(image, "TIFF", exif=exif), turned(image, turn), 0, True)
    frames = pillow(Image.fromarray(rgb), "TIFF", save_all=True, append_images=[Image.fromarray(small)] * 3)
    yield Case("frames", "tif", frames, rgb, 0, True)

    wide = random.integers(0, 65536, grey.shape[:2], dtype=np.uint16)
    exact = narrowed(wide)[..., None]
    yield Case("16-bit", "png", png(wide[..., None], 16, 0), exact, 0, True)
    yield Case("16-bit-interlaced", "png", png(wide[..., None], 16, 0, interlaced=True), exact, 0, True)
    yield Case("16-bit", "tif", tiff(wide, "<"), exact, 0, True)
    yield Case("16-bit-big-endian", "tif", tiff(wide, ">"), exact, 0, True)
    yield Case("16-bit-0-is-white", "tif", tiff(wide, "<", photometric=0), narrowed(65535 - wide)[..., None], 0, True)
    yield Case("8-bit-0-is-white", "tif", tiff(grey[..., 0], ">", photometric=0), 255 - grey, 0, True)
    lzw = pillow(Image.fromarray(wide), "TIFF", compression="tiff_lzw")
    yield Case("16-bit-lzw", "tif", lzw, exact, 0, True)
    clear = chunk(b"tRNS", struct.pack(">H", int(wide[0, 0])))
    yield Case(
        "16-bit-clear-grey",
        "png",
        png(wide[..., None], 16, 0, clear),
        np.where(wide == wide[0, 0], 0, exact[..., 0])[..., None],
        0,
        True,
    )
    three = random.integers(0, 65536, (*rgb.shape[:2], 3), dtype=np.uint16)
    yield Case("16-bit-colour", "png", png(three, 16, 2), narrowed(three), 1, True)
    opacity = random.integers(0, 65536, (*grey.shape[:2], 1), dtype=np.uint16)
    over_black = narrowed(np.round(wide[..., None].astype(np.float64) * opacity / 65535))
    yield Case(
        "16-bit-grey-alpha", "png", png(np.concatenate([wide[..., None], opacity], 2), 16, 4), over_black, 2, True
    )

    alpha = random.integers(0, 256, (*rgb.shape[:2], 1), dtype=np.uint8)
    over_black = np.round(rgb.astype(np.float64) * alpha / 255).astype(np.uint8)
    yield Case("rgba", "png", png(np.concatenate([rgb, alpha], 2), 8, 6), over_black, 1, True)
    yield Case("rgba", "tif", pillow(np.concatenate([rgb, alpha], 2), "TIFF"), over_black, 1, True)
    alpha = random.integers(0, 256, grey.shape, dtype=np.uint8)
    over_black = np.round(grey.astype(np.float64) * alpha / 255).astype(np.uint8)
    yield Case("la", "png", png(np.concatenate([grey, alpha], 2), 8, 4), over_black, 1, True)
    clear = chunk(b"tRNS", struct.pack(">H", int(grey[0, 0, 0])))
    yield Case("clear-grey", "png", png(grey, 8, 0, clear), np.where(grey == grey[0, 0], 0, grey), 0, True)
    clear = chunk(b"tRNS", struct.pack(">HHH", *map(int, rgb[0, 0])))
    hole = (rgb == rgb[0, 0]).all(axis=2, keepdims=True)
    yield Case("clear-colour", "png", png(rgb, 8, 2, clear), np.where(hole, 0, rgb), 0, True)

    colours = random.integers(0, 256, (256, 3), dtype=np.uint8)
    palette, index = chunk(b"PLTE", colours.tobytes()), random.integers(0, 256, grey.shape, dtype=np.uint8)
    opaque = random.integers(0, 256, 200, dtype=np.uint8)
    shown = np.round(colours * np.pad(opaque / 255, (0, 56), constant_values=1)[:, None]).astype(np.uint8)
    yield Case("palette", "png", png(index, 8, 3, palette), colours[index[..., 0]], 0, True)
    yield Case(
        "palette-clear",
        "png",
        png(index, 8, 3, palette, chunk(b"tRNS", opaque.tobytes())),
        shown[index[..., 0]],
        1,
        True,
    )
    for depth in (1, 2, 4):
        few = random.integers(0, 2**depth, grey.shape, dtype=np.uint8)
        levels = (few * (255 // (2**depth - 1))).astype(np.uint8)
        yield Case(f"{depth}-bit", "png", png(few, depth, 0, interlaced=bool(depth % 2)), levels, 0, True)
    bits = Image.fromarray(grey[..., 0] > 127)
    for kind, extension in (("TIFF", "tif"), ("BMP", "bmp")):
        yield Case("1-bit", extension, pillow(bits, kind), np.where(grey > 127, 255, 0).astype(np.uint8), 0, True)

    ink = picture(random, 4)
    printed = np.round((255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255).astype(np.uint8)
    cmyk = Image.frombytes("CMYK", (ink.shape[1], ink.shape[0]), ink.tobytes())
    yield Case("cmyk", "jpg", pillow(cmyk, "JPEG", quality=95), printed, 12, True)
    yield Case("cmyk", "tif", pillow(cmyk, "TIFF"), printed, 1, True)
    for kind, extension in (("PNG", "png"), ("BMP", "bmp"), ("TIFF", "tif"), ("JPEG", "jpg")):
        yield Case("1x1", extension, pillow(grey[:1, :1], kind), grey[:1, :1], 3, True)


def hopeless(random: np.random.Generator) -> Iterator[Case]:
    """Files that no care can make an image, or that must not be opened."""
    unreadable, large, unsupported = (
        {"taken": False, "reason": reason} for reason in ("unreadable", "too_large", "unsupported")
    )
    for extension in ("png", "jpg", "bmp", "tif"):
        yield Case("empty", extension, b"", **unreadable)
        yield Case("html", extension, b"<!DOCTYPE html><title>404</title>" + random.bytes(40), **unreadable)
        yield Case("noise", extension, b"\0" + random.bytes(int(random.integers(1, 4000))), **unreadable)
        yield Case("absent", extension, None, taken=False, reason="missing")
    grey = picture(random, 1)
    for kind in ("GIF", "WEBP", "PPM"):
        yield Case(f"a-{kind.lower()}", "png", pillow(grey, kind), **unreadable)
    side = int(random.integers(8_000, 65_000))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999)))
    yield Case("bomb", "png", bomb + chunk(b"IEND", b""), **large)
    yield Case("bomb", "tif", tiff(grey[..., 0], "<", size=side), **large)
    bitmap = bytearray(pillow(grey, "BMP"))
    bitmap[18:26] = struct.pack("<ii", side, side)
    yield Case("bomb", "bmp", bytes(bitmap), **large)
    photo = bytearray(pillow(grey, "JPEG"))
    place = photo.index(b"\xff\xc0") + 5
    photo[place : place + 4] = struct.pack(">HH", side, side)
    yield Case("bomb", "jpg", bytes(photo), **large)
    for name, pixels, sample_format in (
        ("float", grey[..., 0].astype(np.float32), 3),
        ("32-bit", grey[..., 0].astype(np.int32), 2),
        ("signed-16-bit", grey[..., 0].astype(np.int16), 2),
        ("signed-8-bit", grey[..., 0].astype(np.int8), 2),
    ):
        yield Case(name, "tif", tiff(pixels, random.choice(["<", ">"]), 1, sample_format), **unsupported)
    verbose = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
    yield Case("text-bomb", "png", png(grey, 8, 0, verbose), grey, 0, True)  # passed over, never unpacked


def seeds(random: np.random.Generator) -> list[tuple[str, bytes]]:
    """Whole files to damage: extension and content."""
    grey, rgb = picture(random, 1, 30), picture(random, 3, 30)
    files = [("png", pillow(grey, "PNG")), ("png", pillow(rgb, "PNG")), ("jpg", pillow(rgb, "JPEG"))]
    files += [
        ("bmp", pillow(rgb, "BMP")),
        ("tif", pillow(grey, "TIFF")),
        ("jpg", pillow(grey, "JPEG", progressive=True)),
    ]
    files += [("tif", pillow(rgb, "TIFF", compression="tiff_lzw")), ("png", png(grey, 8, 0, interlaced=True))]
    return files


def damaged(random: np.random.Generator, files: list[tuple[str, bytes]], folder: Path) -> Iterator[Case]:
    """Each file cut short, with bits turned over, and with chunks of a PNG edited, without end."""
    whole = []
    for number, (extension, content) in enumerate(files):
        path = folder / f"{number}.{extension}"
        path.write_bytes(content)
        whole.append((extension, content, decode(path)))
    while True:
        for extension, content, pixels in whole:
            end = len(content) - int(random.integers(1, 60)) if random.random() < 0.4 else random.integers(len(content))
            yield Case("cut", extension, content[: int(end)], pixels)
            flipped = np.frombuffer(content, np.uint8).copy()
            for place in random.integers(0, len(content) if random.random() < 0.5 else 200, random.integers(1, 20)):
                flipped[place % len(content)] ^= 1 << random.integers(8)
            yield Case("flipped", extension, flipped.tobytes())
            if extension == "png":
                yield Case("chunks", extension, edit_chunks(random, content))


def edit_chunks(random: np.random.Generator, content: bytes) -> bytes:
    """A PNG with a chunk removed, doubled, moved, renamed or refilled; all checksums are right."""
    chunks, place = [], 8
    while place < len(content):
        size = struct.unpack(">I", content[place : place + 4])[0]
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    number = int(random.integers(len(chunks)))
    kind, inside = chunks.pop(number)
    refilled = bytearray(inside)
    for _ in range(int(random.integers(1, 4)) if inside else 0):
        refilled[int(random.integers(len(refilled)))] = int(random.integers(256))
    other = [b"IDAT", b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"IEND"][random.integers(7)]
    edits = [
        [],
        [(kind, inside)] * 2,
        [(other, inside)],
        [(kind, bytes(refilled))],
        [(other, random.bytes(9)), (kind, inside)],
    ]
    chunks[number:number] = edits[int(random.integers(5))]
    if random.random() < 0.2:
        chunks = [chunks[int(index)] for index in random.permutation(len(chunks))]
    return content[:8] + b"".join(chunk(*entry) for entry in chunks)


@contextmanager
def watchdog(seconds: int) -> Iterator[None]:
    """Fail instead of waiting for ever."""

    def bark(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_thousand_mutated_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    cases = [case for _ in range(3) for case in encoded(random)]
    cases += [case for _ in range(4) for case in hopeless(random)]
    cases += islice(damaged(random, seeds(random), tmp_path), 1000 - len(cases))
    kinds = Counter(case.taken for case in cases)
    assert min(kinds[True], kinds[False], kinds[None]) > 100
    ingest(cases, tmp_path)


@pytest.mark.data
def test_damaged_real_images(tmp_path: Path, real_data: Path) -> None:
    names = ("BUSBRA/Images/bus_0001-l.png", "BUSBRA/Images/bus_0002-r.png", "AUL/Benign/image/1.jpg")
    files = [(name.rpartition(".")[2], (real_data / name).read_bytes()) for name in names]
    ingest(list(islice(damaged(np.random.default_rng(1), files, tmp_path), 120)), tmp_path)


def ingest(cases: list[Case], root: Path) -> None:
    """Make the manifest of the files, and see that each is in it as it must be, or in the rejected list."""
    folder = root / "Own" / "images"
    folder.mkdir(parents=True)
    names = [f"{number:04}-{case.kind}.{case.extension}" for number, case in enumerate(cases)]
    for name, case in zip(names, cases, strict=True):
        if case.content is not None:
            (folder / name).write_bytes(case.content)
    rows = "".join(f"{name},p{number},benign\n" for number, name in enumerate(names))
    (folder.parent / "metadata.csv").write_text("image,patient_id,label\n" + rows)

    with watchdog(300):
        table, rejected = make_manifest(root, SETTINGS, 2)

    assert len(table) + len(rejected) == len(cases)
    assert (rejected["detail"] != "").all()
    assert set(rejected["reason"]) <= {"missing", "unreadable", "too_large", "unsupported"}  # none crashed
    rows_of = table.set_index(table["image_id"].str.removeprefix("own/"))
    reasons = dict(zip(rejected["path"].str.removeprefix("Own/images/"), rejected["reason"], strict=True))
    assert rows_of.index.union(pd.Index(reasons)).tolist() == sorted(names)
    wrong = [
        problem
        for name, case in zip(names, cases, strict=True)
        if (problem := judge(folder / name, case, reasons.get(name), rows_of))
    ]
    assert wrong == [], "\n".join(wrong)
    either = {case.kind for name, case in zip(names, cases, strict=True) if case.taken is None and name not in reasons}
    assert either == {"cut", "flipped", "chunks"}  # of each some are taken: what is taken was looked at


def judge(path: Path, case: Case, reason: str | None, rows: pd.DataFrame) -> str:
    """What is wrong with the outcome of a file; empty if nothing is."""
    if reason is not None:
        if case.taken:
            return f"{path.name}: rejected, {reason}"
        return "" if case.taken is None or reason == case.reason else f"{path.name}: {reason}, not {case.reason}"
    if case.taken is False:
        return f"{path.name}: taken"
    row, pixels = rows.loc[path.name], decode(path)
    if (row["height"], row["width"], row["pixel_sha256"]) != (*pixels.shape[:2], pixel_sha256(pixels)):
        return f"{path.name}: the manifest describes other pixels"
    if case.pixels is None:
        return ""
    if pixels.shape[:2] != case.pixels.shape[:2]:
        return f"{path.name}: {pixels.shape} pixels, not {case.pixels.shape}"
    off = np.abs(pixels.astype(int) - case.pixels).max()
    return "" if off <= case.tolerance else f"{path.name}: off by {off}"
