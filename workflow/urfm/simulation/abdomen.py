"""Organs of the abdomen, seen with a curved probe through the body wall, and the pancreas seen from the stomach."""

from __future__ import annotations

import math

import numpy as np

from urfm.simulation.anatomy import (
    Case,
    Shape,
    body_wall,
    bowel,
    fluid,
    gas,
    harmonics,
    tube,
    vertebra,
    vessel,
)
from urfm.simulation.scanner import Random, Scan, Tissue, curve, field, soft


def parenchyma(scan: Scan, own: Random, random: Random, vessels: tuple[int, int] = (3, 7)) -> Tissue:
    """Liver from edge to edge with small portal branches and some larger vessels."""
    tissue, depth, s = Tissue(scan, 0.35, random), scan.machine.depth, scan.s
    fatty = own.uniform(0, 1)
    triads = 4.5 * np.clip(field(random, 44, 30) - 1.3, 0, None)  # small portal branches: bright dashes
    tissue.paint(np.ones_like(s), 2 * fatty + 1.5 * field(random, 20, 14) + triads, 0.1 * fatty)
    for _ in range(own.integers(*vessels)):
        away, along = tube(
            tissue, own.uniform(-4, 4), own.uniform(0.3, 0.7) * depth, own.uniform(-1.2, 1.2), own.normal(0, 0.06)
        )
        bore = np.clip(own.uniform(0.1, 0.34) * (1 - 0.14 * along), 0.03, 0.6)
        reach = soft(np.abs(along) - own.uniform(0.5, 2.6), 0.4)
        if own.random() < 0.5:  # portal branches have bright walls, hepatic veins none
            tissue.paint(soft(np.abs(away - bore - 0.08) - 0.07, 0.06) * reach, 9)
        tissue.paint(soft(away - bore, 0.06) * reach, -26, -0.2)
    return tissue


def diaphragm(tissue: Tissue, own: Random, random: Random) -> None:
    """The dome behind liver or spleen: a bright line, and the lung's haze beyond it."""
    depth = tissue.scan.machine.depth
    aside = own.choice([-1, 1]) * own.uniform(0.1, 0.35) * depth
    dome = Shape(aside, 0.25 * depth, 0.62 * depth, own.uniform(0.55, 0.68) * depth, own.normal(0, 0.25))
    beyond = dome.distance(tissue)
    tissue.paint(soft(-beyond, 0.12), -7 + 4 * field(random, 14, 10), 0.5)
    tissue.interface(beyond, 13 + 5 * curve(random, 6), 0.12)
    tissue.regions["organ"] = beyond


def rib_shadow(tissue: Tissue, own: Random) -> None:
    """A rib's shadow from the edge."""
    scan = tissue.scan
    across = np.abs(scan.x / (scan.z + scan.machine.radius) - own.choice([-1, 1]) * own.uniform(0.25, 0.55))
    rib = soft(across - own.uniform(0.03, 0.1), 0.03) * soft(np.abs(scan.s - 1.4) - 0.4, 0.1)
    tissue.loss = tissue.loss + 9 * rib


def liver(scan: Scan, case: Case, random: Random) -> Tissue:
    """Parenchyma with veins, diaphragm, now and then kidney or gallbladder, and none, one or several masses."""
    own = case.random()
    tissue, depth = parenchyma(scan, own, random), scan.machine.depth
    if own.random() < 0.35:
        gallbladder = Shape(own.uniform(-4, 4), own.uniform(0.4, 0.55) * depth, 1.9, 0.8, own.uniform(-0.8, 0.8))
        distance = gallbladder.distance(tissue)
        tissue.interface(distance - 0.08, 8, 0.1)
        tissue.paint(soft(distance, 0.06), -40, -0.5)
    if own.random() < 0.4:
        side = own.choice([-1, 1])
        kidney = Shape(
            side * own.uniform(2.5, 4.5), own.uniform(0.62, 0.75) * depth, 3.4, 1.7, side * own.uniform(0, 0.7)
        )
        distance = kidney.distance(tissue)
        tissue.paint(soft(distance, 0.12), -6 + field(random, 20, 16))
        tissue.paint(soft(distance + 0.8, 0.35), 7 + 4 * field(random, 36, 24))
        tissue.interface(distance - 0.05, 12, 0.1)
    if case.label in ("mvi", "non_mvi"):
        carcinoma(tissue, case, own, random)
    elif case.label != "normal":
        liver_masses(tissue, case, own, random)
    diaphragm(tissue, own, random)
    wall = own.uniform(1.2, 2.3)
    tissue.regions["organ"] = np.maximum(tissue.regions["organ"], wall - scan.s)
    body_wall(tissue, own, wall)
    if own.random() < 0.4:
        rib_shadow(tissue, own)
    return tissue


def liver_masses(tissue: Tissue, case: Case, own: Random, random: Random) -> None:
    """A cyst, a haemangioma or a solid mass; several where malignant."""
    severity, depth = case.severity, tissue.scan.machine.depth
    for number in range(1 + int(severity > 0.6) * int(own.integers(0, 3))):
        size = (own.uniform(1.8, 2.6) + 1.4 * max(severity, 0)) * (1 if number == 0 else 0.6)
        shape = Shape(
            x=own.uniform(-0.22, 0.22) * depth + random.normal(0, 0.2),
            z=own.uniform(0.34, 0.62) * depth,
            width=size * own.uniform(0.9, 1.3),
            height=size * own.uniform(0.7, 1.0),
            turn=own.uniform(-0.6, 0.6),
            harmonics=harmonics(own, 0.03 + 0.05 * max(severity, 0), range(2, 8)),
        )
        distance = shape.distance(tissue)
        tissue.regions.setdefault("mass", distance)  # the first is the largest
        kind = own.random()
        if severity < 0.5 and kind < 0.2:  # cyst
            tissue.interface(distance - 0.03, 6, 0.07)
            tissue.paint(soft(distance, 0.05), -40, -0.6)
        elif severity < 0.5 and kind < 0.95:  # haemangioma
            tissue.paint(soft(distance, 0.12), 13 + 2 * field(random, 26, 20), -0.1)
        else:  # mass, with a dark rim and mixed inside the worse it is
            edge = 0.1 + 0.15 * max(severity, 0)
            mixed = own.uniform(-15, -8) + (1.5 + 3 * max(severity, 0)) * field(random, 16, 12)
            tissue.paint(soft(distance, edge), mixed, 0.25 * severity)
            tissue.paint(0.8 * np.clip(severity, 0, 1) * soft(np.abs(distance) - 0.1, 0.12), -9)


def carcinoma(tissue: Tissue, case: Case, own: Random, random: Random) -> None:
    """A hepatocellular carcinoma; microvascular invasion buds its margin, opens its capsule and sends satellites."""
    invasion, depth = float(np.clip(case.severity, 0, 1)), tissue.scan.machine.depth
    size = own.uniform(1.4, 2.0) + 2.0 * invasion
    shape = Shape(
        x=own.uniform(-0.2, 0.2) * depth + random.normal(0, 0.2),
        z=own.uniform(0.38, 0.58) * depth,
        width=size * own.uniform(0.9, 1.2),
        height=size * own.uniform(0.8, 1.0),
        turn=own.uniform(-0.6, 0.6),
        harmonics=harmonics(own, 0.015 + 0.08 * invasion, range(3, 9)),
    )
    distance = shape.distance(tissue)
    tissue.regions["mass"] = distance
    mosaic = own.uniform(4, 8) - 20 * invasion + 3 * field(random, 18, 14) + 1.5 * field(random, 34, 26)
    tissue.paint(soft(distance, 0.08 + 0.15 * invasion), mosaic, 0.15)
    gaps = soft(field(random, 12, 10) + 1.6 - 3.2 * invasion, 0.4)  # where the capsule is missing
    tissue.paint(0.9 * (1 - gaps) * soft(np.abs(distance) - 0.1, 0.06), -14)
    for _ in range(own.poisson(3 * invasion)):
        turn, away = own.uniform(0, 2 * np.pi), 1.35 * size + own.uniform(0.1, 0.6)
        satellite = Shape(
            shape.x + away * math.cos(turn), shape.z + away * math.sin(turn), own.uniform(0.3, 0.7), 0.45, turn
        )
        tissue.paint(soft(satellite.distance(tissue), 0.1), -10)


def gallbladder(scan: Scan, case: Case, random: Random) -> Tissue:
    """A pear full of bile below the liver, with polyps on its wall, or stones, or nothing in it."""
    own = case.random()
    tissue, depth = parenchyma(scan, own, random, (1, 4)), scan.machine.depth
    length, height = own.uniform(2.4, 3.5), own.uniform(1.0, 1.5)
    body = Shape(
        own.uniform(-1, 1) + random.normal(0, 0.2),
        own.uniform(0.42, 0.52) * depth,
        length,
        height,
        own.uniform(-0.6, 0.6),
        harmonics(own, 0.02, range(2, 5)),
    )
    cosine, sine = math.cos(body.turn), math.sin(body.turn)
    below = tissue.z - body.z - sine / cosine * (tissue.x - body.x) - 0.9 * height
    tissue.paint(soft(-below, 0.3), -5 + 3.5 * field(random, 22, 14), 0.2)  # duodenum and colon
    if own.random() < 0.6:
        gas(tissue, body.x + own.uniform(-3, 3), body.z + height + own.uniform(1, 2.2), own.uniform(0.7, 1.4))
    neck = Shape(
        body.x - 0.95 * length * cosine, body.z - 0.95 * length * sine, 0.3 * length, 0.35 * height, body.turn + 0.3
    )
    lumen = np.minimum(body.distance(tissue), neck.distance(tissue))
    tissue.regions["organ"] = lumen
    thick = 0.06 + 0.7 * max(case.severity - 0.4, 0) * own.uniform(0.5, 1)
    tissue.paint(soft(lumen - thick, 0.05), 1)
    fluid(tissue, lumen, wall=8, thickness=0.08)

    def wall(turn: float, inwards: float) -> tuple[float, float]:
        """The place `inwards` cm from the wall, at an angle seen from the middle."""
        u, v = (length - inwards) * math.cos(turn), (height - inwards) * math.sin(turn)
        return body.x + cosine * u - sine * v, body.z + sine * u + cosine * v

    if case.label == "normal":
        if own.random() < 0.35:
            for _ in range(own.integers(1, 5)):  # stones lie at the back
                stone = Shape(*wall(own.uniform(0.9, 2.2), 0.25), own.uniform(0.15, 0.4), 0.22, 0.0).distance(tissue)
                tissue.paint(soft(stone, 0.05), 14, 9)
    else:
        grade = case.severity
        for number in range(1 + int(grade < 0.5) * int(own.integers(0, 3))):
            size = float(np.clip(0.1 + 1.7 * grade + own.normal(0, 0.1), 0.18, 1.8)) * (1 if number == 0 else 0.7)
            polyp = Shape(
                *wall(own.uniform(0.2, 2 * np.pi - 0.2), (0.8 - 0.5 * max(grade, 0)) * size),
                size * (1 + 0.4 * max(grade, 0)),
                size,
                own.uniform(0, 3.1),
                harmonics(own, 0.02 + 0.08 * max(grade, 0), range(2, 8)),
            ).distance(tissue)
            tissue.regions.setdefault("mass", polyp)
            echo = own.uniform(6, 10) - 6 * max(grade, 0) + (1 + 2 * max(grade, 0)) * field(random, 40, 30)
            tissue.paint(soft(polyp, 0.05), echo, 0.2)
    body_wall(tissue, own, own.uniform(1.2, 2.2))
    if own.random() < 0.25:
        rib_shadow(tissue, own)
    return tissue


def renal(tissue: Tissue, shape: Shape, own: Random, random: Random) -> None:
    """A kidney along its length: capsule, dark cortex, darker pyramids, bright sinus."""
    distance = shape.distance(tissue)
    width, height = shape.width, shape.height
    cosine, sine = math.cos(shape.turn), math.sin(shape.turn)
    tissue.paint(soft(distance - 0.35, 0.15), 4 + 3 * field(random, 26, 18))  # fat around it
    tissue.interface(distance - 0.03, 11, 0.08)
    tissue.paint(soft(distance, 0.08), own.uniform(-8, -4) + 1.2 * field(random, 34, 26))
    pyramids = int(own.integers(7, 11))
    for number in range(pyramids):
        turn = 2 * np.pi * number / pyramids + own.normal(0, 0.1)
        u, v = 0.68 * width * math.cos(turn), 0.64 * height * math.sin(turn)
        place = shape.x + cosine * u - sine * v, shape.z + sine * u + cosine * v
        pyramid = Shape(*place, 0.19 * height, 0.24 * height, shape.turn + turn).distance(tissue)
        tissue.paint(soft(pyramid, 0.1), -14)
    sinus = Shape(shape.x, shape.z, 0.62 * width, 0.4 * height, shape.turn, harmonics(own, 0.1, range(2, 9)))
    tissue.paint(soft(sinus.distance(tissue), 0.18), 6 + 4 * field(random, 36, 24), 0.1)
    tissue.regions["organ"] = distance


def kidney(scan: Scan, case: Case, random: Random) -> Tissue:
    """A kidney along its length below liver or spleen, with or without a tumour on its cortex."""
    own = case.random()
    tissue, depth = parenchyma(scan, own, random, (0, 3)), scan.machine.depth
    shape = Shape(
        own.uniform(-0.8, 0.8) + random.normal(0, 0.2),
        own.uniform(0.44, 0.54) * depth,
        own.uniform(4.2, 5.2),
        own.uniform(2.0, 2.5),
        own.uniform(-0.35, 0.35),
        harmonics(own, 0.015, range(2, 5)),
    )
    muscle = shape.z + 0.4 * shape.height - tissue.z
    tissue.paint(soft(muscle, 0.5), -7 + 4 * field(random, 40, 5), 0.25)  # psoas and the muscles of the back
    renal(tissue, shape, own, random)
    if case.label != "normal":
        grade = case.severity
        size = float(np.clip(0.9 + 2.2 * grade + own.normal(0, 0.25), 0.6, 3.2))
        turn, out = own.uniform(-0.3, np.pi + 0.3) * own.choice([-1, 1]), own.uniform(0.75, 1.1)
        u, v = out * shape.width * math.cos(turn), out * shape.height * math.sin(turn)
        cosine, sine = math.cos(shape.turn), math.sin(shape.turn)
        distance = Shape(
            shape.x + 0.85 * (cosine * u - sine * v),
            shape.z + 0.85 * (sine * u + cosine * v),
            size,
            size * own.uniform(0.8, 1.0),
            own.uniform(0, 3.1),
            harmonics(own, 0.02 + 0.05 * max(grade, 0), range(2, 7)),
        ).distance(tissue)
        tissue.regions["mass"] = distance
        if grade < 0.5:  # angiomyolipoma: fat, bright
            tissue.paint(soft(distance, 0.08), own.uniform(8, 12) + 2 * field(random, 30, 22), 0.3)
        else:  # oncocytoma or carcinoma: the worse, the more mixed, with necrosis and a rim
            mixed = own.uniform(-2, 2) - 14 * grade + (1 + 2.5 * max(grade, 0)) * field(random, 20, 16)
            tissue.paint(soft(distance, 0.08), mixed, 0.1)
            tissue.paint(soft(1.9 - 0.9 * grade - field(random, 16, 12), 0.1) * soft(distance + 0.3, 0.1), -26)
            tissue.paint(0.8 * soft(np.abs(distance) - 0.08, 0.06), -15)
            tissue.interface(distance - 0.1, 8, 0.07)
    body_wall(tissue, own, own.uniform(1.2, 2.2))
    if own.random() < 0.4:
        rib_shadow(tissue, own)
    return tissue


def spleen(scan: Scan, case: Case, random: Random) -> Tissue:
    """An even crescent under the ribs with vessels at its hilum, diaphragm, and often the left kidney."""
    own = case.random()
    tissue, depth = bowel(scan, own, random), scan.machine.depth
    side = own.choice([-1, 1])
    outer = Shape(
        side * own.uniform(0.2, 1.2), own.uniform(0.34, 0.4) * depth, own.uniform(4.5, 6), 0.24 * depth, side * 0.25
    )
    inner = Shape(
        outer.x + side * own.uniform(1.0, 2.0), outer.z + own.uniform(0.24, 0.3) * depth, 3.2, 0.15 * depth, side * 0.3
    )
    hilum = inner.distance(tissue)
    distance = np.maximum(outer.distance(tissue), 0.3 - hilum)
    if own.random() < 0.6:
        renal(tissue, Shape(inner.x + side, inner.z + 0.8, 3.0, 1.5, inner.turn), own, random)
    diaphragm(tissue, own, random)
    tissue.interface(distance - 0.05, 10, 0.1)
    tissue.paint(soft(distance, 0.1), own.uniform(0, 3) + 1.2 * field(random, 54, 40), 0.05)
    for _ in range(own.integers(2, 4)):
        place = inner.x + own.uniform(-1.2, 1.2), inner.z - 0.15 * depth + own.uniform(-0.5, 0.2)
        vessel(tissue, place, own.uniform(0.6, 2.4), 0, own.uniform(0.1, 0.2), own.uniform(0.5, 1.0), wall=7)
    tissue.regions["organ"] = distance
    body_wall(tissue, own, own.uniform(1.0, 1.8))
    rib_shadow(tissue, own)
    return tissue


def bile_duct(scan: Scan, case: Case, random: Random) -> Tissue:
    """The common bile duct in front of the portal vein, the hepatic artery between; wide or with a stone at times."""
    own = case.random()
    tissue, depth = parenchyma(scan, own, random, (1, 4)), scan.machine.depth
    x, z = own.uniform(-0.8, 0.8) + random.normal(0, 0.2), own.uniform(0.45, 0.55) * depth
    turn, bend = own.uniform(0.15, 0.6) * own.choice([-1, 1]), own.normal(0, 0.02)
    below = tissue.z - z - math.tan(turn) * (tissue.x - x) - 1.5
    tissue.paint(soft(-below, 0.4), -4 + 3.5 * field(random, 22, 14), 0.2)
    vessel(tissue, (x, z), turn, bend, own.uniform(0.45, 0.65), 4.5, wall=9)
    wide = own.choice([own.uniform(0.15, 0.28), own.uniform(0.35, 0.6)])
    up = 0.75 + wide + own.uniform(0, 0.15)
    duct = (x + up * math.sin(turn), z - up * math.cos(turn))
    vessel(tissue, duct, turn + own.normal(0, 0.06), bend, wide, own.uniform(2.8, 4), wall=8)
    artery = Shape(x + 0.62 * math.sin(turn) + own.uniform(-1, 1), z - 0.62 * math.cos(turn), 0.16, 0.16, 0.0)
    fluid(tissue, artery.distance(tissue), wall=9, thickness=0.06, echo=-30)
    if wide > 0.3 and own.random() < 0.5:
        stone = Shape(duct[0] + 1.2 * math.cos(turn), duct[1] + 1.2 * math.sin(turn), 0.8 * wide, 0.6 * wide, turn)
        tissue.paint(soft(stone.distance(tissue), 0.05), 15, 8)
    gas(tissue, x + own.choice([-1, 1]) * own.uniform(2, 4), z + own.uniform(2.5, 3.5), own.uniform(0.6, 1.4))
    body_wall(tissue, own, own.uniform(1.2, 2.2))
    return tissue


def pancreas(scan: Scan, case: Case, random: Random) -> Tissue:
    """Cut across the upper abdomen: left lobe of the liver, pancreas over the splenic vein, great vessels, spine."""
    own = case.random()
    tissue, depth = bowel(scan, own, random), scan.machine.depth
    middle = own.uniform(0.36, 0.42) * depth
    edge = middle - 1.3 + 0.03 * np.square(tissue.x + 1.5) - tissue.z
    tissue.paint(soft(-edge, 0.15), own.uniform(-1, 1) + 1.3 * field(random, 44, 30))
    tissue.interface(edge, 7, 0.08)
    bend = own.uniform(0.02, 0.06)
    away, along = tube(tissue, random.normal(0, 0.2), middle, own.normal(0, 0.12), bend)
    thick = own.uniform(0.65, 0.95) + 0.25 * np.exp(-np.square((along + 3) / 1.4)) + 0.05 * curve(own, 9)
    gland = np.hypot(np.clip(np.abs(along) - 4, 0, None), away) - thick
    tissue.paint(soft(gland, 0.12), own.uniform(2, 6) + 2.5 * field(random, 44, 30))
    tissue.regions["organ"] = gland
    if own.random() < 0.4:  # its duct
        tissue.paint(soft(away - 0.07, 0.05) * soft(np.abs(along) - 3, 0.3), -20)
    if case.label not in ("normal", "non_cancer"):
        size = float(np.clip(0.6 + 0.8 * case.severity, 0.5, 1.6))
        mass = Shape(own.uniform(-3, 3), middle, 1.2 * size, size, 0.0, harmonics(own, 0.06, range(2, 7)))
        tissue.regions["mass"] = mass.distance(tissue)
        tissue.paint(soft(tissue.regions["mass"], 0.15), -9 + 2 * field(random, 26, 18), 0.2)
    vessel(tissue, (0, middle + thick.mean() + 0.5), 0.0, bend, own.uniform(0.25, 0.38), own.uniform(3, 4.5), wall=4)
    side = own.uniform(0.4, 0.9)
    for x, z, radius, wall in ((side, 2.1, 0.28, 14), (side, 3.6, 0.85, 9), (-1.6, 3.4, 0.95, 4)):  # SMA, aorta, cava
        shape = Shape(x, middle + z, radius * 1.1, radius, 0.0, harmonics(own, 0.03, range(2, 4)))
        fluid(tissue, shape.distance(tissue), wall=wall, thickness=0.12, echo=-32)
    vertebra(tissue, -0.3, middle + 4.6, 2.2)
    if own.random() < 0.4:
        gas(tissue, own.choice([-1, 1]) * own.uniform(2.5, 4.5), middle - 0.8, own.uniform(0.8, 1.4))
    body_wall(tissue, own, own.uniform(1.0, 1.8))
    return tissue


def aorta(scan: Scan, case: Case, random: Random) -> Tissue:
    """The aorta in front of the spine, along or across; an aneurysm at times."""
    own = case.random()
    tissue, depth = bowel(scan, own, random), scan.machine.depth
    z, radius = own.uniform(0.45, 0.55) * depth, own.uniform(0.75, 1.0)
    wide = own.uniform(0.6, 1.6) if own.random() < 0.3 else 0.0
    if own.random() < 0.5:  # along: the spine is a row of arcs
        away, along = tube(tissue, random.normal(0, 0.3), z, own.normal(0, 0.08), own.normal(0, 0.008))
        for place in np.arange(-9, 10, 3.2) + own.uniform(-1.5, 1.5):
            vertebra(tissue, float(place), z + radius + 0.6 + 0.5 * wide, 1.0)
        bore = radius + wide * np.exp(-0.5 * np.square(along / 1.8))
        distance = away - bore
    else:
        vertebra(tissue, own.uniform(-0.8, 0.8), z + radius + 0.4 + 0.7 * wide, 2.0)
        cava = Shape(-1.2 - radius - wide, z + 0.3, 1.0, own.uniform(0.45, 0.9), 0.0)
        fluid(tissue, cava.distance(tissue), wall=4, thickness=0.08, echo=-32)
        size = radius + wide
        distance = Shape(0.0, z, size * 1.05, size, 0.0, harmonics(own, 0.03, range(2, 4))).distance(tissue)
    fluid(tissue, distance, wall=12, thickness=0.13, echo=-33)
    if wide:  # a mural thrombus
        lining = np.maximum(distance, -distance - own.uniform(0.2, 0.7) * np.clip(1 + 0.6 * curve(own, 5), 0, None))
        tissue.paint(soft(lining, 0.08), -9 + 2 * field(random, 30, 20))
    tissue.regions["organ"] = distance
    if own.random() < 0.5:
        gas(tissue, own.choice([-1, 1]) * own.uniform(2.5, 4), 0.3 * depth, own.uniform(0.8, 1.5))
    body_wall(tissue, own, own.uniform(1.0, 2.0))
    return tissue


def vein(scan: Scan, case: Case, random: Random) -> Tissue:
    """Behind or in the liver: the vena cava with a hepatic vein (label ivc), or the portal vein where it divides."""
    own = case.random()
    tissue, depth = parenchyma(scan, own, random, (1, 4)), scan.machine.depth
    if case.label == "ivc" or (case.label != "portal_vein" and own.random() < 0.5):
        diaphragm(tissue, own, random)
        z, turn = own.uniform(0.55, 0.65) * depth, own.uniform(-0.25, 0.25)
        behind = z + 0.3 + math.tan(turn) * tissue.x - tissue.z
        tissue.paint(soft(behind, 0.2), -5 + 4 * field(random, 26, 8), 0.3)
        bore = own.uniform(0.6, 1.1) * np.clip(1 + 0.12 * curve(own, 4), 0.5, None)
        vessel(tissue, (random.normal(0, 0.3), z), turn, own.normal(0, 0.01), bore, 8, wall=6)
        for _ in range(own.integers(1, 3)):
            start = own.uniform(-2.5, 1)
            vessel(tissue, (start, z - 1.9), own.uniform(0.7, 1.1), 0.03, own.uniform(0.25, 0.4), 2.2)
    else:
        x, z = own.uniform(-1, 0.5) + random.normal(0, 0.2), own.uniform(0.45, 0.55) * depth
        turn = own.uniform(-0.3, 0.3)
        wide = own.uniform(0.5, 0.7)
        branches = ((turn, wide, 3.2), (turn + np.pi + 0.55, 0.7 * wide, 2.6), (turn + np.pi - 0.6, 0.65 * wide, 2.6))
        for wall in (9.0, 0.0):  # all walls first, so that none crosses a lumen
            for direction, bore, half in branches:
                middle = x + half * math.cos(direction), z + half * math.sin(direction)
                vessel(tissue, middle, direction, 0.02, bore, half, wall=wall)
        diaphragm(tissue, own, random)
    body_wall(tissue, own, own.uniform(1.2, 2.2))
    if own.random() < 0.3:
        rib_shadow(tissue, own)
    return tissue


def mixed(scan: Scan, case: Case, random: Random) -> Tissue:
    """An examination of the abdomen: any of its organs."""
    painters = (liver, gallbladder, kidney, spleen, bile_duct, pancreas, aorta, vein)
    painter = painters[int(case.random().integers(len(painters)))]
    return painter(scan, case, random)


def endoscopic_pancreas(scan: Scan, case: Case, random: Random) -> Tissue:
    """From inside the stomach: the layers of its wall around the probe, pancreas, vessels, a mass or none."""
    own = case.random()
    tissue, depth, s = Tissue(scan, 0.08, random), scan.machine.depth, scan.s
    tissue.paint(np.ones_like(s), -7 + 4 * field(random, 24, 18), 0.3)  # fat and bowel around
    side = own.uniform(-0.9, 0.9) + np.pi / 2  # the pancreas lies below in the picture
    reach = scan.machine.radius + 0.42 * depth
    middle = reach * math.cos(side), reach * math.sin(side) - scan.machine.radius
    gland = Shape(
        *middle, own.uniform(0.6, 0.75) * depth, 0.3 * depth, side - np.pi / 2, harmonics(own, 0.05, range(2, 7))
    )
    chronic = own.random() < 0.4  # chronic pancreatitis: strands and bright foci, in both classes
    lobules = 2.5 * field(random, 70, 44) + chronic * 7 * np.exp(-np.square(field(random, 40, 30) / 0.15))
    tissue.paint(soft(gland.distance(tissue), 0.15), own.uniform(0, 4) + lobules, 0.1)
    tissue.regions["organ"] = gland.distance(tissue)
    for _ in range(own.integers(1, 4)):
        place = middle[0] + own.uniform(-1, 1) * 0.4 * depth, middle[1] + own.uniform(0.1, 0.35) * depth
        vessel(
            tissue, place, own.uniform(-0.5, 0.5), own.normal(0, 0.25), own.uniform(0.1, 0.25), own.uniform(0.4, 1.2), 6
        )
    grade = float(np.clip(case.severity, 0, 1))
    dilated = own.uniform(0.03, 0.06) + 0.14 * grade * own.random()
    vessel(tissue, middle, side - np.pi / 2 + own.normal(0, 0.15), own.normal(0, 0.05), dilated, 0.4 * depth, 6)
    if own.random() < 0.2 + grade:  # a mass: cancer, or inflammation and benign tumours
        size = (0.06 + 0.22 * grade) * depth * own.uniform(0.8, 1.25)
        mass = Shape(
            middle[0] + own.uniform(-0.25, 0.25) * depth,
            middle[1] + own.uniform(-0.08, 0.1) * depth,
            size * own.uniform(1.0, 1.3),
            size,
            own.uniform(0, 3.1),
            harmonics(own, 0.03 + 0.06 * grade, range(2, 9)),
        ).distance(tissue)
        tissue.regions["mass"] = mass
        tissue.paint(soft(mass, 0.05 + 0.08 * grade), -3 - 13 * grade + 2 * field(random, 44, 30), 1.2 * grade)
    elif own.random() < 0.3:
        cyst = Shape(
            middle[0] + own.uniform(-0.2, 0.2) * depth, middle[1], own.uniform(0.3, 0.8), 0.4, own.uniform(0, 3.1)
        )
        fluid(tissue, cyst.distance(tissue), wall=6, thickness=0.05)
    for turn in (own.uniform(3.4, 4.2), own.uniform(5.2, 6.0)):  # other vessels: aorta, portal vein
        away = scan.machine.radius + own.uniform(0.45, 0.7) * depth
        round_ = Shape(away * math.cos(turn), away * math.sin(turn) - scan.machine.radius, 0.5, 0.42, turn)
        fluid(tissue, round_.distance(tissue), wall=6, thickness=0.06, echo=-30)
    for _ in range(random.integers(0, 4)):  # where the probe does not touch
        away = np.abs(np.arctan2(scan.x, scan.z + scan.machine.radius) - random.uniform(-2.6, 2.6))
        tissue.loss = tissue.loss + random.uniform(0.5, 3) * soft(away - random.uniform(0.1, 0.45), 0.12)
    wall = 0.16 * (1 + 0.08 * curve(random, 6))  # five layers of the wall
    tissue.paint(soft(s - 2.6 * wall, 0.03), -1 + 8 * np.cos(2 * np.pi * s / wall))
    return tissue
