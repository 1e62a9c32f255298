"""Fetal planes: head, trunk, femur, cervix, and views that are none of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from urfm.simulation.anatomy import Case, Shape, body_wall, harmonics, tube
from urfm.simulation.scanner import Array, Random, Scan, Tissue, curve, field, soft


def womb(scan: Scan, own: Random, random: Random) -> Tissue:
    """Abdominal wall, uterus and placenta around fluid: the surroundings of every fetal plane."""
    tissue = Tissue(scan, 0.13, random)
    depth, s = scan.machine.depth, scan.s
    front = depth * own.uniform(0.16, 0.26) * (1 + 0.12 * curve(random, 5))
    back = depth * own.uniform(0.76, 0.88) * (1 + 0.05 * curve(random, 5))
    tissue.paint(np.ones_like(s), -25 + 3 * field(random, 10, 8), -0.25)
    tissue.paint(soft(s - front, 0.15), -1 + 3.5 * field(random, 26, 6), 0.05)
    tissue.interface(s - front, 8, 0.12)
    beyond = 1 + 4.5 * field(random, 18, 8) - 7 * np.clip((s - back) / (0.2 * depth), 0, 1)
    tissue.paint(soft(back - s, 0.2), beyond, 0.35)
    tissue.interface(s - back, 10, 0.15)
    if own.random() < 0.7:  # placenta, at the front or at the back
        leaf = depth * own.uniform(0.1, 0.2) * np.clip(0.8 + 0.6 * curve(own, 4), 0.05, None)
        at_front = own.random() < 0.5
        where = soft(s - front - leaf, 0.15) if at_front else soft(back - leaf - s, 0.15)
        between = soft(front + 0.1 - s, 0.1) * soft(s - back, 0.1)
        tissue.paint(where * between, 1 + 2 * field(random, 34, 24), 0.05)
    for _ in range(random.integers(1, 4)):  # a limb or a loop of the cord beside what is shown
        size = own.uniform(0.04, 0.08) * depth
        part = Shape(
            own.choice([-1, 1]) * own.uniform(0.3, 0.45) * depth,
            own.uniform(0.35, 0.75) * depth,
            size * own.uniform(1, 2),
            size,
            own.uniform(0, 3.1),
            harmonics(own, 0.05, range(2, 5)),
        ).distance(tissue)
        tissue.paint(soft(part, 0.1), -3 + 3 * field(random, 30, 20))
        tissue.interface(part, 8, 0.1)
    body_wall(tissue, own, own.uniform(0.09, 0.13) * depth)
    return tissue


def fetal_brain(scan: Scan, case: Case, random: Random) -> Tissue:
    """Skull ring, midline, cavum, thalami, choroid plexus."""
    own = case.random()
    tissue, depth = womb(scan, own, random), scan.machine.depth
    size = own.uniform(0.22, 0.3) * depth
    head = Shape(random.normal(0, 0.04) * depth, 0.53 * depth, 1.28 * size, size, random.normal(0, 0.3))
    distance = head.distance(tissue)
    cosine, sine = math.cos(head.turn), math.sin(head.turn)
    u = (cosine * (tissue.x - head.x) + sine * (tissue.z - head.z)) / size
    v = (-sine * (tissue.x - head.x) + cosine * (tissue.z - head.z)) / size
    tissue.paint(soft(distance - 0.35, 0.08), -1 + 2.5 * field(random, 30, 16))
    tissue.paint(
        soft(distance, 0.06), -13 + 3 * field(random, 24, 18) + 5 * np.clip(field(random, 40, 30) - 1, 0, None)
    )
    inside = soft(distance + 0.2, 0.08)
    for side in (-1, 1):
        for place, offset, long, wide, bright in ((0.02, 0.24, 0.26, 0.17, -17), (-0.5, 0.3, 0.32, 0.13, -1)):
            blob = np.hypot((u - place) / long, (v - side * offset) / wide) - 1
            tissue.paint(soft(blob * wide * size, 0.1) * inside, bright + 2 * field(random, 34, 26))
        sulcus = np.abs(np.hypot(u / 1.0, (v - side * 0.05) / 0.72) - 1) * size
        tissue.paint(0.7 * soft(sulcus - 0.05, 0.06) * inside * soft(np.abs(u) - 0.7, 0.1), -3)
    midline = soft(np.abs(v * size) - 0.04, 0.05) * inside * soft(np.abs(u) - 0.95, 0.1)
    tissue.paint(midline, 8 + 3 * field(random, 12, 30))
    cavum = np.maximum(np.abs(u - 0.55) - 0.15, np.abs(v) - 0.085) * size
    tissue.paint(soft(np.abs(cavum) - 0.05, 0.05) * inside, 5)
    tissue.paint(soft(cavum, 0.05) * inside, -30)
    tissue.interface(distance, 25, own.uniform(0.1, 0.14), loss=2.0)
    return tissue


@dataclass(frozen=True)
class Trunk:
    """A fetal trunk cut across: its outline, distance from it, direction of the spine and radius."""

    body: Shape
    distance: Array
    spine: float
    size: float

    def place(self, turn: float, away: float) -> tuple[float, float]:
        """A point inside, at an angle from the spine and a share of the radius."""
        reach, angle = away * self.size, self.spine + turn
        return float(self.body.x + reach * np.cos(angle)), float(self.body.z + reach * np.sin(angle))


def trunk(tissue: Tissue, own: Random, random: Random, echo: float) -> Trunk:
    """Paint the trunk's wall and inside."""
    depth = tissue.scan.machine.depth
    size = own.uniform(0.23, 0.3) * depth
    body = Shape(
        random.normal(0, 0.04) * depth,
        0.53 * depth,
        size * own.uniform(1.0, 1.15),
        size,
        random.uniform(0, 3.1),
        harmonics(own, 0.015, range(2, 5)),
    )
    distance = body.distance(tissue)
    tissue.paint(soft(distance, 0.1), echo + 2.5 * field(random, 30, 20), 0.1)
    tissue.paint(soft(np.abs(distance + 0.18) - 0.12, 0.08), echo - 5)
    tissue.interface(distance, 11, 0.1)
    tissue.interface(distance + 0.38, 7, 0.09)
    return Trunk(body, distance, float(random.uniform(0, 2 * np.pi)), size)


def fetal_vertebra(tissue: Tissue, cut: Trunk) -> None:
    """Three bright ossification centres with a shadow."""
    for turn, away in ((0.0, 0.64), (0.19, 0.82), (-0.19, 0.82)):
        dot = Shape(*cut.place(turn, away), 0.1 * cut.size, 0.07 * cut.size, cut.spine + turn).distance(tissue)
        tissue.paint(soft(dot, 0.06), 21, 7)


def fetal_abdomen(scan: Scan, case: Case, random: Random) -> Tissue:
    """Round trunk with liver, stomach bubble, umbilical vein and spine."""
    own = case.random()
    tissue = womb(scan, own, random)
    cut = trunk(tissue, own, random, -4)
    size = cut.size
    stomach = Shape(*cut.place(1.9, 0.45), 0.3 * size, 0.17 * size, cut.spine, harmonics(own, 0.06, range(2, 4)))
    tissue.paint(soft(stomach.distance(tissue), 0.07), -30, -0.4)
    away, along = tube(tissue, *cut.place(3.3, 0.3), cut.spine, 0.3 / size)
    reach = soft(np.abs(along) - 0.3 * size, 0.1)
    tissue.paint(soft(np.abs(away - 0.09 * size) - 0.04, 0.05) * reach, 4)
    tissue.paint(soft(away - 0.07 * size, 0.05) * reach, -28)
    for turn in (0.3, -0.45):  # aorta and vena cava
        vessel = Shape(*cut.place(turn, 0.42), 0.075 * size, 0.075 * size, 0).distance(tissue)
        tissue.interface(vessel, 4, 0.06)
        tissue.paint(soft(vessel, 0.05), -28)
    fetal_vertebra(tissue, cut)
    return tissue


def fetal_thorax(scan: Scan, case: Case, random: Random) -> Tissue:
    """Round trunk with a four-chamber heart, lungs, ribs and spine."""
    own = case.random()
    tissue = womb(scan, own, random)
    cut = trunk(tissue, own, random, -1)
    size = cut.size
    angle = np.arctan2(tissue.z - cut.body.z, tissue.x - cut.body.x) - cut.spine
    ribs = np.clip(np.cos(2 * angle), 0, 1) * np.exp(-0.5 * ((cut.distance + 0.25) / 0.14) ** 2)
    tissue.paint(ribs, 17, 4)
    axis = cut.spine + np.pi + own.choice([-1, 1]) * 0.75
    cosine, sine = math.cos(axis), math.sin(axis)
    x, z = cut.body.x + 0.14 * size * cosine, cut.body.z + 0.14 * size * sine
    heart = Shape(x, z, 0.58 * size, 0.43 * size, axis, harmonics(own, 0.03, range(2, 5))).distance(tissue)
    tissue.paint(soft(heart - 0.06, 0.06), 3)
    tissue.paint(soft(heart, 0.06), -6 + 2.5 * field(random, 34, 26))
    for u, v, long in ((0.2, 0.17, 0.25), (0.2, -0.17, 0.25), (-0.27, 0.16, 0.17), (-0.27, -0.16, 0.17)):
        chamber = Shape(
            x + size * (u * cosine - v * sine),
            z + size * (u * sine + v * cosine),
            long * size * random.uniform(0.85, 1.1),
            0.13 * size * random.uniform(0.85, 1.15),
            axis,
            harmonics(random, 0.06, range(2, 5)),
        )
        tissue.paint(soft(chamber.distance(tissue), 0.07), -28, -0.2)
    aorta = Shape(*cut.place(0.25, 0.45), 0.07 * size, 0.07 * size, 0).distance(tissue)
    tissue.paint(soft(aorta, 0.05), -28)
    fetal_vertebra(tissue, cut)
    return tissue


def fetal_femur(scan: Scan, case: Case, random: Random) -> Tissue:
    """A bright, slightly bent rod with a shadow, in the soft tissue of a thigh."""
    own = case.random()
    tissue, depth = womb(scan, own, random), scan.machine.depth
    x, z = random.normal(0, 0.04) * depth, own.uniform(0.42, 0.56) * depth
    half = own.uniform(0.14, 0.22) * depth
    away, along = tube(tissue, x, z, random.normal(0, 0.3), own.normal(0, 0.012))
    thick = (own.uniform(0.11, 0.15) - 0.03 * along / half) * depth
    thigh = np.hypot(np.clip(np.abs(along) - 1.1 * half, 0, None), away) - thick
    muscle = -7 + 3.5 * field(random, 40, 9)
    tissue.paint(soft(thigh, 0.15), muscle, 0.05)
    tissue.interface(thigh, 9, 0.1)
    hip = Shape(x - 1.7 * half, z + 0.06 * depth, 0.9 * half, 0.8 * half, 0, harmonics(own, 0.06, range(2, 6)))
    tissue.paint(soft(hip.distance(tissue), 0.15), -4 + 3 * field(random, 26, 18))
    ends = 1 + 0.7 * (along / half) ** 4
    bone = soft(away - 0.1 * ends, 0.06) * soft(np.abs(along) - half, 0.1)
    tissue.paint(bone, 26, 9)
    return tissue


def maternal_cervix(scan: Scan, case: Case, random: Random) -> Tissue:
    """Two lips around a canal that leads away from the fluid, now and then the fetal head and the bladder."""
    own = case.random()
    tissue, depth, s = Tissue(scan, 0.2, random), scan.machine.depth, scan.s
    tissue.paint(np.ones_like(s), -2 + 4 * field(random, 24, 7) - 6 * s / depth, 0.1)
    x, z = own.uniform(0.02, 0.1) * depth, own.uniform(0.42, 0.52) * depth
    turn = own.uniform(-0.35, 0.25) + random.normal(0, 0.06)
    away, along = tube(tissue, x, z, turn, own.normal(0, 0.015))
    cosine, sine = math.cos(turn), math.sin(turn)
    length = own.uniform(0.17, 0.26) * depth
    lips = np.hypot(np.clip(np.abs(along) - 0.75 * length, 0, None) * 0.6, away) - 0.13 * depth
    tissue.paint(soft(lips, 0.2), -4 + 3 * field(random, 34, 12))
    tissue.interface(lips, 8, 0.14)
    reach = soft(np.abs(along) - length, 0.25)
    tissue.paint(soft(away - 0.035 * depth, 0.15) * reach, -12 + 2 * field(random, 30, 14))
    tissue.paint(soft(away - 0.05, 0.06) * reach, 5 + 4 * field(random, 12, 24))
    if own.random() < 0.6:  # bowel gas behind, with its dirty shadow
        gas = Shape(x + 0.2 * depth, z + own.uniform(0.2, 0.3) * depth, 0.2 * depth, 0.05 * depth, turn + 0.3)
        tissue.interface(gas.distance(tissue), 17, 0.2, loss=1.6)
    away_x, away_z = x - (length + 0.2 * depth) * cosine, z - (length + 0.2 * depth) * sine
    fluid = Shape(away_x, away_z, 0.24 * depth, 0.18 * depth, turn, harmonics(own, 0.06, range(2, 6)))
    distance = fluid.distance(tissue)
    tissue.interface(distance, 9, 0.12)
    tissue.paint(soft(distance, 0.12), -27 + 3 * field(random, 10, 8), -0.3)
    if own.random() < 0.6:
        head = Shape(away_x - 0.1 * depth, away_z + 0.03 * depth, 0.22 * depth, 0.21 * depth, 0).distance(tissue)
        tissue.paint(soft(head, 0.1), -12 + 3 * field(random, 20, 14))
        tissue.interface(head, 22, 0.12, loss=2.5)
    if own.random() < 0.6:
        bladder = Shape(
            x - 0.05 * depth, 0.18 * depth, 0.2 * depth, 0.055 * depth, turn, harmonics(own, 0.05, range(2, 5))
        )
        tissue.interface(bladder.distance(tissue), 8, 0.1)
        tissue.paint(soft(bladder.distance(tissue), 0.1), -30, -0.3)
    body_wall(tissue, own, 0.06 * depth)
    return tissue


def fetal_other(scan: Scan, case: Case, random: Random) -> Tissue:
    """None of the standard planes: a spine along its length, limbs cut across, a trunk off the plane, a cord."""
    own = case.random()
    tissue, depth = womb(scan, own, random), scan.machine.depth
    kind = random.integers(4)
    if kind == 0:  # spine: two rows of dots in a long trunk
        away, along = tube(tissue, 0.0, 0.53 * depth, random.normal(0, 0.3), random.normal(0, 0.02))
        outline = np.hypot(np.clip(np.abs(along) - 0.33 * depth, 0, None), away) - 0.19 * depth
        tissue.paint(soft(outline, 0.15), -5 + 3 * field(random, 26, 14))
        tissue.interface(outline, 10, 0.1)
        tissue.paint(soft(away - 0.022 * depth, 0.06) * soft(np.abs(along) - 0.34 * depth, 0.2), -18)
        beads = 0.5 + 0.5 * np.cos(2 * np.pi * along / (0.038 * depth))
        column = soft(np.abs(away - 0.03 * depth) - 0.07, 0.07) * beads * soft(np.abs(along) - 0.34 * depth, 0.2)
        tissue.paint(column, 19, 2.5)
    elif kind == 1:  # limbs
        for _ in range(random.integers(3, 6)):
            size = random.uniform(0.07, 0.13) * depth
            limb = Shape(
                random.uniform(-0.28, 0.28) * depth,
                random.uniform(0.36, 0.72) * depth,
                size * random.uniform(1, 1.7),
                size,
                random.uniform(0, 3),
                harmonics(random, 0.05, range(2, 6)),
            )
            distance = limb.distance(tissue)
            tissue.paint(soft(distance, 0.12), -4 + 3 * field(random, 30, 18))
            tissue.interface(distance, 10, 0.1)
            bone = Shape(limb.x, limb.z, 0.45 * size, 0.12 * size, limb.turn).distance(tissue)
            tissue.paint(soft(bone, 0.07), 22, 7)
    elif kind == 2:  # a trunk off the plane: outline and kidneys, no landmark
        cut = trunk(tissue, own, random, -3)
        for side in (-1, 1):
            kidney = Shape(*cut.place(0.75 * side, 0.5), 0.26 * cut.size, 0.21 * cut.size, cut.spine).distance(tissue)
            tissue.paint(soft(kidney, 0.08), -9 + 2 * field(random, 30, 20))
            tissue.paint(soft(kidney + 0.13 * cut.size, 0.08), 2)
        fetal_vertebra(tissue, cut)
    else:  # loops of the cord
        for _ in range(random.integers(3, 7)):
            away, along = tube(
                tissue,
                random.uniform(-0.22, 0.22) * depth,
                random.uniform(0.36, 0.75) * depth,
                random.uniform(0, 3.1),
                random.normal(0, 0.25),
            )
            reach = soft(np.abs(along) - random.uniform(0.06, 0.16) * depth, 0.3)
            tissue.paint(soft(away - 0.45, 0.08) * reach, 1 + 3 * field(random, 30, 24))
            tissue.paint(soft(away - 0.24, 0.07) * reach, -24)
    return tissue


def any_plane(scan: Scan, case: Case, random: Random) -> Tissue:
    """An examination of a pregnancy: any of the planes."""
    painters = (fetal_brain, fetal_abdomen, fetal_thorax, fetal_femur, maternal_cervix, fetal_other)
    return painters[int(case.random().integers(len(painters)))](scan, case, random)
