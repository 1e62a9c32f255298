"""The simulator: physics, organs, every archive's layout and defects, and that it never touches anybody's data."""

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from manifest_tables import make_manifest
from PIL import Image
from scipy import stats
from sklearn.metrics import roc_auc_score
from urfm.core.errors import UrfmError
from urfm.core.files import read_json
from urfm.data.datasets import READERS
from urfm.data.images.decode import decode
from urfm.data.images.pixels import pixel_sha256
from urfm.data.records import ManifestSettings, made_by_simulator
from urfm.data.splits.stage import make_split
from urfm.simulation import downstream, pretraining, simulate
from urfm.simulation.anatomy import Case
from urfm.simulation.archive import SimulateSettings, shares
from urfm.simulation.layouts import LAYOUTS
from urfm.simulation.pictures import (
    ALTERATIONS,
    ENDOSCOPY,
    FETAL_PLANES,
    ORGANS,
    Organ,
    Picture,
    machines,
    new_case,
    take_picture,
)
from urfm.simulation.scanner import Machine, Scan, Tissue, acquire, soft

SIZE = (48, 64)
THYROID = {"organ": "thyroid", "labels": {"benign": 2576, "malignant": 1917}}
CASES: dict[str, dict[str, object]] = {
    "aul": {"patients": 22},
    "buid": {"patients": 14},
    "busbra": {"patients": 16},
    "buv": {"patients": 9},
    "camus": {"patients": 3},
    "fetal_planes": {"patients": 25},
    "generic": {"patients": 16, "images_per_patient": 2.0, **THYROID},
    "lepset": {"patients": 12},
    "mmotu": {"patients": 32},
    "radimagenet": {"patients": 56},
    "uf1990": {"patients": 12},
    "ultrasoundcases": {"patients": 3},
}
WITH_CLASSES = {"aul", "buid", "busbra", "fetal_planes", "generic", "lepset", "mmotu", "uf1990"}
ONE_LABEL = "the same picture occurs under another label"
COPY = "copy of malignant/x3b88488853e8b7d1 (errata)"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a simulated archive, made once; `private` is a set for pre-training in the generic layout."""
    made: dict[str, Path] = {}

    def get(layout: str) -> Path:
        if layout not in made:
            made[layout] = tmp_path_factory.mktemp("root") / layout
            own: dict[str, object] = (
                {"layout": "generic", "patients": 3, "organ": "thyroid"}
                if layout == "private"
                else {"layout": layout, **CASES[layout]}
            )
            settings = SimulateSettings(dataset=layout, image_size=SIZE, seed=3, **own)  # type: ignore[arg-type]
            simulate.simulate(settings, made[layout])
        return made[layout]

    return get


def manifest(root: Path, reader: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    return make_manifest(root.parent, ManifestSettings(dataset=reader, reader=reader, folder=root.name), 1)


# --- The scanner ------------------------------------------------------------------------------------------------


def machine(**changes: object) -> Machine:
    values = {
        "curved": False, "depth": 4.0, "width": 4.0, "radius": 5.0, "focus": 2.0, "axial": 1.2, "lateral": 1.0,
        "looks": 1,
        "dynamic_range": 100.0, "gain": 0.0, "gamma": 1.0, "noise": -90.0, "smoothing": 0.0, "size": 200,
    }  # fmt: skip
    return Machine(**(values | changes))  # type: ignore[arg-type]


def decibel(tissue: Tissue, seed: int = 0) -> np.ndarray:
    """The image before compression to grey, in dB."""
    grey = acquire(tissue, np.random.default_rng(seed))
    return (grey - 0.42) * tissue.scan.machine.dynamic_range


def test_speckle_is_rayleigh() -> None:
    tissue = Tissue(Scan(machine()), 0.0, np.random.default_rng(0))
    patch = decibel(tissue)[100:160, 40:90]  # homogeneous, away from the edges
    amplitude = 10 ** (patch / 20)
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.91, abs=0.25)  # Rayleigh's signal-to-noise ratio
    assert np.mean(10 ** (patch / 10)) == pytest.approx(1, rel=0.35)  # 0 dB tissue is at 0 dB
    thinned = amplitude[::8, ::8].ravel()
    assert stats.kstest(thinned, "rayleigh", args=(0, thinned.std() / np.sqrt(2 - np.pi / 2))).pvalue > 0.001


def test_bone_shadows_and_fluid_enhances() -> None:
    scan = Scan(machine())
    blob = soft(np.hypot(scan.x, scan.z - 1.5) - 0.4, 0.05)
    below = (np.abs(scan.x) < 0.25) & (scan.z > 2.2) & (scan.z < 3.2)
    levels = {}
    for name, loss in (("nothing", 0.0), ("bone", 8.0), ("fluid", -4.0)):
        tissue = Tissue(scan, 0.0, np.random.default_rng(0))
        tissue.paint(blob, 0.0, loss)
        levels[name] = float(decibel(tissue)[below].mean())
    # Twice through 0.7 to 0.8 cm at 8 and 4 dB/cm.
    assert levels["nothing"] - levels["bone"] == pytest.approx(2 * 8 * 0.75, abs=2)
    assert levels["fluid"] - levels["nothing"] == pytest.approx(2 * 4 * 0.75, abs=1.5)


@pytest.mark.parametrize("curved", [False, True])
def test_scan_conversion_puts_points_where_they_are(curved: bool) -> None:
    changes = {"depth": 12.0, "width": 70.0} if curved else {}
    scan = Scan(machine(curved=curved, **changes))
    for x, z in ((0.0, 2.0), (1.2, 3.0), (-1.2, 1.5)):
        spot = np.exp(-((scan.x - x) ** 2 + (scan.z - z) ** 2) / (2 * 0.15**2)).astype(np.float32)
        picture = scan.to_picture(spot)
        row, column = np.unravel_index(picture.argmax(), picture.shape)
        assert scan.pixel(x, z) == pytest.approx((column + 0.5, row + 0.5), abs=1.5)
    assert max(picture.shape) == 200
    if curved:
        assert picture[-1, 0] == 0  # outside the sector


def test_outlines_and_masks_lie_where_the_region_is() -> None:
    scan = Scan(machine())  # 4 cm x 4 cm on 200 x 200 pixels, from the left edge at -2 cm
    tissue = Tissue(scan, 0.0, np.random.default_rng(0))
    tissue.regions |= {"disc": np.hypot(scan.x - 0.5, scan.z - 1.5) - 0.6, "nowhere": scan.z + 1}
    picture = Picture(Image.new("L", (200, 200)), tissue)
    corners = np.array(picture.outline("disc"))
    assert np.allclose(np.hypot(*(corners - (125, 75)).T), 30, atol=1.5)
    assert picture.mask("disc").sum() == pytest.approx(np.pi * 30**2, rel=0.05)
    assert picture.outline("nowhere") == []
    assert not picture.mask("nowhere").any()
    assert downstream.box(picture.mask("disc")) == pytest.approx((96, 46, 60, 60), abs=2)
    assert downstream.box(picture.mask("nowhere")) == (0, 0, 0, 0)


# --- The organs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "organ", [*ORGANS.values(), *FETAL_PLANES.values(), ENDOSCOPY], ids=lambda o: o.painter.__name__
)
def test_every_organ_gives_pictures_that_differ(organ: Organ) -> None:
    random = np.random.default_rng(0)
    scan = machines(organ.probe, SIZE, random, 1)[0]
    pictures = [take_picture(organ, scan, new_case("", random), random).image for _ in range(2)]
    for picture in pictures:
        pixels = np.asarray(picture)
        assert pixels.dtype == np.uint8
        assert pixels.std() > 15  # neither blank
        assert np.percentile(pixels, 99) > 80  # nor dark
    assert pictures[0].tobytes() != pictures[1].tobytes()


def brightness(organ: str, region: str, label: str) -> tuple[float, float]:
    """Mean grey level inside a region and around it, of one picture."""
    random = np.random.default_rng(5)
    scan = machines(ORGANS[organ].probe, (150, 150), random, 1)[0]
    picture = take_picture(ORGANS[organ], scan, Case(label, 0.1, 7), random, screen=False)
    pixels = np.asarray(picture.image)
    distance = scan.to_picture(picture.tissue.regions[region])
    seen = scan.to_picture(np.ones_like(picture.tissue.echo)) > 0.99
    return float(pixels[seen & (distance < -0.2)].mean()), float(pixels[seen & (distance > 0.3)].mean())


@pytest.mark.parametrize(
    ("organ", "region", "label"),
    [
        ("gallbladder", "organ", "normal"),
        ("bladder", "organ", "normal"),
        ("aorta", "organ", "normal"),
        ("heart", "ventricle", "2CH"),
        ("ovary", "mass", "simple_cyst"),
    ],
)
def test_fluid_is_dark(organ: str, region: str, label: str) -> None:
    inside, around = brightness(organ, region, label)
    assert inside < 0.4 * around


def test_an_endometrioma_is_brighter_than_a_cyst_and_a_teratoma_brighter_still() -> None:
    levels = [brightness("ovary", "mass", label)[0] for label in ("simple_cyst", "chocolate_cyst", "teratoma")]
    assert levels == sorted(levels)


def test_the_heart_beats() -> None:
    random = np.random.default_rng(0)
    scan = machines(ORGANS["heart"].probe, SIZE, random, 1)[0]
    areas = []
    for phase in (0.0, 0.5, 1.0):
        picture = take_picture(ORGANS["heart"], scan, Case("4CH", 0.2, 1, phase), random)
        areas.append(int(picture.mask("ventricle").sum()))
    assert areas[0] > areas[1] > areas[2] > 0


@pytest.mark.parametrize(
    ("better", "worse"),
    [("benign", "malignant"), ("non_mvi", "mvi"), ("non_cancer", "cancer"), ("non_fibroid", "fibroid")],
)
def test_classes_overlap(better: str, worse: str) -> None:
    """Normal distributions about four standard deviations apart: few patients lie between, but some do."""
    random = np.random.default_rng(0)
    severities = [new_case(label, random).severity for label in (better, worse) for _ in range(400)]
    assert 0.99 < roc_auc_score([0] * 400 + [1] * 400, severities) < 1


# --- The archives -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_simulated_sets_are_read_like_real_ones(archive: Callable[[str], Path], layout: str) -> None:
    root = archive(layout)
    assert made_by_simulator(root)
    table, rejected = manifest(root, layout)
    assert rejected.empty
    images = len(table)
    if layout == "lepset":
        unlabelled, refused = manifest(root, "lepset_unlabelled")
        assert refused.empty
        assert (unlabelled["label"] == "").all()
        images += len(unlabelled)
    record = read_json(root / "SIMULATED.json")
    assert (record["images"], record["seed"]) == (images, 3)
    assert record["settings"]["patients"] == CASES[layout]["patients"]
    excluded = Counter(table.loc[table["excluded_reason"] != "", "excluded_reason"])
    assert excluded == {"generic": {ONE_LABEL: 2}, "buv": {COPY: 2}}.get(layout, {})
    framed = 1.5 if layout == "lepset" else 1.0  # the black frame is not the scanner's
    near = 0.7 if layout == "uf1990" else 0.9 if layout == "mmotu" else 1.0  # reduced and cropped copies
    longest = table[["width", "height"]].max(axis=1)
    assert longest.between(SIZE[0] * near, SIZE[1] * framed + 1).all()
    if layout in WITH_CLASSES:
        split = make_split(table[table["excluded_reason"] == ""])
        assert split.groupby("patient_id")["subset"].nunique().max() == 1


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_same_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path, layout: str) -> None:
    own = {**CASES[layout], "patients": 2 if layout in ("camus", "fetal_planes", "radimagenet") else 4}
    settings = SimulateSettings(dataset="a", layout=layout, image_size=(40, 40), **own)  # type: ignore[arg-type]
    simulate.simulate(settings, tmp_path / "one")
    simulate.simulate(settings, tmp_path / "two")
    one = listing(tmp_path / "one")
    assert one == listing(tmp_path / "two")
    simulate.simulate(settings.model_copy(update={"seed": 1}), tmp_path / "two")  # replaces what was there
    two = listing(tmp_path / "two")
    pictures = {content for name, content in one.items() if name.endswith((".png", ".jpg", ".JPG", ".bmp", ".nii.gz"))}
    shared = [
        name for _, original, name in read_json(tmp_path / "one" / "SIMULATED.json")["planted"] if "shared/" in original
    ]
    same = pictures & set(two.values())
    assert same <= {one[name] for name in shared} | {content for name, content in one.items() if "Lesion" in name}


def listing(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_planted_copies_are_what_they_are_said_to_be(archive: Callable[[str], Path]) -> None:
    """Exact copies have the same pixels; altered ones others, and yet look like their original (correlation)."""
    kinds: Counter[str] = Counter()
    shared: dict[str, list[tuple[str, Path]]] = {}
    for layout in (*LAYOUTS, "private"):
        root = archive(layout)
        for kind, original, copy in read_json(root / "SIMULATED.json")["planted"]:
            if original.startswith("shared/"):
                shared.setdefault(original, []).append((kind, root / copy))
                continue
            kinds[kind] += 1
            one, two = decode(root / original), decode(root / copy)
            assert (pixel_sha256(one) == pixel_sha256(two)) == (kind == "exact")
            assert likeness(root / original, root / copy) > 0.85
    assert set(kinds) == {"exact", *ALTERATIONS}

    (_, task), (_, private) = shared.pop("shared/thyroid")
    assert task.read_bytes() == private.read_bytes()
    breasts = shared.pop("shared/breast")
    assert sorted(kind for kind, _ in breasts) == ["framed", "quality 60"]
    assert not shared


def likeness(one: Path, two: Path) -> float:
    small = [np.asarray(Image.open(path).convert("L").resize((24, 24))).ravel() / 255 for path in (one, two)]
    return float(np.corrcoef(small)[0, 1])


def test_generic_holds_one_picture_under_two_labels_and_two_patients(archive: Callable[[str], Path]) -> None:
    root = archive("generic")
    rows = {f"images/{row['image']}": row for row in table(root / "metadata.csv")}
    ((_, original, copy),) = [
        pair for pair in read_json(root / "SIMULATED.json")["planted"] if not pair[1].startswith("shared/")
    ]
    assert rows[original]["label"] != rows[copy]["label"]
    assert rows[original]["patient_id"] != rows[copy]["patient_id"]
    assert {row["label"] for row in table(archive("private") / "metadata.csv")} == {""}


def table(path: Path, separator: str = ",") -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter=separator))


def test_busbra_has_its_defects(archive: Callable[[str], Path]) -> None:
    root = archive("busbra")
    assert '"[' in (root / "bus_data.csv").read_text()  # a box has commas and quotes
    rows = table(root / "bus_data.csv")
    wrong = 0
    for row in rows:
        with Image.open(root / "Images" / f"{row['ID']}.png") as image:
            assert image.mode == "L"
            assert image.width == int(row["Width"])
            wrong += image.height != int(row["Height"])
        with Image.open(root / "Masks" / f"mask_{row['ID'][4:]}.png") as mask:
            assert mask.mode == "1"
            left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
        assert json.loads(row["BBOX"]) == [left + 1, top + 1, right - left, bottom - top]
    assert wrong == 4
    folds = table(root / "5-fold-cv.csv")
    assert [row["ID"] for row in folds] == [row["ID"] for row in rows]
    for row in folds:
        assert [k for k in range(1, 6) if row[f"valid_{k}"] == "NaN"] == [int(row["kFold"])]
    sides = Counter(row["Case"] for row in rows)
    assert set(sides.values()) == {1, 2}


def test_aul_has_polygons_and_lacks_some(archive: Callable[[str], Path]) -> None:
    root = archive("aul")
    for name in ("Benign", "Malignant", "Normal"):
        numbers = {path.stem for path in (root / name / "image").iterdir()}
        assert numbers == {str(k) for k in range(1, len(numbers) + 1)}
        with Image.open(root / name / "image" / "1.jpg") as image:
            assert image.mode == "RGB"
            size = image.size
        polygon = np.array(json.loads((root / name / "segmentation" / "outline" / "1.json").read_text()))
        assert polygon.shape[1] == 2
        assert (polygon >= 0).all()
        assert (polygon <= size).all()
        assert {path.stem for path in (root / name / "segmentation" / "outline").iterdir()} == numbers
        lacking = numbers - {path.stem for path in (root / name / "segmentation" / "liver").iterdir()}
        assert lacking == ({"2", "3", "5"} if name == "Malignant" else set())
    assert not (root / "Normal" / "segmentation" / "mass").exists()
    assert (root / "Malignant" / "segmentation" / "mass" / "2.json").is_file()


def test_fetal_planes_has_spaces_and_odd_modes(archive: Callable[[str], Path]) -> None:
    root = archive("fetal_planes")
    lines = (root / "FETAL_PLANES_DB_data.csv").read_text().splitlines()
    assert lines[0].endswith(";Train ")
    assert all(line.endswith(" ") for line in lines)
    modes = Counter(Image.open(path).mode for path in (root / "Images").iterdir())
    assert modes == {"P": 1, "L": 1, "RGB": 1, "LA": 1, "RGBA": len(lines) - 5}


def test_lepset_numbers_restart_and_unlabelled_pictures_are_labelled_ones(archive: Callable[[str], Path]) -> None:
    root = archive("lepset")
    patients = {name: {path.name for path in (root / "labeled" / name).iterdir()} for name in ("PC", "NPC")}
    assert {"1", "2"} <= patients["PC"] & patients["NPC"]
    images = {name: len(list((root / "labeled" / name).rglob("*.jpg"))) / len(patients[name]) for name in patients}
    assert images["NPC"] > images["PC"]  # the number of a patient's images is a clue, as in the archive
    planted = read_json(root / "SIMULATED.json")["planted"]
    assert Counter(kind for kind, _, _ in planted) == {"exact": 2, "quality 60": 1}
    assert all(copy.startswith("unlabeled/") and original.startswith("labeled/") for _, original, copy in planted)
    with Image.open(root / "unlabeled" / "1.jpg") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels[:, -2:].max() < 25  # a frame all around the field, and the corners
    assert (pixels < 25).mean() > 0.35


def test_mmotu_lists_and_masks(archive: Callable[[str], Path]) -> None:
    root = archive("mmotu") / "OTU_2d"
    colours = [colour for _, colour in downstream.OVARY.values()]
    names = []
    for part in ("train", "val"):
        lines = (root / f"{part}_cls.txt").read_text().splitlines()
        assert all("  " in line for line in lines)
        assert (root / f"{part}.txt").read_text().split() == [line.partition(".")[0] for line in lines]
        for name, label in (line.split("  ") for line in lines):
            names.append(int(name.removesuffix(".JPG")))
            with Image.open(root / "annotations" / name.replace(".JPG", ".PNG")) as mask:
                found = {colour for _, colour in mask.convert("RGB").getcolors()}
            assert found == {(0, 0, 0), colours[int(label)]}
    assert sorted(names) == list(range(1, len(names) + 1))
    assert (root.parent / "OTU_3d").is_dir()
    for kind, original, copy in read_json(root.parent / "SIMULATED.json")["planted"]:
        assert kind in ALTERATIONS
        assert 1 <= int(Path(copy).stem) - int(Path(original).stem) <= 2


def test_buid_has_spaces_drawings_and_masks(archive: Callable[[str], Path]) -> None:
    root = archive("buid")
    for name in ("Benign", "Malignant"):
        files = {path.name for path in (root / name).iterdir()}
        lesions = len(files) // 3
        kinds = ("Image.bmp", "Lesion.bmp", "Mask.tif")
        assert files == {f"{k} {name} {kind}" for k in range(1, lesions + 1) for kind in kinds}
        with Image.open(root / name / f"1 {name} Image.bmp") as image:
            assert (image.mode, image.width) == ("RGB", image.height)


def test_radimagenet_has_all_classes_and_foreign_rows(archive: Callable[[str], Path]) -> None:
    root = archive("radimagenet")
    images = {path.relative_to(root).as_posix() for path in root.rglob("*.png")}
    listed = {row["filename"] for part in ("train", "val", "test") for row in table(root / f"RadiologyAI_{part}.csv")}
    assert {name for name in listed if "/US/" in name} == images
    assert listed - images  # computed tomography
    read, _ = manifest(root, "radimagenet")
    counts = read["organ"].value_counts()
    assert len(counts) == 12
    assert counts.min() >= 3
    assert counts["kidney"] > counts["spleen"]
    assert read["label"].nunique() == 15


def test_buv_has_the_errata_and_boxes_from_right_to_left(archive: Callable[[str], Path]) -> None:
    root = archive("buv")
    for one, two in [pretraining.COPIED]:
        assert listing(root / "rawframes" / one) == listing(root / "rawframes" / two)
    read, _ = manifest(root, "buv")
    errata = read[read["patient_id"].str.endswith("errata-2023")]
    assert errata["series"].nunique() == 4
    assert set(errata["label"]) == {"malignant"}
    assert errata["pixel_sha256"].duplicated().any()  # shared frames
    widths = []
    for path in root.glob("*.json"):
        if path.name != "SIMULATED.json":
            record = json.loads(path.read_text())
            assert set(record) == {"categories", "videos", "images", "annotations"}
            assert all((root / "rawframes" / image["file_name"]).is_file() for image in record["images"])
            widths += [annotation["bbox"][2] for annotation in record["annotations"]]
    assert min(widths) < 0 < max(widths)


def test_camus_sequences_stand_upright_and_their_volumes_are_those_of_the_masks(archive: Callable[[str], Path]) -> None:
    root = archive("camus")
    for patient in (root / "database_nifti").iterdir():
        for view in ("2CH", "4CH"):
            stem = f"{patient.name}_{view}"
            sequence, masks = (
                np.asarray(nibabel.load(patient / f"{stem}_{name}.nii.gz").dataobj)
                for name in ("half_sequence", "half_sequence_gt")
            )
            assert sequence.dtype == np.uint8
            assert sequence.shape == masks.shape
            frames = sequence.shape[2]
            written = dict(line.split(": ") for line in (patient / f"Info_{view}.cfg").read_text().splitlines())
            assert (written["ED"], written["ES"], written["NbFrame"]) == ("1", str(frames), str(frames))
            ventricle = (masks == 1).sum(axis=(0, 1))
            assert int(written["EF"]) == pytest.approx(100 * (1 - ventricle[-1] / ventricle[0]), abs=0.5)
            for name, index in (("ED", 0), ("ES", -1)):
                still = np.asarray(nibabel.load(patient / f"{stem}_{name}.nii.gz").dataobj)
                assert (still == sequence[:, :, index]).all()
            height = np.flatnonzero((sequence[:, :, 0] > 0).any(axis=0))
            wide = (sequence[:, :, 0] > 0).sum(axis=0)
            assert wide[height[:5]].mean() < wide[height[-15:-5]].mean()  # narrow at the probe, which is above
            atrium = np.argwhere(masks[:, :, 0] == 3)[:, 1].mean()
            assert atrium > np.argwhere(masks[:, :, 0] == 1)[:, 1].mean()
    listed = [name for path in (root / "database_split").iterdir() for name in path.read_text().split()]
    assert sorted(listed) == sorted(path.name for path in (root / "database_nifti").iterdir())


# --- The stage --------------------------------------------------------------------------------------------------


def test_somebodys_data_is_never_touched(tmp_path: Path) -> None:
    settings = SimulateSettings(dataset="a", layout="aul", patients=10, image_size=(40, 40))
    (tmp_path / "patients.csv").write_text("mine")
    (tmp_path / "README.txt").write_text("Our clinic's images")
    with pytest.raises(UrfmError, match="holds files the simulator did not make"):
        simulate.simulate(settings, tmp_path)
    assert listing(tmp_path) == {"patients.csv": b"mine", "README.txt": b"Our clinic's images"}


def test_what_an_earlier_version_made_is_replaced(tmp_path: Path) -> None:
    settings = SimulateSettings(dataset="a", layout="aul", patients=10, image_size=(40, 40))
    earlier = "Simulated ultrasound images, made by urfm.data.simulate for demonstration only. Not patient data.\n"
    (tmp_path / "README.txt").write_text(earlier)
    (tmp_path / "old.png").touch()
    simulate.simulate(settings, tmp_path)
    assert "old.png" not in listing(tmp_path)
    assert (tmp_path / "README.txt").read_text() == simulate.README != earlier


def test_an_interrupted_run_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimulateSettings(dataset="a", layout="aul", patients=10, image_size=(40, 40))
    simulate.simulate(settings, tmp_path / "whole")

    def dies(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(downstream, "encode", dies)
        with pytest.raises(KeyboardInterrupt):
            simulate.simulate(settings, tmp_path / "cut")
    assert not made_by_simulator(tmp_path / "cut")
    simulate.simulate(settings, tmp_path / "cut")
    assert listing(tmp_path / "cut") == listing(tmp_path / "whole")


@pytest.mark.parametrize("total", [10, 25, 100, 1000])
def test_shares_keep_every_class(total: int) -> None:
    labels = shares(total, {"a": 1000, "b": 10, "c": 300})
    assert len(labels) == total
    assert min(labels.count(label) for label in "abc") >= min(6, total // 3)


def test_what_small_classes_are_given_is_taken_from_all_others_alike() -> None:
    counts = Counter(shares(100, {"a": 600, "b": 300, **dict.fromkeys("cdefghijkl", 1)}, least=4))
    assert counts["a"] == pytest.approx(2 * counts["b"], abs=1)
    assert {counts[label] for label in "cdefghijkl"} == {4}


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def command(**settings: object) -> None:
        arguments = ["--settings", json.dumps(settings), "--root", str(tmp_path / "set")]
        monkeypatch.setattr("sys.argv", ["simulate", *arguments])
        simulate.main()

    command(dataset="a", layout="aul", patients=10, image_size=[40, 40], seed=1)
    assert f"a: 10 simulated images in {tmp_path / 'set'}" in capsys.readouterr().out
    with pytest.raises(UrfmError, match="layout"):
        command(dataset="a", layout="dicom", patients=10)
    with pytest.raises(UrfmError, match="patients"):
        command(dataset="a", layout="aul", patients=1)
    with pytest.raises(UrfmError, match="'spine' cannot be simulated; known are thyroid, breast"):
        command(dataset="a", layout="generic", patients=10, organ="spine")


def test_every_layout_has_a_reader() -> None:
    assert set(LAYOUTS) == set(READERS) - {"lepset_unlabelled"}
