"""Layouts of the sets that tasks are made of: names, tables and defects as published (docs/datasets.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from urfm.core.errors import UrfmError
from urfm.simulation.anatomy import Case
from urfm.simulation.archive import (
    File,
    SimulateSettings,
    lines,
    shared_picture,
    shares,
    shuffled,
    table,
)
from urfm.simulation.pictures import (
    ALTERATIONS,
    ENDOSCOPY,
    FETAL_PLANES,
    ORGANS,
    Picture,
    encode,
    machines,
    new_case,
    take_picture,
)
from urfm.simulation.scanner import Random

# Share of the real images a class has; a simulated set keeps it, with at least a few of each.
BREAST = {"benign": 722, "malignant": 342}
LIVER = {"benign": 200, "malignant": 435, "normal": 100}
FETUS = {  # plane: images
    "Other": 4213,
    "Fetal abdomen": 711,
    "Fetal brain": 3092,
    "Maternal cervix": 1626,
    "Fetal femur": 1040,
    "Fetal thorax": 1718,
}
BUID = {"benign": 109, "malignant": 123}
PANCREAS = {"cancer": 280, "non_cancer": 140}  # patients
UTERUS = {"fibroid": 875, "non_fibroid": 1115}
OVARY = {  # label: images and the colour of its mask
    "chocolate_cyst": (336, (64, 0, 0)),
    "serous_cystadenoma": (219, (0, 64, 0)),
    "teratoma": (336, (0, 0, 64)),
    "theca_cell_tumor": (88, (64, 0, 64)),
    "simple_cyst": (66, (64, 64, 0)),
    "normal_ovary": (267, (64, 64, 64)),
    "mucinous_cystadenoma": (104, (0, 128, 0)),
    "serous_carcinoma": (53, (0, 0, 128)),
}


def busbra(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """BUS-BRA: two sides or one of every patient, one-bit masks, a quoted box; four heights in the table are wrong."""
    organ = ORGANS["breast"]
    scans = machines(organ.probe, settings.image_size, random)
    rows: list[list[object]] = []
    for patient, label in enumerate(shuffled(shares(settings.patients, BREAST), random), 1):
        case = new_case(label, random)
        device = int(random.integers(len(scans)))
        sides = {"l": "left", "r": "right"} if random.random() < 811 / 1064 else {"s": "single"}
        for suffix, side in sides.items():
            picture = take_picture(organ, scans[device], case, random)
            name = f"bus_{patient:04d}-{suffix}"
            mask = picture.mask("mass")
            birads = int(np.clip(round(2 + 3 * case.severity), 2, 5))
            size = picture.image.size
            rows.append([name, patient, "simulated", label, birads, f"Simulated scanner {device + 1}", *size, side])
            rows[-1].append(str(list(box(mask))).replace(" ", ""))
            yield File(f"Images/{name}.png", encode(picture.image, "PNG"), 1)
            yield File(f"Masks/mask_{name[4:]}.png", encode(Image.fromarray(mask), "PNG"))
    for number, error in zip(random.choice(len(rows), 4, replace=False), (52, 16, 2, 2), strict=True):
        rows[number][7] = int(str(rows[number][7])) + error
    header = ["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX"]
    yield File("bus_data.csv", table([header, *rows]))
    fold_of = random.integers(1, 6, settings.patients + 1)
    folds = []
    for row in rows:
        own = int(fold_of[int(str(row[1]))])
        valid = ["NaN" if fold == own else int(random.random() < 0.8) for fold in range(1, 6)]
        folds.append([row[0], row[3], own, *valid])
    yield File("5-fold-cv.csv", table([["ID", "Pathology", "kFold", *(f"valid_{k}" for k in range(1, 6))], *folds]))


def box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The mask's column and row, counted from 1, width and height; zeros if it is empty."""
    if not mask.any():
        return 0, 0, 0, 0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]) + 1, int(rows[0]) + 1, int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def aul(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """Liver735: RGB JPEGs, one per patient, numbers restart in every class, with polygons of scan, liver and mass.

    Malignant lacks some polygons of the liver; two of them lie in `outline/`, in the place of the scan's.
    """
    organ = ORGANS["liver"]
    scans = machines(organ.probe, settings.image_size, random)
    number = dict.fromkeys(LIVER, 0)
    for label in shuffled(shares(settings.patients, LIVER), random):
        number[label] += 1
        case = new_case(label, random)
        picture = take_picture(organ, scans[int(random.integers(len(scans)))], case, random)
        folder, stem = label.capitalize(), number[label]
        yield File(f"{folder}/image/{stem}.jpg", encode(picture.image.convert("RGB"), "JPEG"), 1)
        polygons = {"outline": "scan", "liver": "organ", "mass": "mass"}
        if label == "malignant" and stem in (2, 3, 5):
            polygons = {"outline": "scan" if stem == 5 else "organ", "mass": "mass"}
        for name, region in polygons.items():
            if region in picture.tissue.regions and (corners := picture.outline(region)):
                yield File(f"{folder}/segmentation/{name}/{stem}.json", json.dumps(corners).encode())


def fetal_planes(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """FETAL_PLANES_DB: planes of every patient (not seven but two), RGBA PNGs but for a few; spaces end rows."""
    scans = machines(ORGANS["fetus"].probe, settings.image_size, random)
    visits = np.minimum(random.geometric(1 / 2, settings.patients), 30)
    planes = shuffled(shares(int(visits.sum()), FETUS), random)
    odd = {3: "P", 7: "L", 11: "RGB", 15: "LA"}
    rows: list[list[object]] = []
    for patient, images in enumerate(visits.tolist(), 1):
        seed, device = int(random.integers(2**31)), int(random.integers(len(scans)))
        here, planes = sorted(planes[:images]), planes[images:]
        for plane in dict.fromkeys(here):
            number = list(FETUS).index(plane) + 1
            for frame in range(1, here.count(plane) + 1):
                name = f"Patient{patient:05d}_Plane{number}_{frame}_of_{here.count(plane)}"
                case = Case(plane, 0.0, seed + number)
                picture = take_picture(FETAL_PLANES[plane], scans[device], case, random).image
                view = "Trans-thalamic" if plane == "Fetal brain" else "Not A Brain"
                rows.append([name, patient, plane, view, "Op. 1", f"Simulated scanner {device + 1}", f"{patient % 2} "])
                yield File(f"Images/{name}.png", encode(picture.convert(odd.get(len(rows), "RGBA")), "PNG"), 1)
    header = ["Image_name", "Patient_num", "Plane", "Brain_plane", "Operator", "US_Machine", "Train "]
    yield File("FETAL_PLANES_DB_data.csv", table([header, *rows], ";"))


def lepset(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """LEPset: patient folders whose numbers restart in PC and NPC, twice as many images in NPC; and a flat `unlabeled`.

    Nobody can tell whether the real unlabelled images show labelled patients. Here three do: two exact copies and one
    that was compressed again.
    """
    scans = machines(ENDOSCOPY.probe, settings.image_size, random)
    number = dict.fromkeys(PANCREAS, 0)
    originals: dict[str, tuple[str, Image.Image]] = {}
    for label in shuffled(shares(settings.patients, PANCREAS), random):
        number[label] += 1
        case, scan = new_case(label, random), scans[int(random.integers(len(scans)))]
        for image in range(1, int(random.integers(*((1, 3) if label == "cancer" else (2, 5)))) + 1):
            picture = take_picture(ENDOSCOPY, scan, case, random).image.convert("RGB")
            name = f"labeled/{'PC' if label == 'cancer' else 'NPC'}/{number[label]}/{image}.jpg"
            originals[f"{label} {number[label]}"] = name, picture
            yield File(name, encode(picture, "JPEG"), 1)
    copies = [("exact", originals["cancer 1"]), ("exact", originals["non_cancer 1"])]
    copies.append(("quality 60", originals["cancer 2"] if "cancer 2" in originals else originals["cancer 1"]))
    for index, (kind, (original, picture)) in enumerate(copies, 1):
        content = encode(picture, "JPEG", quality=92 if kind == "exact" else 60)
        yield File(f"unlabeled/{index}.jpg", content, 1, (kind, original))
    for index in range(len(copies) + 1, len(copies) + 1 + max(1, settings.patients // 8)):
        case = new_case(str(random.choice(list(PANCREAS))), random)
        picture = take_picture(ENDOSCOPY, scans[int(random.integers(len(scans)))], case, random).image.convert("RGB")
        yield File(f"unlabeled/{index}.jpg", encode(picture, "JPEG"), 1)


def uf1990(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """UF1990: JPEGs in UF and NUF without any sign of the patient, some of them altered copies of others."""
    organ = ORGANS["uterus"]
    scans = machines(organ.probe, settings.image_size, random)
    folders = {"fibroid": "UF", "non_fibroid": "NUF"}
    number = dict.fromkeys(UTERUS, 0)
    alterations = list(ALTERATIONS)
    for label in shuffled(shares(settings.patients, UTERUS), random):
        case, scan = new_case(label, random), scans[int(random.integers(len(scans)))]
        for _ in range(int(random.integers(1, 4))):
            number[label] += 1
            picture = take_picture(organ, scan, case, random).image.convert("RGB")
            original = f"{folders[label]}/{number[label]}.jpg"
            yield File(original, encode(picture, "JPEG"), 1)
        if alterations:
            number[label] += 1
            kind = alterations.pop()
            content = encode(ALTERATIONS[kind](picture), "JPEG")
            yield File(f"{folders[label]}/{number[label]}.jpg", content, 1, (kind, original))


def mmotu(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """MMOTU: numbered JPEGs called .JPG, a patient's one after another and some nearly the same; lists with two spaces.

    The published division is drawn image by image, so patients and near duplicates cross it. OTU_3d is in the archive
    too, and no part of the task.
    """
    organ = ORGANS["ovary"]
    scans = machines(organ.probe, settings.image_size, random)
    entries: dict[str, list[str]] = {"train": [], "val": []}
    weights = {label: images for label, (images, _) in OVARY.items()}
    number = 0
    for label in shuffled(shares(settings.patients, weights, least=4), random):
        case, scan = new_case(label, random), scans[int(random.integers(len(scans)))]
        index, colour = list(OVARY).index(label), OVARY[label][1]
        for _ in range(2):
            picture = take_picture(organ, scan, case, random)
            image, mask = picture.image.convert("RGB"), Image.fromarray(picture.mask("mass")).convert("L")
            versions = [("", image, mask)]
            if random.random() < 0.1:
                versions.append(("brighter", ALTERATIONS["brighter"](image), mask))
            if random.random() < 0.1:
                versions.append(("cropped", ALTERATIONS["cropped"](image), ALTERATIONS["cropped"](mask)))
            original = f"OTU_2d/images/{number + 1}.JPG"
            for kind, image, mask in versions:
                number += 1
                entries["train" if random.random() < 1000 / 1469 else "val"].append(f"{number}.JPG  {index}")
                copy_of = (kind, original) if kind else None
                yield File(f"OTU_2d/images/{number}.JPG", encode(image, "JPEG"), 1, copy_of)
                colours = Image.composite(Image.new("RGB", image.size, colour), Image.new("RGB", image.size), mask)
                yield File(f"OTU_2d/annotations/{number}.PNG", encode(colours, "PNG"))
                yield File(f"OTU_2d/annotations/{number}_binary.PNG", encode(mask, "PNG"))
    for part, listed in entries.items():
        yield File(f"OTU_2d/{part}_cls.txt", lines(listed))
        yield File(f"OTU_2d/{part}.txt", lines([entry.partition(".")[0] for entry in listed]))
    yield File("OTU_3d/images/1.JPG", encode(image, "JPEG"))


def buid(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """BUID: square BMPs, spaces in their names, a drawing and a mask beside each; numbers restart in every class."""
    organ = ORGANS["breast"]
    scans = machines(organ.probe, settings.image_size, random)
    number = dict.fromkeys(BUID, 0)

    def lesion(label: str, picture: Picture, copy_of: tuple[str, str] | None = None) -> Iterator[File]:
        number[label] += 1
        name = f"{label.capitalize()}/{number[label]} {label.capitalize()}"
        side = max(picture.image.size)
        image, mask = Image.new("RGB", (side, side)), Image.new("L", (side, side))
        image.paste(picture.image)
        mask.paste(Image.fromarray(picture.mask("mass")).convert("L"))
        yield File(f"{name} Image.bmp", encode(image, "BMP"), 1, copy_of)
        if corners := picture.outline("mass"):
            ImageDraw.Draw(image).polygon(corners, outline="red")
        yield File(f"{name} Lesion.bmp", encode(image, "BMP"))
        yield File(f"{name} Mask.tif", encode(mask, "TIFF"))

    for label in shuffled(shares(settings.patients - 1, BUID), random):
        scan = scans[int(random.integers(len(scans)))]
        yield from lesion(label, take_picture(organ, scan, new_case(label, random), random))
    yield from lesion("benign", shared_picture("breast", settings.image_size), ("framed", "shared/breast"))


def generic(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """The generic format: metadata.csv and images/. With labels a task's set, without them one for pre-training.

    Patients have half as many further images as the settings say, to stay small. One picture of a task's set occurs
    twice, under two labels and two patients. A picture that other sets of the organ hold too is there, as benign.
    """
    if settings.organ not in ORGANS:
        raise UrfmError(f"organ: {settings.organ!r} cannot be simulated; known are {', '.join(ORGANS)}")
    organ = ORGANS[settings.organ]
    scans = machines(organ.probe, settings.image_size, random)
    labels = shuffled(shares(settings.patients, settings.labels), random) if settings.labels else []
    rows: list[list[object]] = []

    def add(image: Image.Image, patient: int, label: str, device: int, copy_of: tuple[str, str] | None = None) -> File:
        name = f"{patient:04d}/{sum(row[1] == patient for row in rows) + 1}.png"
        rows.append([name, patient, label, settings.organ, f"Simulated scanner {device + 1}"])
        return File(f"images/{name}", encode(image, "PNG"), 1, copy_of)

    for patient, label in enumerate(labels or [""] * settings.patients, 1):
        case, device = new_case(label, random), int(random.integers(len(scans)))
        for _ in range(1 + int(random.poisson((settings.images_per_patient - 1) / 2))):
            image = take_picture(organ, scans[device], case, random).image
            yield add(image, patient, label, device)
    if others := sorted(set(labels) - {label}):
        yield add(image, settings.patients + 1, others[0], device, ("exact", f"images/{rows[-1][0]}"))
    if "benign" in (labels or ["benign"]):
        picture = shared_picture(settings.organ, settings.image_size)
        label = "benign" if labels else ""
        yield add(picture.image, settings.patients + 2, label, 0, ("exact", f"shared/{settings.organ}"))
    yield File("metadata.csv", table([["image", "patient_id", "label", "organ", "device"], *rows]))
