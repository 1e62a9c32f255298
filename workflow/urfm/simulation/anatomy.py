"""What organs are drawn with: the patient, outlines, tubes, fluid, and the layers under the skin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from urfm.simulation.scanner import Array, Random, Scan, Tissue, curve, field, soft


@dataclass(frozen=True)
class Case:
    """What stays the same in all images of one patient."""

    label: str
    severity: float  # 0 textbook benign to 1 textbook malignant; the classes overlap
    seed: int
    phase: float = 0.0  # of the heart beat: 0 end of diastole, 1 end of systole

    def random(self) -> Random:
        """The same random numbers for every image of the patient."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class Shape:
    """A closed outline: an ellipse (cm), turned, with harmonics of its radius."""

    x: float
    z: float
    width: float  # half axes
    height: float
    turn: float  # radians
    harmonics: tuple[tuple[int, float, float], ...] = ()  # order, amplitude, phase

    def distance(self, tissue: Tissue) -> Array:
        """Signed distance from the outline, in cm and roughly: negative inside, (SAMPLES, LINES)."""
        cosine, sine = math.cos(self.turn), math.sin(self.turn)  # not NumPy's: they would make arrays double
        dx, dz = tissue.x - float(self.x), tissue.z - float(self.z)
        u = (cosine * dx + sine * dz) / float(self.width)
        v = (-sine * dx + cosine * dz) / float(self.height)
        radius = np.sqrt(u * u + v * v)
        if not self.harmonics:
            return (radius - 1) * float(min(self.width, self.height))
        angle = np.arctan2(v, u)
        outline = np.ones_like(radius)
        for order, amplitude, phase in self.harmonics:
            outline += amplitude * np.cos(order * angle + phase)
        return (radius / outline - 1) * float(min(self.width, self.height))


def harmonics(random: Random, strength: float, orders: range) -> tuple[tuple[int, float, float], ...]:
    """Random harmonics of an outline whose amplitude falls with the order."""
    return tuple(
        (k, strength * float(random.normal()) * (2 / k) ** 0.7, float(random.uniform(0, 2 * np.pi))) for k in orders
    )


def tube(tissue: Tissue, x: float, z: float, direction: float, bend: float) -> tuple[Array, Array]:
    """Distance from a bent line through (x, z), and the place along it, both in cm."""
    cosine, sine = math.cos(direction), math.sin(direction)
    dx, dz = tissue.x - float(x), tissue.z - float(z)
    along = cosine * dx + sine * dz
    across = cosine * dz - sine * dx - float(bend) * along * along
    return np.abs(across), along


def body_wall(tissue: Tissue, random: Random, thickness: float) -> None:
    """Skin, fat and muscle between a curved probe and an organ: bright and dark layers along the probe."""
    s = tissue.scan.s
    wall = thickness * (1 + 0.06 * curve(random, 4))
    stripes = field(random, 26, 3)
    tissue.paint(soft(s - wall, 0.08), -4 + 4.5 * stripes)
    tissue.interface(s - 0.15, 8, 0.08)
    tissue.interface(s - 0.55 * wall, 7, 0.06)
    tissue.interface(s - wall, 9, 0.07)


def fluid(tissue: Tissue, distance: Array, wall: float = 7, thickness: float = 0.07, echo: float = -40) -> None:
    """Fluid inside `distance`, behind a wall that reflects `wall` dB; what lies behind looks brighter."""
    tissue.interface(distance - 0.4 * thickness, wall, thickness)
    tissue.paint(soft(distance, 0.06), echo, -0.35)


def vessel(
    tissue: Tissue,
    place: tuple[float, float],
    direction: float,
    bend: float,
    bore: Array | float,
    half: float,
    wall: float = 0.0,
) -> None:
    """A blood vessel cut along its length: radius `bore` and half length `half` in cm, its wall's echo in dB."""
    away, along = tube(tissue, *place, direction, bend)
    reach = soft(np.abs(along) - half, 0.2)
    if wall:
        tissue.paint(soft(np.abs(away - bore - 0.09) - 0.08, 0.05) * reach, wall)
    tissue.paint(soft(away - bore, 0.06) * reach, -32, -0.2)


def cap(tissue: Tissue, shape: Shape, echo: float, loss: float) -> None:
    """What reflects so well that only its front is seen: a bright cap, and a shadow behind it."""
    distance = shape.distance(tissue)
    front = soft(tissue.z - shape.z, 0.15)
    tissue.paint(soft(distance, 0.1), -10, loss)
    tissue.interface(np.where(front > 0.02, distance, 1.0), front * echo, 0.12)


def gas(tissue: Tissue, x: float, z: float, size: float) -> None:
    """Bowel gas: a flat cap with a dirty shadow."""
    cap(tissue, Shape(x, z, size, 0.3 * size, 0.0), echo=17, loss=5)


def vertebra(tissue: Tissue, x: float, z: float, size: float) -> None:
    """The front of a vertebral body at depth z."""
    cap(tissue, Shape(x, z + size, 1.3 * size, size, 0.0), echo=19, loss=5)


def bowel(scan: Scan, own: Random, random: Random) -> Tissue:
    """Mesentery and loops of bowel, the ground that abdominal organs are painted on."""
    tissue, depth = Tissue(scan, 0.25, random), scan.machine.depth
    tissue.paint(np.ones_like(scan.s), -4 + 3.5 * field(random, 22, 12) + 2 * field(random, 9, 6), 0.15)
    for _ in range(own.integers(2, 6)):
        loop = Shape(
            own.uniform(-0.4, 0.4) * depth,
            own.uniform(0.3, 0.95) * depth,
            own.uniform(0.8, 1.8),
            own.uniform(0.6, 1.1),
            own.uniform(0, 3.1),
            harmonics(own, 0.06, range(2, 5)),
        ).distance(tissue)
        tissue.paint(soft(loop, 0.15), -9 + 3 * field(random, 26, 18))
        tissue.interface(loop, 5, 0.12)
    return tissue
