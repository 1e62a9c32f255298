"""Readers, on trees in the published layouts and on the real archives."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from urfm.data.datasets import READERS
from urfm.data.datasets.common import Record, read_metadata
from urfm.errors import UrfmError

BUSBRA = """ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX
bus_0001-l,1,invasive ductal carcinoma,malignant,4,GE Logiq 7 @10-14MHz,274,353,left,"[91,24,103,79]"
bus_0001-r,1,invasive ductal carcinoma, malignant ,4,GE Logiq 7 @10-14MHz,275,353,right,"[102,24,82,79]"
bus_0002-s,2,cyst,Benign,2,Toshiba Aplio 300,275,353,single,"[1,2,3,4]"
"""
FETAL = (
    "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train \n"
    "Patient00001_Plane1_2_of_15;1;Other;Not A Brain;Other;Aloka;1 \n"
    "Patient00003_Plane3_1_of_1;3;Fetal brain;Trans-thalamic;Op. 1;Voluson E6;0 \n"
)
GENERIC = """\ufeffimage, patient_id,label,exclude,organ
a/1.png,p1,benign,,thyroid
a/2.png,,malignant,,
b/3.png,p1,benign,motion blur,thyroid
"""


def put(root: Path, *names: str) -> None:
    """Empty files: readers list images and never open them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def busbra_tree(root: Path) -> None:
    put(root, "Images/bus_0001-l.png", "Images/bus_0002-s.png", "Images/extra.png", "Masks/mask_0001-l.png")
    (root / "bus_data.csv").write_text(BUSBRA)


def aul_tree(root: Path) -> None:
    put(root, "Benign/image/1.jpg", "Malignant/image/1.jpg", "Malignant/image/10.jpg", "Normal/image/.hidden")
    put(root, "Benign/segmentation/mass/1.json")


def fetal_tree(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "FETAL_PLANES_DB_data.csv").write_text(FETAL)


def generic_tree(root: Path) -> None:
    put(root, "images/a/1.png", "images/a/2.png", "images/b/4.png")
    (root / "metadata.csv").write_text(GENERIC)


def read(reader: str, folder: Path) -> dict[str, Record]:
    records = list(READERS[reader](folder))
    assert len({record.name for record in records}) == len(records)
    return {record.name: record for record in records}


def test_busbra(tmp_path: Path) -> None:
    busbra_tree(tmp_path)
    records = read("busbra", tmp_path)
    assert sorted(records) == ["bus_0001-l", "bus_0001-r", "bus_0002-s", "extra.png"]
    assert records["bus_0001-r"] == Record(
        path=tmp_path / "Images" / "bus_0001-r.png",  # absent: the manifest says so
        name="bus_0001-r",
        label="malignant",
        patient_id="1",
        patient_source="metadata",
        device="GE Logiq 7 @10-14MHz",
        view="right",
        size=(275, 353),
    )
    assert records["bus_0002-s"].label == "benign"
    assert records["extra.png"].excluded_reason == "not listed in bus_data.csv"


def test_aul_numbers_restart_in_every_class(tmp_path: Path) -> None:
    aul_tree(tmp_path)
    records = read("aul", tmp_path)
    assert {name: record.label for name, record in records.items()} == {
        "benign-1": "benign",
        "malignant-1": "malignant",
        "malignant-10": "malignant",
    }
    assert len({record.patient_id for record in records.values()}) == 3
    assert records["benign-1"].path == tmp_path / "Benign" / "image" / "1.jpg"


def test_fetal_planes_without_images(tmp_path: Path) -> None:
    fetal_tree(tmp_path)
    records = read("fetal_planes", tmp_path)
    assert records["Patient00003_Plane3_1_of_1"] == Record(
        path=tmp_path / "Images" / "Patient00003_Plane3_1_of_1.png",
        name="Patient00003_Plane3_1_of_1",
        label="fetal_brain",
        patient_id="3",
        patient_source="metadata",
        device="Voluson E6",
        view="Trans-thalamic",
        series="Patient00003_Plane3",
        frame="1",
    )
    assert records["Patient00001_Plane1_2_of_15"].label == "other"
    assert records["Patient00001_Plane1_2_of_15"].view == ""


def test_generic(tmp_path: Path) -> None:
    generic_tree(tmp_path)
    records = read("generic", tmp_path)
    assert records["a/1.png"].patient_id == "p1"
    assert records["a/1.png"].organ == "thyroid"
    assert (records["a/2.png"].patient_id, records["a/2.png"].patient_source) == ("", "none")
    assert records["b/3.png"].excluded_reason == "motion blur"
    assert records["b/4.png"].excluded_reason == "not listed in metadata.csv"


TREES = [("busbra", busbra_tree), ("aul", aul_tree), ("fetal_planes", fetal_tree), ("generic", generic_tree)]


@pytest.mark.parametrize(("reader", "tree"), TREES)
def test_one_wrapper_folder_is_accepted(tmp_path: Path, reader: str, tree: Callable[[Path], None]) -> None:
    tree(tmp_path / "plain")
    tree(tmp_path / "wrapped" / "inner")
    put(tmp_path / "wrapped" / "__MACOSX", "x")
    plain, wrapped = read(reader, tmp_path / "plain"), read(reader, tmp_path / "wrapped")
    assert sorted(plain) == sorted(wrapped)


@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_folder_that_is_absent_or_another_is_named(tmp_path: Path, reader: str) -> None:
    with pytest.raises(UrfmError, match=r"gone: no such folder.*data_root"):
        list(READERS[reader](tmp_path / "gone"))
    put(tmp_path, "holiday.jpg")
    with pytest.raises(UrfmError, match=r"neither it nor a folder in it holds.*it holds holiday\.jpg"):
        list(READERS[reader](tmp_path))


@pytest.mark.parametrize(
    ("reader", "tree", "name", "column"),
    [
        ("busbra", busbra_tree, "bus_data.csv", "Case"),
        ("busbra", busbra_tree, "bus_data.csv", "Pathology"),
        ("fetal_planes", fetal_tree, "FETAL_PLANES_DB_data.csv", "Patient_num"),
        ("generic", generic_tree, "metadata.csv", "patient_id"),
    ],
)
def test_a_csv_without_a_needed_column_is_named(
    tmp_path: Path, reader: str, tree: Callable[[Path], None], name: str, column: str
) -> None:
    tree(tmp_path)
    path = tmp_path / name
    path.write_text(path.read_text().replace(column, "Renamed", 1))
    with pytest.raises(UrfmError) as caught:
        list(READERS[reader](tmp_path))
    for part in (str(path), f"no column '{column}'", "'Renamed'", "rename the column"):
        assert part in str(caught.value)


def test_metadata_of_other_shapes(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('a ; b\n 1;"x;y" \n\nNaN;\n')
    assert read_metadata(path, ["a", "b"]) == [{"a": "1", "b": "x;y"}, {"a": "NaN", "b": ""}]
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(UrfmError, match="line 3 has 3 cells where the header has 2"):
        read_metadata(path, ["a"])
    path.write_text('a,b\n"1,2\n3,4\n')  # a quote that is never closed
    with pytest.raises(UrfmError, match="has 1 cells"):
        read_metadata(path, ["a"])
    path.write_text("")
    with pytest.raises(UrfmError, match="it has no header"):
        read_metadata(path, ["a"])
    path.write_bytes("a,b\nJos\u00e9,2\n".encode("latin-1"))
    with pytest.raises(UrfmError, match="UTF-8"):
        read_metadata(path, ["a"])


@pytest.mark.data
def test_real_busbra(real_data: Path) -> None:
    records = read("busbra", real_data / "BUSBRA").values()
    assert len(records) == 1875
    assert not any(record.excluded_reason for record in records)
    assert Counter(record.label for record in records) == {"benign": 1268, "malignant": 607}
    images_of = Counter(record.patient_id for record in records)
    assert Counter(images_of.values()) == {2: 811, 1: 253}
    assert Counter(record.view for record in records) == {"left": 811, "right": 811, "single": 253}
    assert all(record.path.is_file() for record in records)


@pytest.mark.data
def test_real_aul(real_data: Path) -> None:
    records = read("aul", real_data / "AUL").values()
    assert Counter(record.label for record in records) == {"benign": 60, "malignant": 90, "normal": 40}
    assert len({record.patient_id for record in records}) == 190


@pytest.mark.data
def test_real_fetal_planes(real_data: Path) -> None:
    records = read("fetal_planes", real_data / "fetal_planes").values()
    assert Counter(record.label for record in records) == {
        "other": 4213,
        "fetal_abdomen": 711,
        "fetal_brain": 3092,
        "maternal_cervix": 1626,
        "fetal_femur": 1040,
        "fetal_thorax": 1718,
    }
    assert len({record.patient_id for record in records}) == 1792
    assert Counter(record.device for record in records)["Voluson E6"] == 5862
    assert sum(record.view != "" for record in records) == 3092
