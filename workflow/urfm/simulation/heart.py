"""The heart from its apex: four chambers (4CH) or two (2CH), at any phase of the beat."""

from __future__ import annotations

import numpy as np

from urfm.simulation.anatomy import Case, Shape, harmonics
from urfm.simulation.scanner import Array, Random, Scan, Tissue, field, soft


def heart(scan: Scan, case: Case, random: Random) -> Tissue:
    """Left ventricle and atrium, and the right ones beside them unless the label is 2CH.

    From end of diastole (phase 0) to end of systole (1) the ventricles shrink, their walls thicken, the base comes
    down to the apex, the atria fill and the valves, open at first, are shut. `severity` is a weak heart's.
    """
    own = case.random()
    tissue, depth = Tissue(scan, 0.12, own), scan.machine.depth  # the same warp in every frame
    four = case.label == "4CH" or (case.label != "2CH" and own.random() < 0.5)
    beat = case.phase * own.uniform(0.25, 0.4) * (1 - 0.7 * float(np.clip(case.severity, 0, 1)))
    tilt = own.normal(0, 0.1) + (0.1 if four else 0.0)
    apex, base = own.uniform(0.13, 0.18) * depth, own.uniform(0.56, 0.62) * depth - 0.12 * beat * depth
    middle, half = 0.5 * (apex + base), 0.5 * (base - apex)
    axis = own.uniform(0.02, 0.06) * depth * (1 if four else -0.3)

    def chamber(x: float, z: float, width: float, height: float, turn: float, wobble: float = 0.03) -> Array:
        shape = Shape(x, z, width * depth, height * depth, turn, harmonics(own, wobble, range(2, 4)))
        return shape.distance(tissue)

    left = chamber(axis, middle, own.uniform(0.135, 0.17) * (1 - beat), half / depth, -tilt)
    atrium = chamber(axis + 0.02 * depth, base + 0.135 * depth, 0.115 * (1 + 0.4 * beat), 0.12, -tilt)
    wall = own.uniform(0.055, 0.075) * depth * (1 + 0.8 * beat)
    muscle = left - wall
    chambers = [left, np.maximum(atrium, base - tissue.z + 0.1)]
    if four:
        right = chamber(axis - 0.23 * depth, middle + 0.12 * half, 0.085 * (1 - 0.7 * beat), 0.8 * half / depth, 0.28)
        right_atrium = chamber(axis - 0.21 * depth, base + 0.115 * depth, 0.1 * (1 + 0.3 * beat), 0.1, 0.1)
        muscle = np.minimum(muscle, right - 0.3 * wall)
        chambers += [np.maximum(right, -(left - wall)), np.maximum(right_atrium, base - tissue.z + 0.1)]
    around = np.minimum(muscle, np.min([part - 0.025 * depth for part in chambers], axis=0))

    tissue.paint(np.ones_like(scan.s), -12 + 4 * field(random, 16, 8), 0.15)  # lung and fat around
    tissue.interface(around - 0.1, 12, 0.16)  # pericardium
    tissue.paint(soft(around, 0.12), -5 + 2.5 * field(random, 40, 22))
    for part in chambers:
        tissue.interface(part, 5, 0.12)
        tissue.paint(soft(part, 0.12), -29 + 2 * field(random, 14, 10), -0.1)
    hinges = [(axis, 0.115)] + ([(axis - 0.22 * depth, 0.09)] if four else [])
    gap = 0.5 * (1 - case.phase)
    for x, reach in hinges:  # two leaflets from the hinges: their tips meet when shut, point to the apex when open
        away = np.abs(tissue.x - x) / (reach * depth)
        leaflet = base - (0.03 + 0.07 * (1 - case.phase)) * depth * (1 - away) / (1 - gap)
        tissue.paint(
            soft(np.abs(tissue.z - leaflet) - 0.09, 0.07)
            * soft(np.abs(away - 0.5 - 0.5 * gap) - 0.5 + 0.5 * gap, 0.05),
            7,
        )
    tissue.regions |= {"ventricle": left, "muscle": np.maximum(muscle, -left), "atrium": chambers[1]}
    tissue.paint(soft(scan.s - 0.09 * depth, 0.3), 2 + 4 * field(random, 26, 6), 0.1)  # chest wall
    return tissue
