"""The simulator: its physics, its layouts, and that it never touches anybody's data."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from urfm.data import simulate
from urfm.data.datasets import READERS
from urfm.data.manifest import ManifestSettings, is_simulated, make_manifest
from urfm.data.simulate import Machine, Scan, SimulateSettings, Tissue, acquire, shares, soft
from urfm.data.splits import make_split
from urfm.errors import UrfmError
from urfm.files import read_json

LAYOUTS = ["aul", "busbra", "fetal_planes"]


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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_simulated_sets_are_read_like_real_ones(tmp_path: Path, layout: str) -> None:
    settings = SimulateSettings(dataset=layout, layout=layout, patients=25, image_size=(48, 64), seed=3)
    images = simulate.simulate(settings, tmp_path / "set")
    assert is_simulated(tmp_path / "set")
    records = list(READERS[layout](tmp_path / "set"))
    assert len(records) == images
    assert not any(record.excluded_reason for record in records)
    table, rejected = make_manifest(tmp_path, ManifestSettings(dataset=layout, reader=layout, folder="set"), 1)
    assert rejected.empty
    assert (table["excluded_reason"] == "").all()
    assert table["patient_id"].nunique() == 25
    assert table["pixel_sha256"].is_unique
    assert table[["width", "height"]].max(axis=1).between(48, 64).all()
    split = make_split(table)
    assert split.groupby("patient_id")["subset"].nunique().max() == 1
    if layout != "aul":
        assert len(table) > 35  # several images a patient
    record = read_json(tmp_path / "set" / "SIMULATED.json")
    assert (record["images"], record["seed"], record["settings"]["patients"]) == (images, 3, 25)


def listing(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path) -> None:
    settings = SimulateSettings(dataset="a", layout="busbra", patients=10, image_size=(40, 40))
    simulate.simulate(settings, tmp_path / "one")
    simulate.simulate(settings, tmp_path / "two")
    assert listing(tmp_path / "one") == listing(tmp_path / "two")
    simulate.simulate(settings.model_copy(update={"seed": 1}), tmp_path / "two")  # replaces what was there
    one, two = (set((tmp_path / name / "Images").iterdir()) for name in ("one", "two"))
    assert not {path.read_bytes() for path in one} & {path.read_bytes() for path in two}
    assert len(two) == read_json(tmp_path / "two" / "SIMULATED.json")["images"]


def test_somebodys_data_is_never_touched(tmp_path: Path) -> None:
    settings = SimulateSettings(dataset="a", layout="aul", patients=10, image_size=(40, 40))
    (tmp_path / "patients.csv").write_text("mine")
    (tmp_path / "README.txt").write_text("Our clinic's images")
    with pytest.raises(UrfmError, match="holds files the simulator did not make"):
        simulate.simulate(settings, tmp_path)
    assert listing(tmp_path) == {"patients.csv": b"mine", "README.txt": b"Our clinic's images"}


def test_an_interrupted_run_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimulateSettings(dataset="a", layout="aul", patients=10, image_size=(40, 40))
    simulate.simulate(settings, tmp_path / "whole")

    def dies(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(simulate, "encode", dies)
        with pytest.raises(KeyboardInterrupt):
            simulate.simulate(settings, tmp_path / "cut")
    assert not is_simulated(tmp_path / "cut")
    simulate.simulate(settings, tmp_path / "cut")
    assert listing(tmp_path / "cut") == listing(tmp_path / "whole")


@pytest.mark.parametrize("total", [10, 25, 100, 1000])
def test_shares_keep_every_class(total: int) -> None:
    labels = shares(total, {"a": 1000, "b": 10, "c": 300})
    assert len(labels) == total
    assert min(labels.count(label) for label in "abc") >= min(6, total // 3)


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
        command(dataset="a", layout="aul", patients=2)
