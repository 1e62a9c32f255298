"""The manifest stage: what is usable, what is rejected, what is counted."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from manifest_tables import make_manifest
from PIL import Image
from urfm.core.errors import UrfmError
from urfm.core.files import read_json, sha256
from urfm.data import manifest
from urfm.data.counts import Expected
from urfm.data.datasets import READERS, Reader
from urfm.data.datasets.common import Record
from urfm.data.images import build
from urfm.data.images.store import ImageStore
from urfm.data.manifest import write_manifest
from urfm.data.records import COLUMNS, ManifestSettings, metadata, screen

OWN = ManifestSettings(dataset="own", reader="generic", folder="Own", organ="breast", source="here")


def picture(path: Path, seed: int, size: tuple[int, int] = (24, 18)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)).save(path)


def own_set(root: Path, rows: list[str], header: str = "image,patient_id,label") -> Path:
    folder = root / "Own"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "images"


def test_every_unusable_file_is_rejected_with_its_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    names = ["good", "absent", "html", "empty", "cut", "twice", "twice"]
    folder = own_set(tmp_path, [f"{name}.png,p,benign" for name in names] + ["../../../secret.png,p,benign"])
    for seed, name in enumerate(["good", "cut", "twice", "stray"]):
        picture(folder / f"{name}.png", seed)
    (folder / "html.png").write_text("<html>")
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:200])
    table, rejected = make_manifest(tmp_path, OWN, 2)
    assert table["image_id"].tolist() == ["own/good.png", "own/twice.png", "own/stray.png"]  # as the reader lists them
    assert table["excluded_reason"].tolist() == ["", "", "not listed in metadata.csv"]
    reasons = dict(zip(rejected["path"], rejected["reason"], strict=True))
    assert reasons == {
        "Own/images/../../../secret.png": "outside",
        "Own/images/absent.png": "missing",
        "Own/images/cut.png": "unreadable",
        "Own/images/empty.png": "unreadable",
        "Own/images/html.png": "unreadable",
        "Own/images/twice.png": "listed_twice",
    }
    assert (rejected["detail"] != "").all()


def test_the_data_root_may_lie_above_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(own_set(tmp_path / "data", ["1.png,p,benign"]) / "1.png", 1)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    table, rejected = make_manifest(Path("../data"), OWN, 1)
    assert table["path"].tolist() == ["Own/images/1.png"]
    assert rejected.empty


def test_the_first_of_many_with_one_name_is_taken(tmp_path: Path) -> None:
    names = ["1.png", "2.png", "1.png", "3.png", "2.png", "1.png"]
    folder = own_set(tmp_path, [f"{name},p{row},benign" for row, name in enumerate(names)])
    for seed in (1, 2, 3):
        picture(folder / f"{seed}.png", seed)
    table, rejected = make_manifest(tmp_path, OWN, 1)
    assert table["image_id"].tolist() == ["own/1.png", "own/2.png", "own/3.png"]
    assert table["patient_id"].tolist() == ["own/p0", "own/p1", "own/p3"]
    assert rejected["path"].tolist() == ["Own/images/1.png", "Own/images/2.png", "Own/images/1.png"]
    assert set(rejected["reason"]) == {"listed_twice"}


def test_names_whose_hashes_agree_are_still_two_images(tmp_path: Path) -> None:
    records = [Record(tmp_path / name, name) for name in ("a", "b", "a")]
    everything = {hash(record.name) for record in records}
    assert [why is None for _, why in screen(records, tmp_path, everything)] == [True, True, False]


def test_a_name_that_is_no_text_is_rejected(tmp_path: Path) -> None:
    folder = own_set(tmp_path, ["1.png,p,benign"])
    picture(folder / "1.png", 1)
    Path(os.fsdecode(bytes(folder) + b"/Jos\xe9.png")).touch()
    table, rejected = make_manifest(tmp_path, OWN, 1)
    assert table["image_id"].tolist() == ["own/1.png"]
    assert rejected[["path", "reason"]].to_numpy().tolist() == [["Own/images/Jos\\udce9.png", "unsupported"]]


def test_the_number_of_processes_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own_set(tmp_path, [f"{number % 50}.png,{number % 7},benign" for number in range(60)])
    for number in range(0, 50, 2):
        picture(folder / f"{number}.png", number // 4)
    for threads, rows in ((1, 5000), (2, 7)):
        monkeypatch.setattr("urfm.core.files.ROWS", rows)  # nor do the blocks change a row
        write_manifest(tmp_path, OWN, threads, tmp_path / f"{threads}.parquet", tmp_path / f"{threads}.csv")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    one, two = (pd.read_parquet(tmp_path / f"{threads}.parquet") for threads in (1, 2))
    pd.testing.assert_frame_equal(one, two)
    assert len(one) == 25
    assert [file.name for file in tmp_path.glob(".*")] == []


def test_nothing_is_written_by_a_run_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own_set(tmp_path, ["1.png,a,benign", "2.png,b,benign"])
    picture(folder / "1.png", 1)
    results = tmp_path / "results"
    results.mkdir()
    (results / ".own.described.77.tmp").touch()  # of a killed run

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "copy", dies)
        with pytest.raises(KeyboardInterrupt):
            write_manifest(tmp_path, OWN, 1, results / "own.parquet", results / "own.csv")
    assert list(results.iterdir()) == []
    strict = OWN.model_copy(update={"strict_counts": True, "expected": Expected(images=2)})
    with pytest.raises(UrfmError, match="1 images, 2 expected"):
        write_manifest(tmp_path, strict, 1, results / "own.parquet", results / "own.csv")
    assert list(results.iterdir()) == []


def test_a_data_set_that_changes_meanwhile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = own_set(tmp_path, ["1.png,a,benign"])
    picture(folder / "1.png", 1)
    listings = iter([["1.png"], ["1.png", "2.png"]])
    changing = Reader(lambda _: (Record(folder / name, name) for name in next(listings)))
    monkeypatch.setitem(READERS, "generic", changing)
    with pytest.raises(UrfmError, match="1 images were listed at first and 2 while they were read"):
        make_manifest(tmp_path, OWN, 1)


def test_a_row_says_what_the_file_holds(tmp_path: Path) -> None:
    folder = own_set(tmp_path, ["a/1.png,p7,benign,GE", "2.png,,malignant,"], "image,patient_id,label,device")
    picture(folder / "a" / "1.png", 1, (24, 18))
    picture(folder / "2.png", 2, (10, 11))
    table, rejected = make_manifest(tmp_path, OWN, 1)
    assert list(table.columns) == COLUMNS
    assert rejected.empty
    row = table.set_index("image_id").loc["own/a/1.png"]
    content = (folder / "a" / "1.png").read_bytes()
    expected = {
        "dataset": "own",
        "organ": "breast",
        "source": "here",
        "path": "Own/images/a/1.png",
        "sha256": hashlib.sha256(content).hexdigest(),
        "width": 24,
        "height": 18,
        "patient_id": "own/p7",
        "patient_source": "metadata",
        "label": "benign",
        "device": "GE",
    }
    assert row[list(expected)].to_dict() == expected
    other = table.set_index("image_id").loc["own/2.png"]
    assert (other["patient_id"], other["patient_source"]) == ("own/2.png", "none")


def test_equal_pictures_with_different_labels_are_excluded(tmp_path: Path) -> None:
    folder = own_set(tmp_path, ["1.png,a,benign", "2.bmp,b,malignant", "3.png,c,benign", "4.png,d,benign"])
    for name, seed in (("1.png", 1), ("2.bmp", 1), ("3.png", 3), ("4.png", 3)):
        picture(folder / name, seed)
    table, _ = make_manifest(tmp_path, OWN, 1)
    contradiction = "the same picture occurs under another label"
    assert table["excluded_reason"].tolist() == [contradiction, contradiction, "", ""]


def test_a_copy_without_a_label_contradicts_none(tmp_path: Path) -> None:
    folder = own_set(tmp_path, ["1.png,a,benign", "2.png,b,", "3.png,c,benign", "4.png,d,malignant", "5.png,e,"])
    for name, seed in (("1.png", 1), ("2.png", 1), ("3.png", 3), ("4.png", 3), ("5.png", 3)):
        picture(folder / name, seed)
    table, _ = make_manifest(tmp_path, OWN, 1)
    assert (table["excluded_reason"] != "").tolist() == [False, False, True, True, False]


def test_what_is_wrong_with_all_images_is_an_error(tmp_path: Path) -> None:
    own_set(tmp_path, ["1.png,a,benign", "2.png,b,benign"])
    with pytest.raises(UrfmError, match=r"none of 2 listed images can be used.*1\.png: missing"):
        make_manifest(tmp_path, OWN, 1)
    with pytest.raises(UrfmError, match=r"elsewhere: no such folder; set data_root"):
        make_manifest(tmp_path / "elsewhere", OWN, 1)
    with pytest.raises(UrfmError, match=r"datasets\.own\.reader: 'dicom' is none of aul, buid, busbra"):
        make_manifest(tmp_path, OWN.model_copy(update={"reader": "dicom"}), 1)
    with pytest.raises(UrfmError, match=r"datasets\.own\.folder: '\.\./x' is not below"):
        make_manifest(tmp_path, OWN.model_copy(update={"folder": "../x"}), 1)


def test_folders_reach_the_readers_that_take_them(tmp_path: Path) -> None:
    picture(tmp_path / "UF1990" / "healthy" / "1.png", 1)
    settings = ManifestSettings(dataset="uf1990", reader="uf1990", folder="UF1990", folders={"healthy": "non_fibroid"})
    table, _ = make_manifest(tmp_path, settings, 1)
    assert table["label"].tolist() == ["non_fibroid"]
    with pytest.raises(UrfmError, match=r"no meaning is known for 'healthy'.*`folders: "):
        make_manifest(tmp_path, settings.model_copy(update={"folders": {}}), 1)
    with pytest.raises(UrfmError, match=r"datasets\.own\.folders: the reader generic knows.*uf1990 take"):
        make_manifest(tmp_path, OWN.model_copy(update={"folders": {"healthy": "non_fibroid"}}), 1)


def run_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path, **settings: object) -> Path:
    results = tmp_path / "results"
    name = settings["dataset"]
    arguments = ["--root", root, "--settings", json.dumps(settings), "--threads", 2]
    arguments += ["--manifest", results / f"{name}.parquet", "--rejected", results / f"{name}.rejected.csv"]
    monkeypatch.setattr("sys.argv", ["manifest", *map(str, [*arguments, "--summary", results / f"{name}.json"])])
    manifest.main()
    return results


def run_images(monkeypatch: pytest.MonkeyPatch, root: Path, results: Path, name: str, **settings: int) -> ImageStore:
    arguments = ["--root", root, "--settings", json.dumps({"long_side": 512, **settings}), "--threads", 2]
    arguments += ["--manifest", results / f"{name}.parquet", "--manifest-summary", results / f"{name}.json"]
    monkeypatch.setattr("sys.argv", ["images", *map(str, [*arguments, "--output", results / name])])
    build.main()
    return ImageStore(results / name, verify=True)


def test_command_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    folder = own_set(root, ["1.png,a,benign", "2.png,b,malignant", "3.png,b,malignant", "4.png,c,benign"])
    for number in (1, 2, 3):
        picture(folder / f"{number}.png", number, (40, 20))
    settings = OWN.model_dump(exclude_unset=True) | {"expected": {"images": 4, "labels": {"benign": 2}}}
    results = run_manifest(tmp_path, monkeypatch, root, **settings)
    summary = read_json(results / "own.json")
    assert summary["sha256"] == sha256(results / "own.parquet")
    assert {key: summary[key] for key in ("dataset", "images", "patients", "labels", "rejected", "excluded")} == {
        "dataset": "own",
        "images": 3,
        "patients": 2,
        "labels": {"benign": 1, "malignant": 2},
        "rejected": 1,
        "excluded": 0,
    }
    assert summary["simulated"] is False
    assert summary["differences"] == ["3 images, 4 expected", "1 images labelled benign, 2 expected"]
    printed = capsys.readouterr().err
    assert "warning: own: 1 images rejected, missing" in printed
    assert "warning: own: 3 images, 4 expected" in printed
    assert pd.read_csv(results / "own.rejected.csv").to_dict("list") == {
        "path": ["Own/images/4.png"],
        "reason": ["missing"],
        "detail": ["no such file"],
    }

    store = run_images(monkeypatch, root, results, "own", long_side=32)
    assert store.image_ids == ["own/1.png", "own/2.png", "own/3.png"]
    assert store.read("own/1.png").shape == (16, 32, 3)
    assert store.record["images_sha256"] == summary["images_sha256"]

    again = {path.name: path.read_bytes() for path in results.glob("own.*")}
    run_manifest(tmp_path, monkeypatch, root, **settings)
    assert {path.name: path.read_bytes() for path in results.glob("own.*")} == again

    with pytest.raises(UrfmError, match="4 expected"):
        run_manifest(tmp_path, monkeypatch, root, **settings, strict_counts=True)


def test_a_store_is_of_images_not_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels, patients and the order of the rows leave it alone; what is usable, a name and a picture do not."""
    root = tmp_path / "data"
    for number in (1, 2, 3):
        picture(root / "Own" / "images" / f"{number}.png", number)
    rows = ["1.png,a,benign,", "2.png,b,malignant,", "3.png,b,malignant,"]

    def listed(*rows: str) -> tuple[bytes, str]:
        own_set(root, list(rows), "image,patient_id,label,exclude")
        results = run_manifest(tmp_path, monkeypatch, root, **OWN.model_dump(exclude_unset=True))
        store = run_images(monkeypatch, root, results, "own")
        content = (results / "own.images.json").read_bytes()
        assert store.record["images_sha256"] == json.loads(content)["images_sha256"]
        return content, hashlib.sha256((results / "own.parquet").read_bytes()).hexdigest()

    before = listed(*rows)
    relabelled = listed("1.png,a,malignant,", *rows[1:])
    other_patients = listed("1.png,c,malignant,", *rows[1:])
    reordered = listed(*reversed(rows))
    assert before[0] == relabelled[0] == other_patients[0] == reordered[0]
    assert len({before[1], relabelled[1], other_patients[1], reordered[1]}) == 4
    fewer = listed("1.png,a,benign,too dark", *rows[1:])
    picture(root / "Own" / "images" / "1.png", 9)
    redrawn = listed(*rows)
    (root / "Own" / "images" / "1.png").rename(root / "Own" / "images" / "0.png")
    renamed = listed("0.png,a,benign,", *rows[1:])
    assert len({before[0], fewer[0], redrawn[0], renamed[0]}) == 4


@pytest.mark.data
def test_real_archives(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = run_manifest(
        tmp_path,
        monkeypatch,
        real_data,
        dataset="busbra",
        reader="busbra",
        folder="BUSBRA",
        expected={"images": 1875, "patients": 1064, "labels": {"benign": 1268, "malignant": 607}},
        strict_counts=True,
    )
    table = pd.read_parquet(results / "busbra.parquet")
    assert table["pixel_sha256"].is_unique  # no duplicates in BUS-BRA
    published = pd.read_csv(real_data / "BUSBRA" / "bus_data.csv").sort_values("ID")
    assert (table["width"].to_numpy() == published["Width"].to_numpy()).all()
    wrong = table["height"].to_numpy() != published["Height"].to_numpy()
    assert wrong.sum() == 4
    assert ((table["erratum"] != "").to_numpy() == wrong).all()
    assert read_json(results / "busbra.json")["corrected"] == 4

    expected = {"images": 735, "labels": {"normal": 100}}
    run_manifest(tmp_path, monkeypatch, real_data, dataset="aul", reader="aul", folder="AUL", expected=expected)
    assert read_json(results / "aul.json")["images"] == 190
    assert "warning: aul: 190 images, 735 expected" in capsys.readouterr().err
    store = run_images(monkeypatch, real_data, results, "aul", long_side=256)
    assert len(store) == 190
    assert max(store.read("aul/benign-1").shape) == 256


def test_data_sets_of_one_hospital_share_patient_ids() -> None:
    record = Record(path=Path("a.png"), name="a.png", patient_id="7", patient_source="metadata")
    unknown = Record(path=Path("b.png"), name="b.png")
    rows = [metadata(item, "scans", patients=patients) for patients in ("", "clinic") for item in (record, unknown)]
    assert [row["patient_id"] for row in rows] == ["scans/7", "scans/b.png", "clinic/7", "scans/b.png"]


# --- Pictures and lists as people have them ---------------------------------------------------------------------------


def test_a_list_that_names_no_file_that_is_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files are there, under other names: neither list nor folder is wrong by itself."""
    folder = own_set(tmp_path, ["scan_0001.png,a,benign", "scan_0002.png,b,benign"])
    for number in (1, 2):
        picture(folder / "sub" / f"scan_000{number}.png", number)
    with pytest.raises(UrfmError, match=r"Own: no image can be used, for the reasons above \(2 rejected, 2 excluded\)"):
        make_manifest(tmp_path, OWN, 1)
    assert "2 images rejected, missing" in capsys.readouterr().err


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    names = ["good.png", "scan_0001.jpg", "patient_17_left.png", "nothing.png"]
    folder = own_set(tmp_path, [f"{name},{name},benign" for name in names])
    for name in ("good.png", "sub/scan_0001.jpg", "patient_17_lefft.png"):
        picture(folder / name, len(name))
    _, rejected = make_manifest(tmp_path, OWN, 1)
    assert rejected["detail"].tolist() == [
        "no such file; the nearest is images/sub/scan_0001.jpg",
        "no such file; the nearest is images/patient_17_lefft.png",
        "no such file",
    ]


def test_a_list_that_begins_with_images_is_read(tmp_path: Path) -> None:
    folder = own_set(tmp_path, ["images/1.png,a,benign", "images\\2.png,b,benign"])
    for number in (1, 2):
        picture(folder / f"{number}.png", number)
    table, rejected = make_manifest(tmp_path, OWN, 1)
    assert rejected.empty
    assert table["image_id"].tolist() == ["own/1.png", "own/2.png"]
    assert table["path"].tolist() == ["Own/images/1.png", "Own/images/2.png"]
    assert table["excluded_reason"].tolist() == ["", ""]


@pytest.mark.parametrize("for_tasks", [True, False])
def test_rows_that_give_an_image_two_labels_exclude_it_and_its_copies(tmp_path: Path, for_tasks: bool) -> None:
    rows = ["1.png,a,benign", "1.png,a,malignant", "2.png,b,benign", "3.png,c,Benign", "3.png,c,benign "]
    folder = own_set(tmp_path, rows)
    for name, seed in (("1.png", 1), ("2.png", 1), ("3.png", 3)):
        picture(folder / name, seed)
    settings = OWN.model_copy(update={"for_tasks": for_tasks})
    table, rejected = make_manifest(tmp_path, settings, 1)
    assert table["image_id"].tolist() == ["own/1.png", "own/2.png", "own/3.png"]
    contradiction = manifest.CONTRADICTION if for_tasks else ""
    assert table["excluded_reason"].tolist() == [contradiction, contradiction, ""]
    assert rejected["reason"].tolist() == ["listed_twice", "listed_twice"]


def test_class_folders_that_give_an_image_two_labels_exclude_it(tmp_path: Path) -> None:
    for name in ("UF/1.png", "NUF/9.png", "UF/2.png"):
        picture(tmp_path / "UF1990" / name, 2 if name == "UF/2.png" else 1)
    settings = ManifestSettings(dataset="uf1990", reader="uf1990", folder="UF1990")
    table, _ = make_manifest(tmp_path, settings, 1)
    reasons = dict(zip(table["path"], table["excluded_reason"], strict=True))
    twice = manifest.CONTRADICTION
    assert reasons == {"UF1990/UF/1.png": twice, "UF1990/NUF/9.png": twice, "UF1990/UF/2.png": ""}


def test_for_pretraining_alone_one_copy_stays(tmp_path: Path) -> None:
    folder = own_set(tmp_path, ["1.png,a,benign", "2.bmp,b,malignant", "3.png,c,benign"])
    for name, seed in (("1.png", 1), ("2.bmp", 1), ("3.png", 1)):
        picture(folder / name, seed)
    settings = OWN.model_copy(update={"for_tasks": False})
    table, _ = make_manifest(tmp_path, settings, 1)
    assert table["excluded_reason"].tolist() == ["", manifest.CONTRADICTION, manifest.CONTRADICTION]


def test_labels_that_differ_in_case_or_blanks_contradict_none(tmp_path: Path) -> None:
    folder = own_set(tmp_path, ["1.png,a,Non  fibroid", "2.png,b,non fibroid"])
    for name in ("1.png", "2.png"):
        picture(folder / name, 1)
    table, _ = make_manifest(tmp_path, OWN, 1)
    assert table["excluded_reason"].tolist() == ["", ""]


def test_pictures_that_hold_nothing_are_counted_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    folder = own_set(root, [f"{name}.png,{name},benign" for name in ("black", "clear", "colour", "dot", "good")])
    picture(folder / "good.png", 1)
    Image.new("L", (20, 10)).save(folder / "black.png")
    seen = np.random.default_rng(0).integers(0, 256, (10, 20, 4), dtype=np.uint8)
    seen[..., 3] = 0  # something in every colour, and all of it transparent
    Image.fromarray(seen).save(folder / "clear.png")
    Image.new("RGB", (20, 10), (10, 20, 30)).save(folder / "colour.png")
    dot = Image.new("L", (20, 10))
    dot.putpixel((3, 4), 1)
    dot.save(folder / "dot.png")
    results = run_manifest(tmp_path, monkeypatch, root, **OWN.model_dump(exclude_unset=True))
    table = pd.read_parquet(results / "own.parquet")
    assert table["excluded_reason"].tolist() == [manifest.BLANK] * 3 + ["", ""]
    summary = read_json(results / "own.json")
    assert (summary["images"], summary["excluded"], summary["blank"]) == (2, 3, 3)
    assert "warning: own: 3 images excluded, it holds nothing" in capsys.readouterr().err

    run_manifest(tmp_path, monkeypatch, root, **OWN.model_dump(exclude_unset=True), blank="keep")
    assert read_json(results / "own.json")["images"] == 5
    assert "warning: own: 3 images hold nothing (all pixels equal) and are kept" in capsys.readouterr().err


def wide(path: Path, highest: int) -> npt.NDArray[np.uint16]:
    values = np.linspace(0, highest, 200).round().astype(np.uint16).reshape(10, 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return values


def test_twelve_bits_in_sixteen_are_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    folder = own_set(root, ["1.png,a,benign", "2.png,b,benign", "3.png,c,benign"])
    twelve = wide(folder / "1.png", 3504)
    full = wide(folder / "2.png", 60_000)
    picture(folder / "3.png", 1)
    settings = OWN.model_dump(exclude_unset=True)
    results = run_manifest(tmp_path, monkeypatch, root, **settings)
    assert read_json(results / "own.json")["sixteen_bit"] == {"12": 1, "16": 1}
    printed = capsys.readouterr().err
    assert "own: 1 16-bit images hold no value above 3,504 and are read as 12 bits; if they have others" in printed
    assert "in several ways (1 as 12, 1 as 16 bits), so one grey is not one value; set datasets.own.bits" in printed
    store = run_images(monkeypatch, root, results, "own")
    np.testing.assert_array_equal(store.read("own/1.png")[..., 0], np.rint(twelve / 4095 * 255))
    np.testing.assert_array_equal(store.read("own/2.png")[..., 0], np.rint(full / 65535 * 255))

    run_manifest(tmp_path, monkeypatch, root, **settings, bits=16)
    assert "16-bit" not in capsys.readouterr().err
    store = run_images(monkeypatch, root, results, "own", bits=16)
    assert store.read("own/1.png").max() == round(3504 / 65535 * 255)

    run_manifest(tmp_path, monkeypatch, root, **settings, bits=12)
    rejected = pd.read_csv(results / "own.rejected.csv")
    assert rejected["path"].tolist() == ["Own/images/2.png"]
    assert rejected["detail"].tolist() == ["a value of 60,000 is more than 12 bits hold; correct `bits`"]


def test_fourteen_bits_that_nobody_stated_are_guessed_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wide(own_set(tmp_path, ["1.png,a,benign"]) / "1.png", 16_383)
    make_manifest(tmp_path, OWN, 1)
    assert "1 16-bit images hold no value above 16,383 and are read as 16 bits" in capsys.readouterr().err
