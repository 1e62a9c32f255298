"""Organs of the pelvis: bladder and uterus through a full bladder, the ovary from the vagina."""

from __future__ import annotations

import math

import numpy as np

from urfm.simulation.anatomy import Case, Shape, body_wall, bowel, fluid, gas, harmonics, tube
from urfm.simulation.scanner import Random, Scan, Tissue, field, soft


def bladder(scan: Scan, case: Case, random: Random) -> Tissue:
    """A full bladder with reverberation at its front, prostate or uterus behind; at times a mass or stone in it."""
    own = case.random()
    tissue, depth = bowel(scan, own, random), scan.machine.depth
    height = own.uniform(0.15, 0.22) * depth
    shape = Shape(
        random.normal(0, 0.3),
        own.uniform(0.38, 0.44) * depth,
        own.uniform(1.2, 1.8) * height,
        height,
        own.normal(0, 0.1),
        ((4, own.uniform(0.02, 0.07), np.pi), *harmonics(own, 0.02, range(2, 4))),
    )
    distance = shape.distance(tissue)
    tissue.regions["organ"] = distance
    if own.random() < 0.6:
        behind = Shape(own.uniform(-1, 1), shape.z + height + own.uniform(1.2, 1.8), own.uniform(1.8, 3.0), 1.6, 0.0)
        tissue.interface(behind.distance(tissue), 7, 0.1)
        tissue.paint(soft(behind.distance(tissue), 0.12), -3 + 2 * field(random, 34, 24))
    gas(tissue, own.choice([-1, 1]) * own.uniform(1, 4), shape.z + height + 3.6, own.uniform(1, 1.6))
    wall = own.uniform(0.12, 0.35)
    tissue.paint(soft(distance - wall, 0.08), -6 + 2 * field(random, 40, 20))
    fluid(tissue, distance, wall=10, thickness=0.1)
    front = np.exp(-np.clip(tissue.z - shape.z + height, 0, None) / 0.5)
    tissue.paint(soft(distance, 0.05) * front, -7 + 3 * field(random, 60, 3))
    if own.random() < 0.3:
        turn, size = own.uniform(0.5, 2.6), own.uniform(0.3, 0.9)
        place = shape.x + shape.width * math.cos(turn), shape.z + (height - 0.6 * size) * math.sin(turn)
        mass = Shape(*place, 1.2 * size, size, 0.0, harmonics(own, 0.07, range(2, 8))).distance(tissue)
        tissue.regions["mass"] = mass
        stone = own.random() < 0.3
        tissue.paint(soft(mass, 0.06), 14 if stone else -5 + 2 * field(random, 40, 28), 8 if stone else 0.1)
    body_wall(tissue, own, own.uniform(1.2, 2.2))
    return tissue


def uterus(scan: Scan, case: Case, random: Random) -> Tissue:
    """A uterus along its length behind the bladder, its endometrium a stripe; fibroids are dark, whorled and attenuate.

    A small or pale fibroid and an uneven myometrium look alike: severity is the fibroids' size and contrast.
    """
    own = case.random()
    tissue, depth = bowel(scan, own, random), scan.machine.depth
    turn = own.uniform(-0.4, 0.4)
    cosine, sine = math.cos(turn), math.sin(turn)
    long, high = own.uniform(3.8, 4.8), own.uniform(1.9, 2.5)
    x, z = own.uniform(-0.5, 0.5) + random.normal(0, 0.2), own.uniform(0.5, 0.56) * depth
    corpus = Shape(x, z, long, high, turn, harmonics(own, 0.02, range(2, 5)))
    side = own.choice([-1, 1])  # where the cervix is
    cervix = Shape(x + side * 1.05 * long * cosine, z + side * 1.05 * long * sine, 1.7, 1.1, turn)
    womb = np.minimum(corpus.distance(tissue), cervix.distance(tissue))

    severity = float(np.clip(case.severity, 0, 1))
    masses = []
    for _ in range(1 + int(own.poisson(1.2 * severity))):
        size, reach, angle = (
            (0.2 + 1.8 * severity) * own.uniform(0.7, 1.2),
            own.uniform(0.3, 1.0),
            own.uniform(0, 6.28),
        )
        u, v = reach * 0.8 * long * math.cos(angle), reach * high * math.sin(angle)
        masses.append(
            Shape(
                x + cosine * u - sine * v,
                z + sine * u + cosine * v,
                size * own.uniform(0.95, 1.15),
                size,
                0.0,
                harmonics(own, 0.03, range(2, 6)),
            )
        )
    distances = [mass.distance(tissue) for mass in masses]
    outline = np.minimum.reduce([womb, *distances])
    tissue.interface(outline - 0.05, 10, 0.12)
    adenomyosis = own.uniform(0, 2.5)
    tissue.paint(
        soft(outline, 0.1), own.uniform(-8, -5) + 1.5 * field(random, 34, 20) + adenomyosis * field(random, 26, 14)
    )
    away, along = tube(tissue, x, z, turn, own.normal(0, 0.01))
    stripe = own.uniform(0.12, 0.45) * np.clip(1 - np.square(along / long), 0.15, None)
    cavity = soft(np.abs(along) - 0.8 * long, 0.3)
    tissue.paint(0.8 * soft(away - stripe - 0.15, 0.08) * cavity, -8)
    tissue.paint(soft(away - stripe, 0.08) * cavity, own.uniform(5, 9) + 2 * field(random, 34, 24))
    for distance in distances:
        whorls = 2.5 * np.sin(distance / 0.09 + 2 * field(random, 12, 10))
        tissue.paint(soft(distance, 0.08), -5 - 13 * severity * own.uniform(0.7, 1.1) + whorls, 0.9 * severity)
        if severity > 0.4 and own.random() < 0.3:  # calcified rim
            tissue.interface(distance, 14, 0.08, loss=1.5)
        tissue.interface(distance - 0.03, 6 * severity - 3, 0.06)
    tissue.regions |= {"organ": outline, "mass": distances[0]}
    full = Shape(
        x - side * 0.5, z - high - own.uniform(1.0, 1.4), own.uniform(2.2, 3.2), own.uniform(0.6, 1.1), 0.5 * turn
    )
    fluid(tissue, np.maximum(full.distance(tissue), 0.15 - outline), wall=8, thickness=0.1)
    gas(tissue, x - side * own.uniform(3, 4.5), z + own.uniform(0.5, 2), own.uniform(0.8, 1.4))
    body_wall(tissue, own, own.uniform(1.0, 1.8))
    return tissue


def ovary(scan: Scan, case: Case, random: Random) -> Tissue:
    """A normal ovary with follicles, or the tumour the label names (the eight classes of MMOTU)."""
    own = case.random()
    tissue, depth = Tissue(scan, 0.12, random), scan.machine.depth
    tissue.paint(np.ones_like(scan.s), -3 + 3 * field(random, 30, 16) + 2.5 * field(random, 11, 8), 0.25)
    for _ in range(own.integers(1, 4)):
        gas(tissue, own.uniform(-0.5, 0.5) * depth, own.uniform(0.75, 0.95) * depth, own.uniform(0.4, 0.9))
    x, z = random.normal(0, 0.04) * depth, own.uniform(0.44, 0.52) * depth
    large = {"normal_ovary": 0.2, "simple_cyst": 0.18}.get(case.label, 0.25) * depth * own.uniform(0.8, 1.15)
    irregular = 0.06 if case.label == "serous_carcinoma" else 0.02
    shape = Shape(
        x,
        z,
        large * own.uniform(1.05, 1.3),
        0.85 * large,
        own.uniform(-0.5, 0.5),
        harmonics(own, irregular, range(2, 7)),
    )
    distance = shape.distance(tissue)
    tissue.regions["mass"] = distance

    def inside(size: float, reach: float = 0.7) -> Shape:
        """A blob of about `size` of the tumour's radius somewhere inside."""
        turn, away = own.uniform(0, 2 * np.pi), reach * math.sqrt(own.random())
        return Shape(
            x + away * shape.width * math.cos(turn),
            z + away * shape.height * math.sin(turn),
            size * large * own.uniform(0.8, 1.3),
            size * large * own.uniform(0.7, 1.1),
            own.uniform(0, 3.1),
            harmonics(own, 0.06, range(2, 6)),
        )

    def on_wall(size: float) -> Shape:
        """A blob that sits on the tumour's wall."""
        turn = own.uniform(0, 2 * np.pi)
        u, v = 0.9 * shape.width * math.cos(turn), 0.9 * shape.height * math.sin(turn)
        cosine, sine = math.cos(shape.turn), math.sin(shape.turn)
        place = x + cosine * u - sine * v, z + sine * u + cosine * v
        return Shape(*place, size * large * 1.2, size * large, own.uniform(0, 3.1), harmonics(own, 0.1, range(3, 9)))

    def septa(width: float) -> None:
        """Bright walls between locules of unlike echo: the lines where neighbouring cells of a random field meet."""
        cells = field(random, 17, 12)
        lines = np.exp(-np.square(cells / width))
        locules = np.where(cells > 0, own.uniform(-38, -16), -34) + 2 * field(random, 34, 24)
        tissue.paint(soft(distance, 0.06), locules, -0.25)
        tissue.paint(soft(distance, 0.06) * lines, 3)

    match case.label:
        case "chocolate_cyst":  # old blood: an even haze behind a thick wall
            tissue.paint(soft(distance - 0.12, 0.08), 1)
            fluid(tissue, distance, 6, 0.1, echo=0)
            tissue.paint(soft(distance, 0.07), own.uniform(-20, -9) + field(random, 50, 36), -0.25)
        case "serous_cystadenoma":  # one clear chamber, perhaps one thin septum
            fluid(tissue, distance, 7, 0.06)
            if own.random() < 0.6:
                away, _ = tube(tissue, x, z, own.uniform(0, 3.1), own.normal(0, 0.2))
                tissue.paint(soft(away - 0.03, 0.04) * soft(distance, 0.05), 0)
            if own.random() < 0.3:
                tissue.paint(soft(on_wall(0.12).distance(tissue), 0.05), -2)
        case "teratoma":  # fat, hair and a bright plug that shadows
            tissue.paint(soft(distance, 0.06), own.uniform(-18, -4) + 3 * field(random, 26, 20), 0.2)
            hair = np.clip(field(random, 80, 10) - 0.8, 0, None)
            tissue.paint(soft(distance, 0.05), tissue.echo + 9 * hair, 0.2)
            plug = inside(own.uniform(0.3, 0.55), 0.5).distance(tissue)
            tissue.paint(soft(plug, 0.08) * soft(distance, 0.06), 12 + 3 * field(random, 40, 30), 2.5)
            tissue.interface(distance, 6, 0.08)
        case "theca_cell_tumor":  # solid, even, swallows sound
            tissue.paint(
                soft(distance, 0.06), own.uniform(-13, -8) + 1.5 * field(random, 30, 22), own.uniform(0.8, 2.0)
            )
            tissue.interface(distance, 6, 0.07)
        case "simple_cyst":  # clear, thin wall, in what is left of the ovary
            tissue.paint(soft(distance - 0.25, 0.1), -6 + 2 * field(random, 40, 28))
            fluid(tissue, distance, 6, 0.05)
        case "mucinous_cystadenoma":
            septa(own.uniform(0.1, 0.2))
            tissue.interface(distance, 7, 0.07)
        case "serous_carcinoma":  # cystic and solid, papillae, thick septa, free fluid around
            if own.random() < 0.6:
                free = Shape(x, z + 0.9 * large, 2.2 * large, 0.6 * large, 0.0, harmonics(own, 0.08, range(2, 6)))
                tissue.paint(soft(np.maximum(free.distance(tissue), 0.05 - distance), 0.1), -30, -0.2)
            septa(own.uniform(0.25, 0.45))
            for _ in range(own.integers(3, 7)):
                blob = inside(own.uniform(0.2, 0.42)) if own.random() < 0.5 else on_wall(own.uniform(0.2, 0.4))
                papilla = np.maximum(blob.distance(tissue), distance)
                tissue.paint(soft(papilla, 0.08), own.uniform(-6, 2) + 3 * field(random, 40, 28), 0.3)
            tissue.interface(distance, 6, 0.1)
        case _:  # normal: stroma with follicles
            tissue.paint(soft(distance, 0.08), -7 + 2 * field(random, 44, 30))
            for _ in range(own.integers(4, 10)):
                follicle = inside(own.uniform(0.14, 0.32), 0.7).distance(tissue)
                fluid(tissue, np.maximum(follicle, distance + 0.05), 4, 0.04, echo=-32)
            tissue.interface(distance, 5, 0.07)
    s = scan.s
    tissue.paint(soft(s - 0.05 * depth, 0.06), 1 + 5 * field(random, 30, 4))  # the vaginal wall
    tissue.interface(s - 0.05 * depth, 6, 0.05)
    return tissue
