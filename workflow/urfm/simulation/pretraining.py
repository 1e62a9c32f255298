"""Layouts of the sets for pre-training alone: names, tables and defects as published (docs/datasets.md)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from urfm.simulation.archive import File, SimulateSettings, lines, shared_picture, shares, shuffled, table
from urfm.simulation.downstream import box
from urfm.simulation.pictures import ALTERATIONS, ORGANS, Picture, encode, machines, new_case, take_picture
from urfm.simulation.scanner import Random, Scan

# Class folder: images of its row in Table 1 (divided among the folders of the row), organ, labels of its patients.
RADIMAGENET: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "aorta": (18097, "aorta", ("",)),
    "bladder": (758, "bladder", ("",)),
    "cbd": (3646, "bile_duct", ("",)),
    "fibroid": (7700, "uterus", ("fibroid",)),
    "gallbladder": (39743, "gallbladder", ("",)),
    "ivc": (863, "vein", ("ivc",)),
    "kidney": (111209, "kidney", ("",)),
    "liver": (74852, "liver", ("",)),
    "ovary": (3593, "ovary", ("normal_ovary", "normal_ovary", "simple_cyst", "serous_cystadenoma")),
    "pancreas": (21639, "pancreas", ("",)),
    "portal_vein": (862, "vein", ("portal_vein",)),
    "spleen": (6518, "spleen", ("",)),
    "thyroid": (46283, "thyroid", ("normal",)),
    "thyroid_nodule": (46283, "thyroid", ("benign", "malignant")),
    "uterus": (7700, "uterus", ("non_fibroid",)),
}
VIDEOS = {"benign": 75, "malignant": 113}
# The errata of BUV: a video in both folders, and one patient's four videos with frames in common, two of them in the
# wrong folder.
COPIED = ("malignant/x3b88488853e8b7d1", "benign/x66ef02e7f1b9a0ef")
ONE_PATIENT = (
    "benign/x63c9ba1377f35bf6",
    "benign/x5a1c46ec6377e946",
    "malignant/2390fbea047347b",
    "malignant/7a39ab5d4970bf89",
)


def radimagenet(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """RadImageNet: class folders of ultrasound PNGs, a case each; its three tables list other modalities too."""
    weights = {name: images for name, (images, _, _) in RADIMAGENET.items()}
    scans: dict[str, list[Scan]] = {}
    rows: dict[str, list[tuple[str, str]]] = {
        part: [(f"radiology_ai/CT/abd/normal/ct{index:06d}.png", "abd-normal")]
        for index, part in enumerate(("train", "val", "test"), 1)
    }
    for number, name in enumerate(shuffled(shares(settings.patients, weights, least=3), random), 1):
        _, key, labels = RADIMAGENET[name]
        organ = ORGANS[key]
        scans[key] = scans.get(key) or machines(organ.probe, settings.image_size, random)
        case, scan = new_case(str(random.choice(labels)), random), scans[key][int(random.integers(len(scans[key])))]
        file = f"radiology_ai/US/{name}/usn{number:06d}.png"
        rows[str(random.choice(list(rows), p=(0.75, 0.1, 0.15)))].append((file, name))
        yield File(file, encode(take_picture(organ, scan, case, random).image, "PNG"), 1)
    for part, listed in rows.items():
        yield File(f"RadiologyAI_{part}.csv", table([("filename", "label"), *listed]))


def buv(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """BUV: frames of videos in two folders, and the lists in COCO's form; some boxes were drawn from right to left.

    Six videos are those of the published errata, however few are asked for.
    """
    organ = ORGANS["breast"]
    scans = machines(organ.probe, settings.image_size, random)

    def video(label: str, frames: int) -> list[Picture]:
        case, scan = new_case(label, random), scans[int(random.integers(len(scans)))]
        return [take_picture(organ, scan, case, random, screen=False) for _ in range(frames)]

    copied, one_patient = video("malignant", 2), video("malignant", 5)
    videos: dict[str, list[Picture]] = dict.fromkeys(COPIED, copied)
    videos |= {place: one_patient[start : start + 2] for start, place in enumerate(ONE_PATIENT)}
    for label in shuffled(shares(max(2, settings.patients - len(videos)), VIDEOS), random):
        name = f"{label}/x{random.bytes(8).hex()}"
        videos[name] = video(label, int(random.integers(2, 4)))

    lists: dict[str, dict[str, list[dict[str, Any]]]] = {}
    written: dict[int, str] = {}  # picture: where it is first
    for number, (place, pictures) in enumerate(videos.items(), 1):
        part = "val" if number % 4 == 0 else "train_15frames"
        record = lists.setdefault(part, {"categories": [], "videos": [], "images": [], "annotations": []})
        record["categories"] = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
        record["videos"].append({"id": number, "name": place})
        for frame, picture in enumerate(pictures):
            file = f"{place}/{frame:06d}.png"
            x, y, width, height = box(picture.mask("mass"))
            if frame % 2:
                x, width = x + width, -width
            index = 1 + len(record["images"])
            record["images"].append(
                {
                    "id": index,
                    "file_name": file,
                    "video_id": number,
                    "frame_id": frame,
                    "width": picture.image.width,
                    "height": picture.image.height,
                    "is_vid_train_frame": part != "val",
                }
            )
            record["annotations"].append(
                {
                    "id": index,
                    "image_id": index,
                    "category_id": 1 if place.startswith("benign") else 2,
                    "bbox": [x, y, width, height],
                }
            )
            original = written.setdefault(id(picture), file)
            copy_of = None if original == file else ("exact", f"rawframes/{original}")
            yield File(f"rawframes/{file}", encode(picture.image, "PNG"), 1, copy_of)
    for part, record in lists.items():
        yield File(f"imagenet_vid_{part}.json", json.dumps(record).encode())


def ultrasoundcases(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """ultrasoundcases.info: a folder of JPEGs a case; one of them is a picture of another set, compressed again."""
    organ = ORGANS["breast"]
    scans = machines(organ.probe, settings.image_size, random)
    for number in range(1, settings.patients + 1):
        case, scan = new_case("", random), scans[int(random.integers(len(scans)))]
        for index in range(1, int(random.integers(1, 3)) + 1):
            picture = take_picture(organ, scan, case, random).image.convert("RGB")
            yield File(f"case {number}/{number}-{index}.jpg", encode(picture, "JPEG"), 1)
    picture = ALTERATIONS["quality 60"](shared_picture("breast", settings.image_size).image).convert("RGB")
    name = f"case {settings.patients + 1}/{settings.patients + 1}-1.jpg"
    yield File(name, encode(picture, "JPEG"), 1, ("quality 60", "shared/breast"))


def camus(settings: SimulateSettings, random: Random) -> Iterator[File]:
    """CAMUS: half a heart beat in two views of every patient, as (width, height, frames) in NIfTI, with masks (_gt)."""
    organ = ORGANS["heart"]
    scans = machines(organ.probe, settings.image_size, random)
    names = [f"patient{number:04d}" for number in range(1, settings.patients + 1)]
    for name in names:
        scan, case = scans[int(random.integers(len(scans)))], new_case("", random)
        for view in ("2CH", "4CH"):
            frames = int(random.integers(3, 6))
            pictures = [
                take_picture(organ, scan, replace(case, label=view, phase=phase), random, screen=False)
                for phase in np.linspace(0, 1, frames).tolist()
            ]
            images = np.stack([np.asarray(picture.image).T for picture in pictures], axis=-1)
            masks = np.stack([chambers(picture).T for picture in pictures], axis=-1)
            stem = f"database_nifti/{name}/{name}_{view}"
            for part, which in (("half_sequence", slice(None)), ("ED", 0), ("ES", -1)):
                counted = frames if part == "half_sequence" else 0
                yield File(f"{stem}_{part}.nii.gz", nifti(images[..., which], scan), counted)
                yield File(f"{stem}_{part}_gt.nii.gz", nifti(masks[..., which], scan))
            volume = [float((masks[..., which] == 1).sum()) for which in (0, -1)]
            ejected = round(100 * (1 - volume[1] / volume[0]))
            record = {"ED": 1, "ES": frames, "NbFrame": frames, "Sex": str(random.choice(["F", "M"]))}
            record |= {"Age": int(random.integers(30, 90)), "ImageQuality": "Good", "EF": ejected, "FrameRate": 45.0}
            content = lines([f"{key}: {value}" for key, value in record.items()])
            yield File(f"database_nifti/{name}/Info_{view}.cfg", content)
    ends = (0, max(1, round(0.8 * len(names))), max(2, round(0.9 * len(names))), len(names))
    for part, start, end in zip(("training", "validation", "testing"), ends[:-1], ends[1:], strict=True):
        yield File(f"database_split/subgroup_{part}.txt", lines(names[start:end]))


def chambers(picture: Picture) -> npt.NDArray[np.uint8]:
    """Labels of the masks: 1 left ventricle, 2 its muscle, 3 left atrium; (height, width)."""
    labels = np.zeros((picture.image.height, picture.image.width), np.uint8)
    for label, region in ((2, "muscle"), (3, "atrium"), (1, "ventricle")):
        labels[picture.mask(region)] = label
    return labels


def nifti(array: npt.NDArray[np.uint8], scan: Scan) -> bytes:
    """The file of a picture (width, height) or a sequence (width, height, frames), pixels in mm; always the same."""
    pixel = 10 / scan.pixels_per_cm
    affine = np.diag([pixel, pixel, 1, 1])
    image = nibabel.Nifti1Image(np.ascontiguousarray(array), affine)  # type: ignore[no-untyped-call]
    return gzip.compress(image.to_bytes(), mtime=0)
