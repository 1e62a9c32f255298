"""Sequences in NIfTI: pixels and orientation as nibabel writes them, damaged files, CAMUS from archive to store."""

import gzip
import hashlib
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from manifest_tables import make_manifest
from PIL import Image, ImageDraw
from urfm.core.errors import UnusableImage
from urfm.data.datasets import READERS
from urfm.data.images import nifti
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import decode
from urfm.data.images.pixels import pixel_sha256
from urfm.data.images.store import ImageStore
from urfm.data.records import ManifestSettings

SETTINGS = ManifestSettings(dataset="camus", reader="camus", folder="CAMUS", organ="heart", source="CAMUS")


def sector(frame: int, width: int = 60, height: int = 40) -> np.ndarray:
    """A scan as displayed, (height, width): the apex at the top, a mark on its left."""
    picture = Image.new("L", (width, height))
    draw = ImageDraw.Draw(picture)
    draw.polygon([(width // 2, 0), (0, height - 1), (width - 1, height - 1)], fill=100 + frame)
    draw.rectangle([2, 2, 6, 6], fill=255)
    return np.asarray(picture)


def save(path: Path, array: np.ndarray, slope: tuple[float, float] | None = None) -> Path:
    """Write (width, height, frames) with nibabel, in the array's own type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.diag([-0.3, -0.3, 1, 1]), dtype=array.dtype)
    if slope:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


def sequence(frames: int) -> np.ndarray:
    return np.stack([sector(frame).T for frame in range(frames)], axis=2)


def refused(path: Path, frame: str = "0") -> UnusableImage:
    with pytest.raises(UnusableImage) as caught:
        decode(path, frame)
    assert caught.value.detail
    return caught.value


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "A.NII.GZ"])
def test_frames_come_back_exactly_and_upright(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name.lower(), sequence(5)).rename(tmp_path / name)
    assert nifti.count_frames(path) == 5
    for frame in (3, 0, 4):
        pixels = decode(path, str(frame))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels[..., 0], sector(frame))
    rows = (pixels[..., 0] > 99).sum(axis=1)
    assert rows[10] < rows[20] < rows[39] == 60  # the sector widens downwards
    assert pixels[4, 4, 0] == 255  # its mark is on the left


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_grey_levels_in_wider_types_are_kept(tmp_path: Path, byte_order: str) -> None:
    for kind in ("u2", "i2", "i4", "f4", "f8", "i8"):
        path = save(tmp_path / f"{kind}.nii.gz", sequence(2).astype(f"{byte_order}{kind}"))
        np.testing.assert_array_equal(decode(path, "1")[..., 0], sector(1))


def test_other_ranges_are_scaled_as_documented(tmp_path: Path) -> None:
    shares = save(tmp_path / "shares.nii", (sequence(2) / 255).astype(np.float32))
    np.testing.assert_array_equal(decode(shares, "1")[..., 0], sector(1))
    wide = sequence(2).astype(np.uint16) * 257  # 16 bits of the same grey
    np.testing.assert_array_equal(decode(save(tmp_path / "wide.nii", wide), "1")[..., 0], sector(1))
    with pytest.raises(UnusableImage, match="no agreed display range") as caught:
        decode(save(tmp_path / "signed.nii", sequence(2).astype(np.int16) - 200), "0")
    assert caught.value.reason == "unsupported"
    holes = sequence(2).astype(np.float32)
    holes[3, 3, 0] = np.nan
    assert refused(save(tmp_path / "nan.nii", holes), "1").detail == "some pixels are not numbers"


def test_the_headers_scaling_is_that_of_nibabel(tmp_path: Path) -> None:
    path = save(tmp_path / "scaled.nii.gz", sequence(2).astype(np.int16) * 4, slope=(0.25, -100.0))
    with pytest.raises(UnusableImage, match="pixels from -100 to 155"):
        decode(path, "1")
    path = save(tmp_path / "scaled.nii.gz", sequence(2).astype(np.int16) * 2, slope=(0.3, 7.0))
    expected = np.rint(nibabel.load(path).get_fdata()[:, :, 1].T)
    assert expected.max() == 160  # 0.3 x 510 + 7
    np.testing.assert_array_equal(decode(path, "1")[..., 0], expected)


@pytest.mark.parametrize("frame", ["5", "-1", "", "first", "1.0", "9" * 5000])
def test_a_frame_that_is_not_there(tmp_path: Path, frame: str) -> None:
    error = refused(save(tmp_path / "a.nii.gz", sequence(5)), frame)
    assert error.reason == "missing"
    assert "it has 0 to 4" in error.detail


def test_what_is_no_sequence(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent.nii.gz").reason == "missing"
    for name, content in {
        "empty.nii.gz": b"",
        "empty.nii": b"",
        "page.nii.gz": b"<!DOCTYPE html><title>404</title>",
        "page.nii": b"<!DOCTYPE html>" * 100,
        "zeros.nii": bytes(10_000),
        "packed_page.nii.gz": gzip.compress(b"<!DOCTYPE html>" * 100),
        "short.nii.gz": gzip.compress(b"x" * 100),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert refused(tmp_path / name).reason == "unreadable", name
        with pytest.raises(UnusableImage):
            nifti.count_frames(tmp_path / name)
    (tmp_path / "folder.nii").mkdir()
    assert refused(tmp_path / "folder.nii").reason == "unreadable"
    plain = save(tmp_path / "plain.nii", sequence(2))
    assert refused(plain.rename(tmp_path / "plain.nii.gz")).reason == "unreadable"  # not packed


@pytest.mark.parametrize(
    ("array", "detail"),
    [
        (np.zeros((6, 4), np.uint8), "2 dimensions"),
        (np.zeros((6, 4, 2, 3), np.uint8), "4 dimensions"),
        (np.zeros((6, 4, 2), np.complex64), "complex64"),
        (np.zeros((6, 4, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "type"),
    ],
)
def test_other_kinds_of_nifti_are_unsupported(tmp_path: Path, array: np.ndarray, detail: str) -> None:
    error = refused(save(tmp_path / "a.nii.gz", array))
    assert error.reason == "unsupported"
    assert detail in error.detail


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("dim", [3, 60, 40, 6, 1, 1, 1, 1], "unreadable"),  # promises more than there is
        ("dim", [3, 60, 40, 4, 1, 1, 1, 1], "unreadable"),  # and less
        ("dim", [3, -60, 40, 5, 1, 1, 1, 1], "unreadable"),
        ("dim", [3, 0, 40, 5, 1, 1, 1, 1], "unreadable"),
        ("dim", [3, 60, 40, 1001, 1, 1, 1, 1], "too_large"),
        ("dim", [3, 32000, 32000, 1, 1, 1, 1, 1], "too_large"),
        ("dim", [3, 1000, 1000, 900, 1, 1, 1, 1], "too_large"),
        ("vox_offset", 1e9, "unreadable"),
        ("vox_offset", np.nan, "unreadable"),
        ("vox_offset", -4, "unreadable"),
        ("datatype", 12345, "unreadable"),
        ("magic", b"ni1", "unreadable"),  # pixels in another file
    ],
)
def test_a_header_that_lies(tmp_path: Path, field: str, value: object, reason: str) -> None:
    path = save(tmp_path / "a.nii", sequence(5))
    content = path.read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    header[field] = value
    path.write_bytes(header.binaryblock + content[348:])
    assert refused(path).reason == reason
    packed = tmp_path / "a.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert refused(packed).reason == reason


def test_a_damaged_or_endless_stream(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 256, (60, 40, 5), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(path).reason == "unreadable"
    assert nifti.count_frames(path) == 5  # the header is whole
    path.write_bytes(whole[:-8] + b"\0" * 8)  # only the checksum is wrong
    assert refused(path).reason == "unreadable"

    zeros = gzip.compress(bytes(10_000_000))
    path.write_bytes(gzip.compress(gzip.decompress(whole)) + zeros * 200)  # two gigabytes behind the pixels
    tracemalloc.start()
    error = refused(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "there are more" in error.detail
    assert peak < 5_000_000


def test_damaged_files_never_raise_anything_else(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    outcomes = set()
    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path / name, sequence(3))
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for attempt in range(200):
            damaged = whole.copy()
            reach = 352 if attempt % 2 else len(whole)  # every other time in the header
            damaged[random.integers(min(reach, len(whole)), size=3)] ^= np.uint8(1) << random.integers(
                8, dtype=np.uint8
            )
            path.unlink()
            path.write_bytes(damaged.tobytes())
            try:
                pixels = decode(path, "2")
                outcomes.add("decoded")
                assert pixels.dtype == np.uint8
                assert pixels.shape[2] == 1
            except UnusableImage as error:
                outcomes.add(error.reason)
    assert {"decoded", "unreadable", "unsupported"} <= outcomes


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", sequence(2))
    decode(path, "0")
    save(path, sequence(3)[::-1])
    np.testing.assert_array_equal(decode(path, "2")[..., 0], sector(2)[:, ::-1])


# --- CAMUS --------------------------------------------------------------------------------------------------------


def camus(root: Path) -> Path:
    """Two patients; of the second one view is truncated, the other absent."""
    base = root / "CAMUS" / "database_nifti"
    for view, frames in (("2CH", 11), ("4CH", 3)):
        stem = base / "patient0001" / f"patient0001_{view}"
        full = sequence(frames)
        save(Path(f"{stem}_half_sequence.nii.gz"), full)
        save(Path(f"{stem}_half_sequence_gt.nii.gz"), full // 100)
        save(Path(f"{stem}_ED.nii.gz"), full[:, :, 0])
        save(Path(f"{stem}_ED_gt.nii.gz"), full[:, :, 0] // 100)
    cut = save(base / "patient0002" / "patient0002_2CH_half_sequence.nii.gz", sequence(4))
    cut.write_bytes(cut.read_bytes()[:-30])
    split = root / "CAMUS" / "database_split"
    split.mkdir()
    for part, patient in (("training", "patient0002"), ("validation", "patient0009"), ("testing", "patient0001")):
        (split / f"subgroup_{part}.txt").write_text(f"{patient}\n")
    return base


def test_camus_lists_the_frames_of_half_sequences(tmp_path: Path) -> None:
    base = camus(tmp_path)
    records = list(READERS["camus"].read(tmp_path / "CAMUS"))
    first, second = records[:14], records[14:]
    assert [record.frame for record in first] == [str(frame) for frame in (*range(11), *range(3))]
    assert records[10].name == "patient0001_2CH_010"
    assert {(r.patient_id, r.view, r.series, r.official_split) for r in first} == {
        ("patient0001", "2CH", "patient0001_2CH", "test"),
        ("patient0001", "4CH", "patient0001_4CH", "test"),
    }
    assert {record.path.name for record in first} == {
        "patient0001_2CH_half_sequence.nii.gz",
        "patient0001_4CH_half_sequence.nii.gz",
    }
    assert [(r.view, r.frame, r.official_split) for r in second] == [
        *(("2CH", str(frame), "train") for frame in range(4)),
        ("4CH", "0", "train"),
    ]
    gz = base / "patient0001" / "patient0001_4CH_half_sequence.nii.gz"
    gz.with_suffix("").write_bytes(gzip.decompress(gz.read_bytes()))
    gz.unlink()
    assert [r.path.suffix for r in READERS["camus"].read(tmp_path / "CAMUS") if r.series == "patient0001_4CH"] == [
        ".nii"
    ] * 3


@pytest.mark.parametrize("processes", [1, 2])
def test_camus_from_the_archive_to_the_store(tmp_path: Path, processes: int) -> None:
    base = camus(tmp_path)
    table, rejected = make_manifest(tmp_path, SETTINGS, processes)
    assert len(table) == 14
    row = table.set_index("image_id").loc["camus/patient0001_2CH_007"]
    file = base / "patient0001" / "patient0001_2CH_half_sequence.nii.gz"
    assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert row["pixel_sha256"] == pixel_sha256(sector(7)[..., None])
    assert (row["width"], row["height"], row["frame"], row["organ"]) == (60, 40, "7", "heart")
    assert row["patient_id"] == "camus/patient0001"
    assert rejected["reason"].tolist() == ["unreadable"] * 4 + ["missing"]

    entries = [Entry(r.image_id, tmp_path / r.path, r.pixel_sha256, r.frame) for r in table.itertuples()]
    write_store(entries, tmp_path / "store", 512, processes, {"simulated": False})
    store = ImageStore(tmp_path / "store", verify=True)
    np.testing.assert_array_equal(store.read("camus/patient0001_4CH_002")[..., 0], sector(2))


def test_a_sequence_is_unpacked_once_for_all_its_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.nii.gz", sequence(8))
    opened = []
    monkeypatch.setattr(nifti.gzip, "open", lambda path, original=gzip.open: opened.append(path) or original(path))
    for frame in range(8):
        decode(path, str(frame))
    assert opened == [path]


@pytest.mark.parametrize(("highest", "white"), [(3504, 4095), (4096, 65535)])
def test_twelve_bits_in_sixteen_are_scaled_by_the_sequence(tmp_path: Path, highest: int, white: int) -> None:
    wide = np.zeros((6, 4, 2), np.uint16)
    wide[..., 0] = 300  # the first frame is dark, and stays so
    wide[..., 1] = np.linspace(0, highest, 24).reshape(6, 4)
    path = save(tmp_path / "a.nii.gz", wide)
    for frame in range(2):
        expected = np.rint(wide[:, :, frame].T * (255 / white))
        np.testing.assert_array_equal(decode(path, str(frame))[..., 0], expected)
