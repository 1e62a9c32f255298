"""From a patient to a picture on a screen: which probe, which organ, what is written on it, and altered copies."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageEnhance, ImageFont
from scipy import ndimage

from urfm.simulation import abdomen, fetus, heart, pelvis, superficial
from urfm.simulation.anatomy import Case
from urfm.simulation.scanner import Machine, Random, Scan, Tissue, acquire

Painter = Callable[[Scan, Case, Random], Tissue]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Probe:
    """A kind of probe: from where to where its machines' settings vary."""

    curved: bool
    depth: tuple[float, float]  # cm
    width: tuple[float, float]  # cm of a linear probe; degrees of a curved one
    radius: tuple[float, float]  # cm, of a curved probe's surface
    focus: tuple[float, float]  # cm
    smoothing: tuple[float, float]
    lateral: tuple[float, float] = (0.8, 1.3)  # grid points


LINEAR = Probe(False, (3.2, 5.0), (3.3, 4.2), (4.5, 6.0), (1.5, 2.5), (0.4, 0.7))
NECK = Probe(False, (3.0, 4.2), (3.6, 4.4), (4.5, 6.0), (1.2, 2.0), (0.4, 0.7))
CURVED = Probe(True, (11, 16), (58, 76), (4.5, 6.0), (6, 10), (0.5, 0.9))
ZOOMED = Probe(True, (8.5, 11.5), (58, 76), (4.5, 6.0), (4, 7), (0.5, 0.9))
PELVIC = Probe(True, (10, 14), (60, 76), (4.5, 6.0), (6, 9), (0.5, 0.9))
VAGINAL = Probe(True, (6, 8.5), (95, 125), (0.9, 1.2), (3, 5), (0.5, 0.9))
PHASED = Probe(True, (14, 17), (72, 84), (0.5, 0.8), (7, 10), (0.5, 0.8))
ENDOSCOPIC = Probe(True, (3.5, 5.5), (280, 340), (0.5, 0.65), (1.8, 3), (0.4, 0.7), lateral=(0.35, 0.5))


@dataclass(frozen=True)
class Organ:
    """How an organ is painted and seen, and the words that stand on its pictures."""

    painter: Painter
    probe: Probe
    words: tuple[str, ...]


FETAL_WORDS = ("GA 21w3d", "FETUS", "Ob 2T", "GA 24w0d")
FETAL_PLANES = {
    "Other": Organ(fetus.fetal_other, CURVED, FETAL_WORDS),
    "Fetal abdomen": Organ(fetus.fetal_abdomen, CURVED, FETAL_WORDS),
    "Fetal brain": Organ(fetus.fetal_brain, CURVED, FETAL_WORDS),
    "Maternal cervix": Organ(fetus.maternal_cervix, CURVED, FETAL_WORDS),
    "Fetal femur": Organ(fetus.fetal_femur, CURVED, FETAL_WORDS),
    "Fetal thorax": Organ(fetus.fetal_thorax, CURVED, FETAL_WORDS),
}
ORGANS = {
    "thyroid": Organ(superficial.thyroid, NECK, ("THYROID RT", "THYROID LT", "TRANS", "12L")),
    "breast": Organ(superficial.breast, LINEAR, ("L BREAST", "R BREAST", "QSE", "UIQ", "12H")),
    "abdomen": Organ(abdomen.mixed, CURVED, ("ABD", "UPPER ABD", "SUBCOSTAL", "C5-1")),
    "kidney": Organ(abdomen.kidney, ZOOMED, ("RT KIDNEY", "LT KIDNEY", "SAG")),
    "liver": Organ(abdomen.liver, CURVED, ("LIVER", "RT LOBE", "LT LOBE", "SUBCOSTAL")),
    "gallbladder": Organ(abdomen.gallbladder, ZOOMED, ("GB", "GB SAG", "SUPINE")),
    "pancreas": Organ(abdomen.pancreas, CURVED, ("PANC", "MIDLINE", "TRANS")),
    "spleen": Organ(abdomen.spleen, CURVED, ("SPLEEN", "LUQ", "SAG")),
    "bile_duct": Organ(abdomen.bile_duct, CURVED, ("CBD", "PORTA HEPATIS")),
    "heart": Organ(heart.heart, PHASED, ("A4C", "HR 71", "M3")),
    "aorta": Organ(abdomen.aorta, CURVED, ("AORTA", "AO PROX", "AO MID")),
    "bladder": Organ(pelvis.bladder, PELVIC, ("BLADDER", "PREVOID", "TRANS")),
    "uterus": Organ(pelvis.uterus, PELVIC, ("UTERUS", "SAG", "ML")),
    "fetus": Organ(fetus.any_plane, CURVED, FETAL_WORDS),
    "ovary": Organ(pelvis.ovary, VAGINAL, ("RT OVARY", "LT OVARY", "TV")),
    "vein": Organ(abdomen.vein, CURVED, ("IVC", "MPV", "SAG")),
}
ENDOSCOPY = Organ(abdomen.endoscopic_pancreas, ENDOSCOPIC, ("PANC HEAD", "PANC BODY", "EUS"))

# How far gone a lesion looks: mean of a label's patients, 0 to 1, and their standard deviation. Means are four
# deviations apart: classes that a small network can learn from a hundred patients, and a few patients between them.
SEVERITY = {
    "benign": 0.2, "malignant": 0.82, "normal": 0.0, "mvi": 0.82, "non_mvi": 0.2, "cancer": 0.82, "non_cancer": 0.2,
    "fibroid": 0.82, "non_fibroid": 0.2,
}  # fmt: skip
SPREAD = 0.15


def new_case(label: str, random: Random) -> Case:
    """A patient with this label; without one (images for pre-training) a healthy person or a patient."""
    if not label:
        label = str(random.choice(["normal", "normal", "benign", "malignant"]))
    severity = float(random.normal(SEVERITY.get(label, 0.4), SPREAD))
    return Case(label, severity, int(random.integers(2**31)))


def machines(probe: Probe, image_size: tuple[int, int], random: Random, number: int = 6) -> list[Scan]:
    """A handful of scanners, as in a set collected over years; `image_size` bounds the longer side in pixels."""
    return [
        Scan(
            Machine(
                curved=probe.curved,
                depth=random.uniform(*probe.depth),
                width=random.uniform(*probe.width),
                radius=random.uniform(*probe.radius),
                focus=random.uniform(*probe.focus),
                axial=random.uniform(0.9, 1.4),
                lateral=random.uniform(*probe.lateral),
                looks=int(random.integers(1, 3)),
                dynamic_range=random.uniform(48, 64),
                gain=random.uniform(-4, 3),
                gamma=random.uniform(0.95, 1.35),
                noise=random.uniform(-48, -38),
                smoothing=random.uniform(*probe.smoothing),
                size=int(random.integers(image_size[0], image_size[1] + 1)),
            )
        )
        for _ in range(number)
    ]


@dataclass(frozen=True)
class Picture:
    """What the scanner shows (mode L) and the tissue behind it, whose regions can be outlined."""

    image: Image.Image
    tissue: Tissue

    def mask(self, region: str) -> npt.NDArray[np.bool_]:
        """A region's pixels, (height, width): the largest part that is seen."""
        inside = self.tissue.scan.to_picture((self.tissue.regions[region] < 0).astype(np.float32)) > 0.5
        parts, number = ndimage.label(inside)
        largest: npt.NDArray[np.bool_] = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if number else inside
        return largest

    def outline(self, region: str, points: int = 64) -> Points:
        """The region's mask as a polygon, (column, row) in pixels; [] if it is not in the picture.

        The corners are the farthest places that are seen from the middle: exact where the region has no bays.
        """
        mask = self.mask(region)
        if not mask.any():
            return []
        row, column = ndimage.center_of_mass(mask)
        turn = np.linspace(0, 2 * np.pi, points, endpoint=False)[:, None]
        away = np.arange(0, float(np.hypot(*mask.shape)), 0.5)[None, :]
        rows, columns = row + away * np.sin(turn), column + away * np.cos(turn)
        seen = ndimage.map_coordinates(mask.astype(np.float32), [rows, columns], order=0)
        end = np.argmin(seen, axis=1)[:, None]  # the first step outside
        corners = zip(np.take_along_axis(columns, end, 1)[:, 0], np.take_along_axis(rows, end, 1)[:, 0], strict=True)
        return [(float(x) + 0.5, float(y) + 0.5) for x, y in corners]


def take_picture(organ: Organ, scan: Scan, case: Case, random: Random, screen: bool = True) -> Picture:
    """One picture of the patient `case`, with what people leave on a screen unless there is none."""
    tissue = organ.painter(scan, case, random)
    grey = scan.to_picture(acquire(tissue, random))
    image = Image.fromarray(np.round(255 * grey).astype(np.uint8))
    if organ.probe is ENDOSCOPIC:
        image = endoscope_screen(image, organ.words, random)
    elif screen:
        annotate(image, scan, organ.words, random)
    return Picture(image, tissue)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def annotate(image: Image.Image, scan: Scan, words: tuple[str, ...], random: Random) -> None:
    """What people leave on the screen: depth ticks, now and then callipers and text; the same for every class."""
    draw = ImageDraw.Draw(image)
    width, height = image.size
    ink = int(random.integers(150, 256))
    if random.random() < 0.5:
        every = 1 if not scan.machine.curved else 2
        for centimetre in range(0, int(scan.machine.depth) + 1, every):
            row = scan.pixel(0, centimetre)[1]
            draw.line([(width - 4, row), (width - 1, row)], fill=ink)
    if random.random() < 0.3:
        column, row = random.uniform(0.3, 0.6) * width, random.uniform(0.3, 0.6) * height
        across, down = random.uniform(0.1, 0.3) * width, random.uniform(-0.1, 0.1) * height
        for x, y in ((column, row), (column + across, row + down)):
            draw.line([(x - 3, y), (x + 3, y)], fill=ink)
            draw.line([(x, y - 3), (x, y + 3)], fill=ink)
        for t in np.linspace(0.06, 0.94, 12).tolist():
            draw.point((column + t * across, row + t * down), fill=ink)
    if random.random() < 0.3:
        place = (random.uniform(0.03, 0.6) * width, random.uniform(0.82, 0.93) * height)
        draw.text(place, str(random.choice(words)), fill=ink, font=_font(max(8, height // 20)))


def endoscope_screen(image: Image.Image, words: tuple[str, ...], random: Random) -> Image.Image:
    """The round field in a wide black frame with text around it."""
    side = image.height
    screen = Image.new("L", (round(0.4 * side) + image.width, round(1.08 * side)))
    screen.paste(image, (round(0.36 * side), round(0.04 * side)))
    draw, font = ImageDraw.Draw(screen), _font(max(8, side // 20))
    lines = (
        f"{random.integers(1, 29):02d}/{random.integers(1, 13):02d}/2019",
        f"{random.integers(7, 22):02d}:{random.integers(0, 60):02d}:{random.integers(0, 60):02d}",
        f"F {random.choice([5.0, 6.0, 7.5, 10.0])}M",
        f"R {random.integers(3, 8)}cm",
        str(random.choice(words)),
    )
    for number, line in enumerate(lines):
        draw.text((0.03 * side, (0.06 + 0.08 * number) * side), line, fill=200, font=font)
    return screen


# Near duplicates: what happens to a picture that is copied from set to set.
ALTERATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda image: image.resize((round(0.75 * image.width), round(0.75 * image.height))),
    "quality 60": lambda image: decoded(encode(image, "JPEG", quality=60)),
    "cropped": lambda image: image.crop(
        (round(0.03 * image.width), round(0.03 * image.height), round(0.98 * image.width), round(0.97 * image.height))
    ),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
}


def encode(image: Image.Image, kind: str, **options: int) -> bytes:
    """The file of an image."""
    defaults = {"JPEG": {"quality": 92}, "PNG": {"compress_level": 3}}.get(kind, {})
    stream = io.BytesIO()
    image.save(stream, kind, **{**defaults, **options})
    return stream.getvalue()


def decoded(content: bytes) -> Image.Image:
    """The image in a file."""
    with Image.open(io.BytesIO(content)) as image:
        image.load()
    return image
