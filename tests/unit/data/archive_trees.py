"""Small trees in the published layouts, each with the archive's defects. Files are empty but for metadata."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

BUSBRA = """ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX
bus_0001-l,1,invasive ductal carcinoma,malignant,4,GE Logiq 7 @10-14MHz,274,353,left,"[91,24,103,79]"
bus_0001-r,1,invasive ductal carcinoma, malignant ,4,GE Logiq 7 @10-14MHz,275,353,right,"[102,24,82,79]"
bus_0002-s,2,cyst,Benign,2,Toshiba Aplio 300,275,353,single,"[1,2,3,4]"
"""
BUSBRA_FOLDS = """ID,Pathology,kFold,valid_1,valid_2,valid_3,valid_4,valid_5
bus_0001-l,malignant,3,1,1,NaN,1,1
bus_0001-r,malignant,3,1,1,NaN,1,1
"""
FETAL = (
    "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train \n"
    "Patient00001_Plane1_2_of_15;1;Other;Not A Brain;Other;Aloka;1 \n"
    "Patient00003_Plane3_1_of_1;3;Fetal brain;Trans-thalamic;Op. 1;Voluson E6;0 \n"
)
GENERIC = """\ufeffimage, patient_id,label,exclude,organ,official_split
a/1.png,p1,benign,,thyroid,train
a/2.png,,malignant,,,test
b/3.png,p1,benign,motion blur,thyroid,train
"""
BUV_COPY, BUV_RELABELLED = "benign/x66ef02e7f1b9a0ef", "benign/x63c9ba1377f35bf6"
BUV_SAME_PATIENT = "malignant/2390fbea047347b"
BUV_VIDEOS = [BUV_COPY, BUV_RELABELLED, "benign/x1", "malignant/x3b88488853e8b7d1", BUV_SAME_PATIENT]


def put(root: Path, *names: str) -> None:
    """Empty files: readers list images and never open them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def busbra(root: Path) -> None:
    put(root, "Images/bus_0001-l.png", "Images/bus_0002-s.png", "Images/extra.png", "Masks/mask_0001-l.png")
    (root / "bus_data.csv").write_text(BUSBRA)
    (root / "5-fold-cv.csv").write_text(BUSBRA_FOLDS)


def aul(root: Path) -> None:
    put(root, "Benign/image/1.jpg", "Malignant/image/1.jpg", "Malignant/image/10.jpg", "Normal/image/.hidden")
    put(root, "Benign/segmentation/mass/1.json")


def fetal_planes(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "FETAL_PLANES_DB_data.csv").write_text(FETAL)


def generic(root: Path) -> None:
    put(root, "images/a/1.png", "images/a/2.png", "images/b/4.png")
    (root / "metadata.csv").write_text(GENERIC)


def lepset(root: Path) -> None:
    """Patient 7 is another one in each class; one image lies beside the patients."""
    put(root, "labeled/NPC/7/0.jpg", "labeled/NPC/7/1.jpg", "labeled/PC/7/0.jpg", "labeled/PC/12/0.jpg")
    put(root, "labeled/PC/stray.jpg", "labeled/PC/12/.DS_Store", "unlabeled/0.jpg", "unlabeled/10.jpg")


def uf1990(root: Path) -> None:
    """One of the layouts that public users describe, with all of its spellings mixed."""
    put(root, "train/UF/1.jpg", "train/NUF/1.jpg", "Validation/uf/2.PNG", "test/Non-uterine fibroid/3.bmp")
    put(root, "Uterine Fibroid/Training/4.jpg", "normal/5.jpg", "README.txt", "train/UF/Thumbs.db")


def mmotu(root: Path) -> None:
    """2 has an unknown label, 3 is in both lists, 4 in none, 5 is absent, 7 is in another case."""
    put(root, *(f"OTU_2d/images/{n}.JPG" for n in (1, 2, 3, 4, 6)), "OTU_2d/images/7.jpg", "OTU_3d/images/1.JPG")
    put(root, "OTU_2d/annotations/1.PNG", "OTU_2d/annotations/1_binary.PNG", "OTU_2d/annotations/1_binary_binary.PNG")
    (root / "OTU_2d" / "train_cls.txt").write_text("1.JPG  7\n2.JPG  8\n3.JPG  0\n7.JPG  5\n\n")
    (root / "OTU_2d" / "val_cls.txt").write_text("6.JPG  2\r\n5.JPG  0\r\n3.JPG  1\r\n")


def buid(root: Path) -> None:
    for name in ("Benign", "Malignant"):
        put(root, *(f"{name}/{n} {name} {kind}" for n in (1, 10) for kind in ("Image.bmp", "Lesion.bmp", "Mask.tif")))
    put(root, "Malignant/2 Malignant Image.BMP", "Malignant/2 Malignant Mask 2.tif", "Benign/Lesion Image list.xls")


def radimagenet(root: Path) -> None:
    classes = ("liver", "cbd", "ivc", "portal_vein", "thyroid", "thyroid_nodule", "fibroid")
    put(root, *(f"radiology_ai/US/{name}/usn{n:06d}.png" for n, name in enumerate(classes)))
    put(root, "radiology_ai/US/liver/usn000099.png", "radiology_ai/MR/knee/acl/mr1.png", "radiology_ai/US/.cache/x")
    (root / "RadiologyAI_train.csv").write_text(
        "filename,label\nradiology_ai/US/liver/usn000000.png,liver\nradiology_ai/MR/knee/acl/mr1.png,knee-acl\n"
    )
    (root / "radiology_ai" / "RadiologyAI_test.csv").write_text(
        "filename,label\nradiology_ai/US/cbd/usn000001.png,cbd\n"
    )


def buv(root: Path) -> None:
    put(root, *(f"rawframes/{video}/{frame:06d}.png" for video in BUV_VIDEOS for frame in range(2)))
    coco_video(root / "imagenet_vid_train_15frames.json", ["benign/x1", BUV_RELABELLED, BUV_COPY])
    coco_video(root / "imagenet_vid_val.json", ["malignant/x3b88488853e8b7d1", BUV_COPY])


def coco_video(path: Path, videos: Iterable[str]) -> None:
    images = [{"file_name": f"{video}/{frame:06d}.png", "frame_id": frame} for video in videos for frame in range(2)]
    path.write_text(json.dumps({"videos": [{"name": video} for video in videos], "images": images}))


def ultrasoundcases(root: Path) -> None:
    put(root, "Breast/Cysts/case 12/a.jpg", "Breast/Cysts/case 12/b.JPG", "Breast/Cysts/case 13/a.jpg", "loose.png")
    put(root, "Breast/Cysts/case 12/page.html")


def camus(root: Path) -> None:
    """Empty files: no frame can be counted."""
    names = ("2CH_ED", "2CH_ED_gt", "2CH_ES", "2CH_half_sequence", "2CH_half_sequence_gt", "4CH_ED")
    put(root, *(f"database_nifti/patient0001/patient0001_{name}.nii.gz" for name in names))
    put(root, "database_nifti/patient0001/Info_2CH.cfg", "database_nifti/notes.txt")
    (root / "database_split").mkdir()
    (root / "database_split" / "subgroup_testing.txt").write_text("patient0001\n")


TREES: dict[str, Callable[[Path], None]] = {
    "aul": aul,
    "buid": buid,
    "busbra": busbra,
    "buv": buv,
    "camus": camus,
    "fetal_planes": fetal_planes,
    "generic": generic,
    "lepset": lepset,
    "lepset_unlabelled": lepset,
    "mmotu": mmotu,
    "radimagenet": radimagenet,
    "uf1990": uf1990,
    "ultrasoundcases": ultrasoundcases,
}
