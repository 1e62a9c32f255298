"""Organs under the skin, seen with a linear probe: breast and thyroid."""

from __future__ import annotations

import numpy as np

from urfm.simulation.anatomy import Case, Shape, fluid, harmonics
from urfm.simulation.scanner import LINES, SAMPLES, Random, Scan, Tissue, curve, field, soft


def breast(scan: Scan, case: Case, random: Random) -> Tissue:
    """Skin, fat lobules, gland, muscle, and a mass."""
    own = case.random()
    tissue = Tissue(scan, 0.05, random)
    depth, s = scan.machine.depth, scan.s
    fat_end = depth * own.uniform(0.14, 0.3) + 0.1 * curve(random, 5)
    gland_end = fat_end + depth * own.uniform(0.3, 0.45) + 0.1 * curve(random, 5)
    muscle_end = gland_end + depth * own.uniform(0.12, 0.2) + 0.06 * curve(random, 4)
    fibres = field(random, 40, 8)
    septa = field(random, 16, 9)
    lobules = -9 + 2 * field(random, 10, 8) + 9 * np.exp(-((septa / 0.16) ** 2))  # zero lines of a field: septa
    gland = own.uniform(-1, 3) + 3.2 * fibres + 2.5 * field(random, 9, 6)
    gland += 7 * np.exp(-((field(random, 22, 6) / 0.12) ** 2))
    muscle = -8 + 5 * field(random, 60, 4)
    tissue.paint(np.ones_like(s), lobules)
    tissue.paint(soft(fat_end - s, 0.1) * soft(s - gland_end, 0.1), gland, 0.15)
    tissue.paint(soft(gland_end + 0.12 - s, 0.04), muscle, 0.3)
    tissue.interface(s - gland_end - 0.12, 9, 0.035)
    tissue.interface(s - muscle_end, 11, 0.05)
    tissue.paint(soft(muscle_end + 0.05 - s, 0.05), -16 + 4 * field(random, 14, 5), 0.8)
    tissue.paint(soft(s - 0.14, 0.02), 7)
    tissue.paint(soft(np.abs(s - 0.08) - 0.03, 0.02), -2)

    grade = case.severity
    length = own.uniform(0.11, 0.2) * depth
    tall = np.clip(0.52 + 0.5 * grade + own.normal(0, 0.1), 0.4, 1.3)
    shape = Shape(
        x=own.uniform(-0.18, 0.18) * scan.machine.width + random.normal(0, 0.1),
        z=own.uniform(0.32, 0.46) * depth,
        width=length * own.uniform(0.9, 1.1),
        height=length * tall,
        turn=own.normal(0, 0.15) + random.normal(0, 0.08),
        harmonics=harmonics(own, 0.03 + 0.09 * max(grade, 0), range(2, 6))
        + harmonics(own, 0.10 * max(grade - 0.35, 0), range(6, 17)),
    )
    distance = shape.distance(tissue)
    tissue.regions["mass"] = distance
    if grade > 0.55:  # spicules and an echogenic halo
        angle = np.arctan2(tissue.z - shape.z, tissue.x - shape.x)
        rays = np.cos(own.integers(9, 15) * angle + 2.5 * np.sin(2 * angle + own.uniform(0, 6)))
        reach = 0.35 * length
        tissue.paint(soft(distance - reach, 0.3 * reach) * 0.55, 4 + 5 * rays)
    interior = own.uniform(-17, -12) + (1 + 2.5 * max(grade, 0)) * field(random, 14, 12)
    loss = np.clip(own.normal(5 * (grade - 0.42), 0.8), -2.2, 4.0)
    tissue.paint(soft(distance, 0.02 + 0.07 * max(grade, 0)), interior, float(loss))
    if grade < 0.5:
        tissue.interface(distance - 0.01, 6, 0.03)
    if own.random() < 0.15 + 0.4 * grade:  # microcalcifications
        dots = random.random((SAMPLES, LINES)) < 0.004
        tissue.echo = tissue.echo + np.where(dots & (distance < -0.03), np.float32(24), np.float32(0))
    return tissue


def thyroid(scan: Scan, case: Case, random: Random) -> Tissue:
    """One lobe cut across between trachea and carotid, under skin and strap muscles, with or without a nodule."""
    own = case.random()
    tissue = Tissue(scan, 0.05, random)
    depth, half, s = scan.machine.depth, scan.machine.width / 2, scan.s
    side = own.choice([-1, 1])  # where the carotid is
    fat_end = own.uniform(0.2, 0.4) + 0.04 * curve(random, 5)
    straps_end = fat_end + own.uniform(0.25, 0.45) + 0.06 * curve(random, 4)
    tissue.paint(np.ones_like(s), -5 + 4 * field(random, 30, 7), 0.2)  # muscles of the neck
    tissue.paint(soft(s - straps_end, 0.04), -11 + 4 * field(random, 44, 5))
    tissue.paint(soft(s - fat_end, 0.04), -4 + 4 * field(random, 24, 7))
    tissue.interface(s - fat_end, 9, 0.03)
    tissue.paint(soft(s - 0.12, 0.02), 6)

    lobe = Shape(
        x=side * own.uniform(-0.15, 0.05),
        z=straps_end.mean() + own.uniform(0.55, 0.75),
        width=own.uniform(1.0, 1.3),
        height=own.uniform(0.6, 0.85),
        turn=side * own.uniform(-0.25, 0.05),
        harmonics=harmonics(own, 0.03, range(2, 5)),
    )
    gland = own.uniform(2, 6)
    isthmus = np.maximum(np.abs(tissue.z - straps_end.mean() - 0.22) - 0.14, side * tissue.x)
    parenchyma = np.minimum(lobe.distance(tissue), isthmus)
    tissue.interface(parenchyma, 8, 0.03)
    tissue.paint(soft(parenchyma, 0.04), gland + 1.5 * field(random, 50, 36), 0.1)

    grade = case.severity
    if case.label != "normal":
        length = own.uniform(0.45, 0.75)
        nodule = Shape(
            x=lobe.x + own.uniform(-0.35, 0.35),
            z=lobe.z + own.uniform(-0.1, 0.15),
            width=length,
            height=length * np.clip(0.6 + 0.55 * grade + own.normal(0, 0.1), 0.45, 1.35),
            turn=own.normal(0, 0.2),
            harmonics=harmonics(own, 0.03 + 0.07 * max(grade, 0), range(2, 6))
            + harmonics(own, 0.09 * max(grade - 0.35, 0), range(6, 14)),
        )
        distance = nodule.distance(tissue)
        tissue.regions["mass"] = distance
        inside = gland - 20 * grade + own.normal(0, 2) + (1.5 + 2 * max(grade, 0)) * field(random, 22, 18)
        if grade < 0.5 and own.random() < 0.45:  # spongiform: many small cysts
            inside = np.where(field(random, 60, 44) > own.uniform(0, 1), -28, inside)
        tissue.paint(soft(distance, 0.02 + 0.06 * max(grade, 0)), inside, float(np.clip(2.5 * (grade - 0.4), -1, 2)))
        if grade < 0.6:  # halo
            tissue.paint(0.8 * soft(np.abs(distance - 0.02) - 0.03, 0.025), gland - 13)
        if own.random() < 0.1 + 0.5 * grade:  # microcalcifications
            dots = random.random((SAMPLES, LINES)) < 0.006
            tissue.echo = tissue.echo + np.where(dots & (distance < -0.03), np.float32(22), np.float32(0))

    trachea = Shape(-side * half, lobe.z - 0.1, 0.42 * half, 0.75, 0.0).distance(tissue)
    rings = 12 * np.cos(2 * np.pi * trachea / 0.2) * np.exp(trachea / 0.25)  # reverberation in its air
    tissue.paint(soft(trachea - 0.04, 0.04), -16 + rings * soft(tissue.z - lobe.z, 0.2), 3)
    tissue.interface(np.where(tissue.z < lobe.z + 0.2, trachea, 1.0), 17, 0.05, loss=4)
    carotid = Shape(side * 0.78 * half, lobe.z + own.uniform(-0.05, 0.3), 0.3, 0.28, 0.0).distance(tissue)
    fluid(tissue, carotid, wall=8, thickness=0.05, echo=-32)
    if own.random() < 0.7:
        jugular = Shape(side * 0.95 * half, lobe.z - 0.35, 0.42, own.uniform(0.1, 0.25), side * 0.4).distance(tissue)
        fluid(tissue, jugular, wall=3, thickness=0.04, echo=-32)
    tissue.paint(soft(0.93 * depth - s, 0.2), -13 + 3 * field(random, 14, 5), 0.6)
    return tissue
