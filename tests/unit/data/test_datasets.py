"""Readers, on trees in the published layouts and on the real archives."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import archive_trees
import pytest
from archive_trees import BUV_COPY, BUV_RELABELLED, BUV_SAME_PATIENT, TREES, put
from configurations import PAPER
from urfm.config.data import WITH_FOLDERS, ReaderName
from urfm.core.errors import UrfmError
from urfm.data.datasets import READERS
from urfm.data.datasets.common import Record, files_below, find_root, plain_name, read_metadata, read_words
from urfm.data.datasets.mmotu import LABELS

HOME = Path(__file__).resolve().parents[3]
ANY_DEPTH = {"uf1990", "ultrasoundcases"}  # no published layout to look for: any image will do


def read(reader: str, folder: Path) -> dict[str, Record]:
    records = list(READERS[reader].read(folder))
    assert len({record.name for record in records}) == len(records)
    return {record.name: record for record in records}


def labels(records: dict[str, Record]) -> dict[str, str]:
    return {name: record.label for name, record in records.items()}


# --- Every reader -------------------------------------------------------------------------------------------------


def test_configuration_and_trees_know_every_reader() -> None:
    assert set(get_args(ReaderName)) == set(READERS) == set(TREES)
    assert set(WITH_FOLDERS) == {name for name, reader in READERS.items() if reader.takes_folders}


@pytest.mark.parametrize("reader", sorted(READERS))
def test_one_wrapper_folder_is_accepted(tmp_path: Path, reader: str) -> None:
    found = []
    for root in (tmp_path / "plain", tmp_path / "wrapped" / "inner"):
        TREES[reader](root)
        put(tmp_path / "wrapped" / "__MACOSX", "x")
        records = READERS[reader].read(tmp_path / root.relative_to(tmp_path).parts[0])
        found.append([(record.path.relative_to(root), record.label, record.official_split) for record in records])
    assert found[0]
    assert found[0] == found[1]


@pytest.mark.parametrize("reader", sorted(READERS))
def test_the_table_says_whose_archives_have_an_official_split(tmp_path: Path, reader: str) -> None:
    TREES[reader](tmp_path)
    assert any(record.official_split for record in READERS[reader].read(tmp_path)) == READERS[reader].official_split


def test_planning_asks_the_readers_without_waiting_for_libraries() -> None:
    """Every call of snakemake imports them; numpy it has anyway."""
    heavy = ("nibabel", "pandas", "pyarrow", "scipy", "torch")
    command = f"import sys, urfm.plan.availability; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", command], cwd=HOME / "workflow", capture_output=True, text=True)
    assert printed.stdout == "[]\n", printed.stderr


@pytest.mark.parametrize("reader", sorted(READERS))
def test_records_come_in_the_same_order_whatever_the_file_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    TREES[reader](tmp_path)
    records = list(READERS[reader].read(tmp_path))
    for method in ("iterdir", "glob", "rglob"):
        original = getattr(Path, method)
        monkeypatch.setattr(Path, method, lambda *arguments, original=original: iter(list(original(*arguments))[::-1]))
    assert list(READERS[reader].read(tmp_path)) == records


@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_folder_that_is_absent_or_another_is_named(tmp_path: Path, reader: str) -> None:
    with pytest.raises(UrfmError, match=r"gone: no such folder.*data_root"):
        list(READERS[reader].read(tmp_path / "gone"))
    if reader not in ANY_DEPTH:
        put(tmp_path, "holiday.jpg")
        with pytest.raises(UrfmError, match=r"neither it nor a folder in it holds.*it holds holiday\.jpg"):
            list(READERS[reader].read(tmp_path))


@pytest.mark.parametrize(
    ("reader", "name", "column"),
    [
        ("busbra", "bus_data.csv", "Case"),
        ("busbra", "bus_data.csv", "Pathology"),
        ("busbra", "5-fold-cv.csv", "kFold"),
        ("fetal_planes", "FETAL_PLANES_DB_data.csv", "Patient_num"),
        ("generic", "metadata.csv", "patient_id"),
        ("radimagenet", "RadiologyAI_train.csv", "filename"),
    ],
)
def test_a_csv_without_a_needed_column_is_named(tmp_path: Path, reader: str, name: str, column: str) -> None:
    TREES[reader](tmp_path)
    path = tmp_path / name
    path.write_text(path.read_text().replace(column, "Renamed", 1))
    with pytest.raises(UrfmError) as caught:
        list(READERS[reader].read(tmp_path))
    for part in (str(path), f"no column '{column}'", "'Renamed'", "rename the column"):
        assert part in str(caught.value)


# --- One by one ---------------------------------------------------------------------------------------------------


def test_busbra(tmp_path: Path) -> None:
    archive_trees.busbra(tmp_path)
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
        official_split="fold-3",
        size=(275, 353),
    )
    assert records["bus_0002-s"].label == "benign"
    assert records["bus_0002-s"].official_split == ""
    assert records["extra.png"].excluded_reason == "not listed in bus_data.csv"
    (tmp_path / "5-fold-cv.csv").unlink()
    assert {record.official_split for record in read("busbra", tmp_path).values()} == {""}


@pytest.mark.parametrize(("column", "good"), [("Width", ",275,"), ("Height", ",353,")])
def test_busbra_names_a_size_that_is_no_number(tmp_path: Path, column: str, good: str) -> None:
    archive_trees.busbra(tmp_path)
    path = tmp_path / "bus_data.csv"
    path.write_text(path.read_text().replace(good, ",3S3,"))
    with pytest.raises(UrfmError, match=rf"bus_data\.csv: row bus_0001-\w, column {column}: '3S3' is not a whole"):
        list(READERS["busbra"].read(tmp_path))


def test_aul_numbers_restart_in_every_class(tmp_path: Path) -> None:
    archive_trees.aul(tmp_path)
    records = read("aul", tmp_path)
    assert labels(records) == {"benign-1": "benign", "malignant-1": "malignant", "malignant-10": "malignant"}
    assert len({record.patient_id for record in records.values()}) == 3
    assert records["benign-1"].path == tmp_path / "Benign" / "image" / "1.jpg"


def test_fetal_planes_without_images(tmp_path: Path) -> None:
    archive_trees.fetal_planes(tmp_path)
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
        official_split="test",
    )
    other = records["Patient00001_Plane1_2_of_15"]
    assert (other.label, other.view, other.official_split) == ("other", "", "train")


def test_generic(tmp_path: Path) -> None:
    archive_trees.generic(tmp_path)
    records = read("generic", tmp_path)
    assert records["a/1.png"].patient_id == "p1"
    assert records["a/1.png"].organ == "thyroid"
    assert (records["a/2.png"].patient_id, records["a/2.png"].patient_source) == ("", "none")
    assert records["b/3.png"].excluded_reason == "motion blur"
    assert records["b/4.png"].excluded_reason == "not listed in metadata.csv"


def test_generic_takes_the_sets_own_division(tmp_path: Path) -> None:
    put(tmp_path, "images/1.png")
    rows = "image,patient_id,official_split\n1.png,a,{}\n"
    for division in ("train", "val", "test", "fold-3", ""):
        (tmp_path / "metadata.csv").write_text(rows.format(division))
        assert read("generic", tmp_path)["1.png"].official_split == division
    (tmp_path / "metadata.csv").write_text(rows.format("training"))
    with pytest.raises(UrfmError, match=r"metadata\.csv: image 1\.png, column official_split: 'training' is none of"):
        list(READERS["generic"].read(tmp_path))


def test_the_documented_template_is_readable(tmp_path: Path) -> None:
    template = re.search(r"```csv\n(.*?)```", (HOME / "docs" / "datasets.md").read_text(), flags=re.DOTALL)
    assert template
    put(tmp_path, "images/a/0001.png", "images/a/0002.png")
    (tmp_path / "metadata.csv").write_text(template[1])
    records = read("generic", tmp_path)
    assert labels(records) == {"a/0001.png": "benign", "a/0002.png": "malignant"}
    assert not any(record.excluded_reason for record in records.values())


def test_lepset_numbers_patients_in_every_class(tmp_path: Path) -> None:
    archive_trees.lepset(tmp_path)
    records = read("lepset", tmp_path)
    assert {name: (record.label, record.patient_id) for name, record in records.items()} == {
        "NPC/7/0.jpg": ("non_cancer", "NPC_7"),
        "NPC/7/1.jpg": ("non_cancer", "NPC_7"),
        "PC/7/0.jpg": ("cancer", "PC_7"),
        "PC/12/0.jpg": ("cancer", "PC_12"),
        "PC/stray.jpg": ("cancer", ""),
    }
    assert records["PC/stray.jpg"].patient_source == "none"
    assert records["NPC/7/1.jpg"].patient_source == "path"


def test_lepset_unlabelled_has_no_patients_and_no_labels(tmp_path: Path) -> None:
    archive_trees.lepset(tmp_path)
    records = read("lepset_unlabelled", tmp_path)
    assert sorted(records) == ["0.jpg", "10.jpg"]
    assert {(r.label, r.patient_id, r.patient_source) for r in records.values()} == {("", "", "none")}


def test_uf1990_takes_label_and_division_from_the_folders(tmp_path: Path) -> None:
    archive_trees.uf1990(tmp_path)
    records = read("uf1990", tmp_path)
    assert {name: (record.label, record.official_split) for name, record in records.items()} == {
        "train/UF/1.jpg": ("fibroid", "train"),
        "train/NUF/1.jpg": ("non_fibroid", "train"),
        "Validation/uf/2.PNG": ("fibroid", "val"),
        "test/Non-uterine fibroid/3.bmp": ("non_fibroid", "test"),
        "Uterine Fibroid/Training/4.jpg": ("fibroid", "train"),
        "normal/5.jpg": ("non_fibroid", ""),
    }
    assert {record.patient_id for record in records.values()} == {""}


def test_uf1990_refuses_unknown_folders_and_learns_them_from_the_configuration(tmp_path: Path) -> None:
    put(tmp_path, "UF/1.jpg", "train/healthy/2.jpg", "loose.jpg", "UF/deeper/3.jpg")
    with pytest.raises(UrfmError) as caught:
        list(READERS["uf1990"].read(tmp_path))
    for part in (
        str(tmp_path),
        "no meaning is known for '.', 'deeper', 'healthy'",
        "Folders with images: '.', 'UF', 'deeper', 'healthy'",
        "nuf = non_fibroid",
        "`folders: {'.': …}`",
    ):
        assert part in str(caught.value)
    folders = {"Healthy": "non_fibroid", ".": "fibroid", "deeper": "fibroid", "UF": "replaced"}
    records = {record.name: record for record in READERS["uf1990"].read(tmp_path, folders)}
    assert labels(records) == {
        "UF/1.jpg": "replaced",
        "UF/deeper/3.jpg": "fibroid",
        "loose.jpg": "fibroid",
        "train/healthy/2.jpg": "non_fibroid",
    }


@pytest.mark.parametrize("name", ["Non Uterine-Fibroid", "non_uterine__fibroid", " NON uterine fibroid"])
def test_spellings_of_a_folder_are_levelled(name: str) -> None:
    assert plain_name(name) == "non_uterine_fibroid"


def test_mmotu_excludes_what_its_lists_leave_open(tmp_path: Path) -> None:
    archive_trees.mmotu(tmp_path)
    records = read("mmotu", tmp_path)
    assert {name: (r.label, r.official_split, r.excluded_reason) for name, r in records.items()} == {
        "1": ("serous_carcinoma", "train", ""),
        "2": ("", "", "its label in train_cls.txt, 8, is none of 0 to 7"),
        "3": ("", "", "listed 2 times: train_cls.txt, val_cls.txt"),
        "4.JPG": ("", "", "not listed in train_cls.txt or val_cls.txt"),
        "5": ("chocolate_cyst", "val", ""),
        "6": ("teratoma", "val", ""),
        "7": ("normal_ovary", "train", ""),
    }
    images = tmp_path / "OTU_2d" / "images"
    assert {name: record.path for name, record in records.items()} == {
        **{n: images / f"{n}.JPG" for n in "12356"},  # 5 is absent: the manifest says so
        "4.JPG": images / "4.JPG",
        "7": images / "7.jpg",
    }
    assert all(record.frame == name for name, record in records.items() if name != "4.JPG")


def test_mmotu_may_lie_in_its_own_folder_and_names_a_damaged_list(tmp_path: Path) -> None:
    archive_trees.mmotu(tmp_path)
    assert len(read("mmotu", tmp_path / "OTU_2d")) == 7
    (tmp_path / "OTU_2d" / "val_cls.txt").write_text("6.JPG  2\n5.JPG\n")
    with pytest.raises(UrfmError, match=r"val_cls\.txt: line 2 is '5\.JPG', not an image and its label"):
        list(READERS["mmotu"].read(tmp_path))
    (tmp_path / "OTU_2d" / "val_cls.txt").unlink()
    with pytest.raises(UrfmError, match=r"val_cls\.txt: no such file; it is part of the archive"):
        list(READERS["mmotu"].read(tmp_path))


def test_mmotu_labels_are_the_classes_of_the_task_in_the_archives_order() -> None:
    assert list(LABELS) == list(PAPER["tasks"]["ovarian_tumor"]["classes"])


def test_buid_leaves_drawings_and_masks_out(tmp_path: Path) -> None:
    archive_trees.buid(tmp_path)
    records = read("buid", tmp_path)
    assert labels(records) == {
        "benign-1": "benign",
        "benign-10": "benign",
        "malignant-1": "malignant",
        "malignant-10": "malignant",
        "malignant-2": "malignant",
    }
    assert {record.path.name for record in records.values() if record.label == "benign"} == {
        "1 Benign Image.bmp",
        "10 Benign Image.bmp",
    }
    assert all(record.patient_id == name for name, record in records.items())


def test_radimagenet_derives_the_organ_from_the_class_folder(tmp_path: Path) -> None:
    archive_trees.radimagenet(tmp_path)
    records = read("radimagenet", tmp_path)
    assert {(r.label, r.organ) for r in records.values()} == {
        ("liver", "liver"),
        ("cbd", "bile_duct"),
        ("ivc", "vein"),
        ("portal_vein", "vein"),
        ("thyroid", "thyroid"),
        ("thyroid_nodule", "thyroid"),
        ("fibroid", "uterus"),
    }
    divisions = {name: record.official_split for name, record in records.items() if record.official_split}
    assert divisions == {"liver/usn000000.png": "train", "cbd/usn000001.png": "test"}
    assert len(records) == 8
    assert {record.patient_id for record in records.values()} == {""}


def test_radimagenet_refuses_unknown_folders_and_learns_them_from_the_configuration(tmp_path: Path) -> None:
    archive_trees.radimagenet(tmp_path)
    put(tmp_path, "radiology_ai/US/Scrotum/usn1.png", "radiology_ai/US/Gall Bladder/usn2.png")
    with pytest.raises(UrfmError, match=r"no meaning is known for 'Gall Bladder', 'Scrotum'.*cbd = bile_duct"):
        list(READERS["radimagenet"].read(tmp_path))
    folders = {"scrotum": "testis", "gall_bladder": "gallbladder", "cbd": "liver"}
    records = {record.name: record for record in READERS["radimagenet"].read(tmp_path, folders)}
    assert records["Scrotum/usn1.png"].organ == "testis"
    assert (records["Gall Bladder/usn2.png"].label, records["Gall Bladder/usn2.png"].organ) == (
        "Gall Bladder",
        "gallbladder",
    )
    assert records["cbd/usn000001.png"].organ == "liver"


def test_radimagenet_may_begin_at_the_ultrasound_folder(tmp_path: Path) -> None:
    archive_trees.radimagenet(tmp_path)
    inner = read("radimagenet", tmp_path / "radiology_ai")
    assert sorted(inner) == sorted(read("radimagenet", tmp_path))


def test_buv_applies_the_published_errata(tmp_path: Path) -> None:
    archive_trees.buv(tmp_path)
    records = read("buv", tmp_path)
    assert len(records) == 10
    plain = records["benign/x1/000001.png"]
    assert plain == Record(
        path=tmp_path / "rawframes" / "benign" / "x1" / "000001.png",
        name="benign/x1/000001.png",
        label="benign",
        patient_id="x1",
        patient_source="path",
        series="x1",
        frame="000001",
        official_split="train",
    )
    copy = records[f"{BUV_COPY}/000000.png"]
    assert copy.excluded_reason == "copy of malignant/x3b88488853e8b7d1 (errata)"
    assert copy.official_split == ""  # in both lists
    relabelled, companion = records[f"{BUV_RELABELLED}/000000.png"], records[f"{BUV_SAME_PATIENT}/000000.png"]
    assert (relabelled.label, relabelled.official_split) == ("malignant", "train")
    assert relabelled.erratum == "malignant, published as benign; one patient with three other videos"
    assert companion.erratum == "one patient with three other videos"
    assert relabelled.patient_id == companion.patient_id
    assert relabelled.series != companion.series
    assert {record.official_split for record in records.values() if record.series == "x3b88488853e8b7d1"} == {"val"}
    assert sum(record.erratum != "" for record in records.values()) == 4


@pytest.mark.parametrize(
    "text", ["<html>", "[]", "[" * 100_000, '{"images": [{"id": 1}]}', '{"images": [{"file_name": 3}]}']
)
def test_buv_names_a_list_that_is_none(tmp_path: Path, text: str) -> None:
    archive_trees.buv(tmp_path)
    (tmp_path / "imagenet_vid_val.json").write_text(text)
    with pytest.raises(UrfmError, match=r"imagenet_vid_val\.json: not a list of frames.*take it away"):
        list(READERS["buv"].read(tmp_path))


def test_buv_without_lists_has_no_division(tmp_path: Path) -> None:
    archive_trees.buv(tmp_path)
    for path in tmp_path.glob("*.json"):
        path.unlink()
    assert {record.official_split for record in read("buv", tmp_path).values()} == {""}


def test_ultrasoundcases_takes_the_folder_for_the_case(tmp_path: Path) -> None:
    archive_trees.ultrasoundcases(tmp_path)
    records = read("ultrasoundcases", tmp_path)
    assert {name: record.patient_id for name, record in records.items()} == {
        "Breast/Cysts/case 12/a.jpg": "Breast/Cysts/case 12",
        "Breast/Cysts/case 12/b.JPG": "Breast/Cysts/case 12",
        "Breast/Cysts/case 13/a.jpg": "Breast/Cysts/case 13",
        "loose.png": "",
    }
    assert records["loose.png"].patient_source == "none"


def test_camus_lists_a_sequence_that_cannot_be_read_once(tmp_path: Path) -> None:
    """Frames of good ones: test_nifti.py."""
    archive_trees.camus(tmp_path)
    records = read("camus", tmp_path)
    folder = tmp_path / "database_nifti" / "patient0001"
    assert {name: record.path for name, record in records.items()} == {
        "patient0001_2CH_000": folder / "patient0001_2CH_half_sequence.nii.gz",  # empty
        "patient0001_4CH_000": folder / "patient0001_4CH_half_sequence.nii.gz",  # absent
    }


# --- What readers share -------------------------------------------------------------------------------------------


def test_two_wrappers_are_one_too_many(tmp_path: Path) -> None:
    put(tmp_path, "a/labeled/x", "b/labeled/x")
    with pytest.raises(UrfmError, match="a and b both hold labeled; keep one"):
        find_root(tmp_path, "labeled")


def test_metadata_of_other_shapes(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('a ; b\n 1;"x;y" \n\nNaN;\n')
    assert list(read_metadata(path, ["a", "b"])) == [{"a": "1", "b": "x;y"}, {"a": "NaN", "b": ""}]
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(UrfmError, match="line 3 has 3 cells where the header has 2"):
        list(read_metadata(path, ["a"]))
    path.write_text('a,b\n"1,2\n3,4\n')  # a quote that is never closed
    with pytest.raises(UrfmError, match="has 1 cells"):
        list(read_metadata(path, ["a"]))
    path.write_text("")
    with pytest.raises(UrfmError, match="it has no header"):
        list(read_metadata(path, ["a"]))
    path.write_text("a,b,c,b,,\n1,2,3,4,,\n")
    with pytest.raises(UrfmError, match=r"m\.csv: several columns are called 'b'; rename"):
        list(read_metadata(path, ["a"]))


@pytest.mark.parametrize(
    ("text", "encoding", "looks", "line"),
    [
        ("image,name\na.png,Müller\nb.png,Müßig\n", "cp1252", "Windows-1252", "line 2 is then 'a.png,Müller'"),
        ("image,name\na.png,王小明\nb.png,甲状腺结节\n", "gb18030", "GB18030", "line 2 is then 'a.png,王小明'"),
        ("image\tname\na.png\tx\n", "utf-16", "UTF-16", "line 1 is then 'image\\tname'"),
    ],
)
def test_a_table_in_another_encoding_is_told_which(
    tmp_path: Path, text: str, encoding: str, looks: str, line: str
) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(UrfmError) as refused:
        list(read_metadata(path, ["image"]))
    for words in (f"{path}: not in UTF-8; it looks like {looks} (", line, f"iconv -f {looks} -t UTF-8"):
        assert words in str(refused.value)


def test_lists_of_words(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf1.JPG  7\r\n\r\n patient0001 \n")
    assert list(read_words(path)) == [(1, ["1.JPG", "7"]), (3, ["patient0001"])]
    path.write_bytes(b"\xff\xfe1\x00")
    with pytest.raises(UrfmError, match=r"list\.txt: not in UTF-8; it looks like UTF-16"):
        list(read_words(path))


def test_metadata_are_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("a,b\n1,2\n1,2,3\n")
    rows = read_metadata(path, ["a"])
    assert next(rows) == {"a": "1", "b": "2"}  # the third line is not read yet
    with pytest.raises(UrfmError, match="line 3"):
        next(rows)


def test_files_below_are_sorted_as_paths_and_junk_left_out(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a-b/1.png", "a/10.png", "a/9.png", "a/b/c/1.png", "a.png", "B.png", ".hidden.png", "a/.x/1")
    put(tmp_path, "a/b/.DS_Store", "\u00e9.png", "empty/.keep")
    put(tmp_path, "a/Thumbs.db", "a/desktop.ini", "~$table.csv", "__MACOSX/a/9.png", "a/@eaDir/9.png")
    found = list(files_below(tmp_path))
    for name in ("__MACOSX", "a/@eaDir", "a/Thumbs.db", "a/desktop.ini", "~$table.csv"):
        path = tmp_path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert found == sorted(path for path in tmp_path.rglob("*") if path.is_file() and "/." not in str(path))
    assert len(found) == 8
    assert list(files_below(tmp_path / "absent")) == []


def test_links_are_files_and_never_folders(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/1.png", "set/2.png")
    (tmp_path / "set" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "set" / "3.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    os.mkfifo(tmp_path / "set" / "pipe.png")  # opening it would wait for ever
    assert [path.name for path in files_below(tmp_path / "set")] == ["1.png", "2.png", "3.png", "loop"]
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")  # the folder that is asked for may lie anywhere
    assert list(files_below(tmp_path / "linked")) == [tmp_path / "linked" / "1.png"]


# --- The real archives --------------------------------------------------------------------------------------------


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
    assert {record.official_split for record in records} == {f"fold-{k}" for k in range(1, 6)}
    folds_of = {(record.patient_id, record.official_split) for record in records}
    assert len(folds_of) == 1064  # no patient in two folds


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
    assert Counter(record.label for record in records) == PAPER["datasets"]["fetal_planes"]["expected"]["labels"]
    assert len({record.patient_id for record in records}) == 1792
    assert Counter(record.device for record in records)["Voluson E6"] == 5862
    assert sum(record.view != "" for record in records) == 3092
    assert Counter(record.official_split for record in records) == {"train": 7129, "test": 5271}
    assert len({(record.patient_id, record.official_split) for record in records}) == 1792


# --- The generic format as people write it --------------------------------------------------------------------------


def generic_set(root: Path, files: list[str], rows: list[str], header: str = "image,patient_id,label") -> None:
    put(root, *(f"images/{name}" for name in files))
    (root / "metadata.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("images/a/1.png", "a/1.png"),
        ("Images\\a\\1.png", "a/1.png"),
        ("a\\1.png", "a/1.png"),
        ("./a/1.png", "a/1.png"),
        ("a/1.PNG", "a/1.png"),
        ("A/1.png", "a/1.png"),
        ("Mu\u0308ller.png", "M\u00fcller.png"),  # decomposed, as macOS writes it
        ("images/MU\u0308LLER.PNG", "M\u00fcller.png"),
    ],
)
def test_a_path_that_can_mean_one_file_only_is_read(tmp_path: Path, written: str, name: str) -> None:
    generic_set(tmp_path, ["a/1.png", "M\u00fcller.png"], [f"{written},p,benign"])
    records = read("generic", tmp_path)
    assert records[name].path == tmp_path / "images" / name
    assert records[name].path.is_file()
    assert records[name].label == "benign"
    assert ("another spelling" in records[name].erratum) == (written != f"./{name}")
    others = {"a/1.png", "M\u00fcller.png"} - {name}
    assert {other: records[other].excluded_reason for other in others} == dict.fromkeys(
        others, "not listed in metadata.csv"
    )


def test_a_path_that_can_mean_two_files_or_none_stays_as_it_is_written(tmp_path: Path) -> None:
    generic_set(tmp_path, ["a.png", "A.png", "images/b.png", "b.png"], ["a.PNG,p,x", "images/b.png,p,x", "c.png,p,x"])
    records = read("generic", tmp_path)
    assert [name for name, record in records.items() if record.label] == ["a.PNG", "images/b.png", "c.png"]
    assert not records["a.PNG"].path.exists()
    assert records["images/b.png"].path == tmp_path / "images" / "images" / "b.png"
    assert {record.erratum for record in records.values()} == {""}


@pytest.mark.parametrize("written", ["../secret.png", "..\\secret.png", "/etc/passwd", "C:\\x\\1.png"])
def test_a_path_that_leads_elsewhere_is_not_looked_for(tmp_path: Path, written: str) -> None:
    put(tmp_path, "secret.png")
    generic_set(tmp_path, ["1.png"], [f"{written},p,benign"])
    records = read("generic", tmp_path)
    assert records[written].path == tmp_path / "images" / written


@pytest.mark.parametrize("patient", ["unknown", "Unknown", "NA", "n/a", "-", "?", "--", "None", "UNK"])
def test_a_placeholder_is_no_patient(tmp_path: Path, patient: str) -> None:
    generic_set(tmp_path, ["1.png", "2.png", "3.png"], [f"1.png,{patient},x", f"2.png,{patient},x", "3.png,P-1,x"])
    records = read("generic", tmp_path)
    assert [record.patient_id for record in records.values()] == ["", "", "P-1"]
    assert [record.patient_source for record in records.values()] == ["none", "none", "metadata"]
    assert records["1.png"].erratum == f"the patient id {patient!r} is read as unknown"


@pytest.mark.parametrize("patient", ["0", "-1", "N", "Ana", "NA12", "007"])
def test_a_patient_is_a_patient(tmp_path: Path, patient: str) -> None:
    generic_set(tmp_path, ["1.png"], [f"1.png,{patient},x"])
    assert read("generic", tmp_path)["1.png"].patient_id == patient
