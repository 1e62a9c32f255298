"""B-mode-like images in the layout of a public data set, for demonstration where there are no real ones.

A picture is made the way a scanner makes one, coarsely. An organ is painted on the grid of beams and depths
as backscatter (dB) and excess attenuation (dB/cm). Every grid point scatters with random phase; convolution with a
point spread function, narrow along the beam and widening away from the focus across it, gives fully developed
speckle; attenuation summed along the beam gives shadows behind bone and enhancement behind fluid; noise
grows with depth gain; then come envelope, log compression and scan conversion (linear or curved probe).

Benign and malignant lesions differ in shape, margin, orientation, backscatter and attenuation as in textbooks,
but the distributions overlap, so that a classifier can learn something and not everything. Nothing here may pass
for data: the folder says so in README.txt, and SIMULATED.json marks every result made from it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field
from scipy import ndimage
from threadpoolctl import threadpool_limits

from urfm.cli import Settings, parse_settings, run
from urfm.errors import UrfmError
from urfm.files import write_json, write_text
from urfm.progress import progress, say

Array = npt.NDArray[np.floating[Any]]
Random = np.random.Generator

SAMPLES, LINES = 256, 128  # the beam grid: points along a beam, beams
README = "Simulated ultrasound images, made by urfm.data.simulate for demonstration only. Not patient data.\n"


class SimulateSettings(Settings):
    """Settings of the stage: one data set."""

    dataset: str
    layout: Literal["busbra", "aul", "fetal_planes"]
    patients: int = Field(ge=10)
    image_size: tuple[int, int] = (160, 224)  # pixels of the longer side, smallest and largest
    seed: int = 0


# --- The scanner ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine:
    """One scanner with its settings; a data set has a few."""

    curved: bool
    depth: float  # cm
    width: float  # cm of a linear probe; degrees of a curved one
    radius: float  # cm, of the curved probe's surface
    focus: float  # cm
    axial: float  # standard deviation of the pulse, grid points
    lateral: float  # standard deviation of the beam at the focus, grid points
    looks: int  # compounded frames
    dynamic_range: float  # dB
    gain: float  # dB
    gamma: float
    noise: float  # dB relative to tissue, at the surface
    smoothing: float  # speckle reduction after compression, standard deviation in grid points
    size: int  # pixels of the longer side


class Scan:
    """The beam grid of a machine, in cm, and where the picture's pixels lie on it.

    Arrays are (SAMPLES, LINES): `x` to the right and `z` downwards from the middle of the probe, `s` the path from the
    probe's surface; `pitch` is the distance between neighbouring beams and `step` that between samples.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        path = np.linspace(0, machine.depth, SAMPLES, dtype=np.float32)[:, None]
        across = np.linspace(-0.5, 0.5, LINES, dtype=np.float32)[None, :]
        self.step = machine.depth / (SAMPLES - 1)
        self.s: Array = np.broadcast_to(path, (SAMPLES, LINES))
        if machine.curved:
            opening = np.deg2rad(machine.width)
            r, angle = path + machine.radius, across * opening
            self.x: Array = r * np.sin(angle)
            self.z: Array = r * np.cos(angle) - machine.radius
            self.pitch: Array = r * opening / (LINES - 1)
        else:
            self.x = np.broadcast_to(across * machine.width, (SAMPLES, LINES))
            self.z = self.s
            self.pitch = np.full((SAMPLES, 1), machine.width / (LINES - 1), np.float32)

        top, bottom, half = float(self.z.min()), float(self.z.max()), float(self.x.max())
        scale = machine.size / max(bottom - top, 2 * half)
        self.pixels_per_cm = scale
        rows, columns = round((bottom - top) * scale), round(2 * half * scale)
        z = (top + (np.arange(rows) + 0.5) / scale)[:, None]
        x = ((np.arange(columns) + 0.5) / scale - half)[None, :]
        self.top, self.half = top, half
        if machine.curved:
            along = np.hypot(x, z + machine.radius) - machine.radius
            beam = np.arctan2(x, z + machine.radius) / opening
        else:
            along, beam = np.broadcast_arrays(z, x / machine.width)
        self._where = np.stack([along / self.step, (beam + 0.5) * (LINES - 1)]).astype(np.float32)

    def to_picture(self, grid: Array) -> Array:
        """Scan conversion: (SAMPLES, LINES) to (height, width), 0 outside the field of view."""
        picture: Array = ndimage.map_coordinates(grid, self._where, order=1, cval=0.0)
        return picture

    def pixel(self, x: float, z: float) -> tuple[float, float]:
        """Column and row of a place in cm."""
        return (x + self.half) * self.pixels_per_cm, (z - self.top) * self.pixels_per_cm


@cache
def _interpolation(points: int, knots: int) -> Array:
    """(points, knots) weights of a smooth curve through random knots, unit variance for unit normal knots."""
    distance = np.linspace(0.5, knots - 1.5, points)[:, None] - np.arange(knots)[None, :]
    weights = np.exp(-0.5 * (distance / 0.6) ** 2)
    unit: Array = (weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))).astype(np.float32)
    return unit


def curve(random: Random, knots: int) -> Array:
    """A smooth random line across the beams, (1, LINES), unit variance."""
    line: Array = (_interpolation(LINES, knots) @ random.standard_normal(knots, np.float32))[None, :]
    return line


def field(random: Random, down: int, across: int) -> Array:
    """A smooth random field with `down` x `across` knots, (SAMPLES, LINES), unit variance."""
    knots = random.standard_normal((down, across), np.float32)
    values: Array = _interpolation(SAMPLES, down) @ knots @ _interpolation(LINES, across).T
    return values


class Tissue:
    """What the beams meet: backscatter in dB (0: liver-like tissue) and attenuation in excess of the depth gain's.

    `x` and `z` are the scan's places after a smooth random warp of about `warp` cm: shapes drawn in them are organic.
    """

    def __init__(self, scan: Scan, warp: float, random: Random) -> None:
        self.scan = scan
        self.x: Array = scan.x + warp * field(random, 7, 6)
        self.z: Array = scan.z + warp * field(random, 7, 6)
        self.echo: Array = np.zeros((SAMPLES, LINES), np.float32)
        self.loss: Array = np.zeros((SAMPLES, LINES), np.float32)  # dB/cm, one way

    def paint(self, where: Array, echo: Array | float, loss: float = 0.0) -> None:
        """Replace tissue where `where` is 1, blend where it is between."""
        self.echo = self.echo + where * (echo - self.echo)
        self.loss = self.loss + where * (loss - self.loss)

    def interface(self, distance: Array, echo: Array | float, width: float, loss: float = 0.0) -> None:
        """A reflecting surface at distance 0 (cm): bright where the beam meets it squarely, weak along the beam."""
        along = np.gradient(distance, axis=0) / self.scan.step
        across = np.gradient(distance, axis=1) / self.scan.pitch
        squarely = np.square(along) / (np.square(along) + np.square(across) + 1e-9)
        near = np.exp(-0.5 * np.square(distance / width))
        self.echo = np.maximum(self.echo, self.echo + near * (echo * (0.25 + 0.75 * squarely) - self.echo))
        self.loss = self.loss + near * loss


def soft(distance: Array, edge: float) -> Array:
    """1 inside (negative distance), 0 outside, with a transition `edge` cm wide."""
    inside: Array = 0.5 - 0.5 * np.tanh(distance / edge)
    return inside


def acquire(tissue: Tissue, random: Random) -> Array:
    """Scan the tissue: grey values 0 to 1 on the beam grid."""
    scan, machine = tissue.scan, tissue.scan.machine
    down = scan.s / machine.depth  # 0 to 1
    across = np.linspace(-1, 1, LINES, dtype=np.float32)[None, :]
    path_loss = 2 * scan.step * np.cumsum(tissue.loss, axis=0)
    path_loss = ndimage.gaussian_filter1d(path_loss, 1.5, axis=1)  # an aperture sees around small things
    # Imperfect depth gain, contact and penetration: shading along beams, dim edges, dim depth.
    contact = 1.3 * curve(random, 9) - random.uniform(2, 9) * across**6
    gain = random.uniform(-7, 2) * down**2 + contact * (0.5 + down)
    amplitude = (10 ** ((tissue.echo - path_loss + gain) / 20)).astype(np.float32)
    defocus = np.clip(np.abs(scan.s[:, :1] - machine.focus) / (0.6 * machine.depth), 0, 1).astype(np.float32)
    power = np.zeros((SAMPLES, LINES), np.float32)
    for _ in range(machine.looks):
        echoes = random.standard_normal((2, SAMPLES, LINES), np.float32) * amplitude  # in phase and quadrature
        echoes = ndimage.gaussian_filter1d(echoes, machine.axial, axis=1, truncate=3)
        narrow = ndimage.gaussian_filter1d(echoes, machine.lateral, axis=2, truncate=3)
        wide = ndimage.gaussian_filter1d(echoes, 2.2 * machine.lateral, axis=2, truncate=3) * np.float32(np.sqrt(2.2))
        power += np.square(narrow + defocus * (wide - narrow)).sum(axis=0)
    # Filtering unit noise leaves a known variance; dividing by it keeps tissue of 0 dB at 0 dB.
    power *= 2 * np.pi * machine.axial * machine.lateral / machine.looks
    power += 0.008 * ndimage.uniform_filter(power, (9, 25))  # side lobes and reverberation fill vessels and cysts
    noise = random.standard_exponential((SAMPLES, LINES), np.float32) * 10 ** ((machine.noise + 20 * down**2) / 10)
    haze = 0.25 * np.exp(-down / 0.02)  # reverberation in front of the probe
    decibel = ndimage.gaussian_filter(10 * np.log10(power + noise + haze), machine.smoothing, truncate=3)
    grey: Array = np.clip((decibel + machine.gain) / machine.dynamic_range + 0.42, 0, 1) ** machine.gamma
    return grey


# --- Lesions and organs -----------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Case:
    """What stays the same in all images of one patient."""

    label: str
    severity: float  # 0 textbook benign to 1 textbook malignant; the classes overlap
    seed: int

    def random(self) -> Random:
        """The same random numbers for every image of the patient."""
        return np.random.default_rng(self.seed)


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


def liver(scan: Scan, case: Case, random: Random) -> Tissue:
    """Parenchyma with veins, diaphragm, now and then kidney or gallbladder, and none, one or several masses."""
    own = case.random()
    tissue, depth, s = Tissue(scan, 0.35, random), scan.machine.depth, scan.s
    fatty = own.uniform(0, 1)
    triads = 4.5 * np.clip(field(random, 44, 30) - 1.3, 0, None)  # small portal branches: bright dashes
    tissue.paint(np.ones_like(s), 2 * fatty + 1.5 * field(random, 20, 14) + triads, 0.1 * fatty)
    for _ in range(own.integers(3, 7)):
        away, along = tube(
            tissue, own.uniform(-4, 4), own.uniform(0.3, 0.7) * depth, own.uniform(-1.2, 1.2), own.normal(0, 0.06)
        )
        bore = np.clip(own.uniform(0.1, 0.34) * (1 - 0.14 * along), 0.03, 0.6)
        reach = soft(np.abs(along) - own.uniform(0.5, 2.6), 0.4)
        if own.random() < 0.5:  # portal branches have bright walls, hepatic veins none
            tissue.paint(soft(np.abs(away - bore - 0.08) - 0.07, 0.06) * reach, 9)
        tissue.paint(soft(away - bore, 0.06) * reach, -26, -0.2)
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

    severity = case.severity
    masses = 0 if case.label == "normal" else 1 + int(severity > 0.6) * int(own.integers(0, 3))
    for number in range(masses):
        size = own.uniform(1.4, 3.3) * (1 if number == 0 else 0.6)
        shape = Shape(
            x=own.uniform(-0.22, 0.22) * depth + random.normal(0, 0.2),
            z=own.uniform(0.34, 0.62) * depth,
            width=size * own.uniform(0.9, 1.3),
            height=size * own.uniform(0.7, 1.0),
            turn=own.uniform(-0.6, 0.6),
            harmonics=harmonics(own, 0.03 + 0.05 * max(severity, 0), range(2, 8)),
        )
        distance = shape.distance(tissue)
        kind = own.random()
        if severity < 0.5 and kind < 0.35:  # cyst
            tissue.interface(distance - 0.03, 6, 0.07)
            tissue.paint(soft(distance, 0.05), -40, -0.6)
        elif severity < 0.5 and kind < 0.85:  # haemangioma
            tissue.paint(soft(distance, 0.12), 9 + 2 * field(random, 26, 20), -0.1)
        else:  # mass, with a dark rim and mixed inside the worse it is
            edge = 0.1 + 0.15 * max(severity, 0)
            mixed = own.uniform(-13, -3) + (1.5 + 3 * max(severity, 0)) * field(random, 16, 12)
            tissue.paint(soft(distance, edge), mixed, 0.25 * severity)
            tissue.paint(0.8 * np.clip(severity, 0, 1) * soft(np.abs(distance) - 0.1, 0.12), -9)

    aside = own.choice([-1, 1]) * own.uniform(0.1, 0.35) * depth
    dome = Shape(aside, 0.25 * depth, 0.62 * depth, own.uniform(0.55, 0.68) * depth, own.normal(0, 0.25))
    beyond = dome.distance(tissue)
    tissue.paint(soft(-beyond, 0.12), -7 + 4 * field(random, 14, 10), 0.5)
    tissue.interface(beyond, 13 + 5 * curve(random, 6), 0.12)
    body_wall(tissue, own, own.uniform(1.2, 2.3))
    if own.random() < 0.4:  # a rib's shadow from the edge
        across = np.abs(scan.x / (scan.z + scan.machine.radius) - own.choice([-1, 1]) * own.uniform(0.25, 0.55))
        tissue.loss = tissue.loss + 9 * soft(across - own.uniform(0.03, 0.1), 0.03) * soft(np.abs(s - 1.4) - 0.4, 0.1)
    return tissue


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


def vertebra(tissue: Tissue, cut: Trunk) -> None:
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
    vertebra(tissue, cut)
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
    vertebra(tissue, cut)
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
        vertebra(tissue, cut)
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


# --- The data sets ----------------------------------------------------------------------------------------------


Painter = Callable[[Scan, Case, Random], Tissue]

# Share of the real images a class has (datasets.md); the simulated set keeps it, with at least six of each.
BREAST = {"benign": 722, "malignant": 342}
LIVER = {"benign": 200, "malignant": 435, "normal": 100}
FETAL: dict[str, tuple[int, int, Painter]] = {  # images, number in the file name, painter
    "Other": (4213, 1, fetal_other),
    "Fetal abdomen": (711, 2, fetal_abdomen),
    "Fetal brain": (3092, 3, fetal_brain),
    "Maternal cervix": (1626, 4, maternal_cervix),
    "Fetal femur": (1040, 5, fetal_femur),
    "Fetal thorax": (1718, 6, fetal_thorax),
}


def shares(total: int, weights: dict[str, int], least: int = 6) -> list[str]:
    """`total` labels in the proportion of `weights`, each at least `least` times (or evenly, if that is too many)."""
    least = min(least, total // len(weights))
    counts = {label: max(least, total * weight // sum(weights.values())) for label, weight in weights.items()}
    largest = max(counts, key=lambda label: counts[label])
    counts[largest] += total - sum(counts.values())
    return [label for label, images in counts.items() for _ in range(images)]


def machines(layout: str, image_size: tuple[int, int], random: Random) -> list[Scan]:
    """A handful of scanners, as in a set collected over years."""
    scans = []
    for _ in range(6):
        linear = layout == "busbra"
        scans.append(
            Scan(
                Machine(
                    curved=not linear,
                    depth=random.uniform(3.2, 5.0) if linear else random.uniform(11, 16),
                    width=random.uniform(3.3, 4.2) if linear else random.uniform(58, 76),
                    radius=random.uniform(4.5, 6.0),
                    focus=random.uniform(1.5, 2.5) if linear else random.uniform(6, 10),
                    axial=random.uniform(0.9, 1.4),
                    lateral=random.uniform(0.8, 1.3),
                    looks=int(random.integers(1, 3)),
                    dynamic_range=random.uniform(48, 64),
                    gain=random.uniform(-4, 3),
                    gamma=random.uniform(0.95, 1.35),
                    noise=random.uniform(-48, -38),
                    smoothing=random.uniform(0.4, 0.7) if linear else random.uniform(0.5, 0.9),
                    size=int(random.integers(image_size[0], image_size[1] + 1)),
                )
            )
        )
    return scans


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def annotate(picture: Image.Image, scan: Scan, layout: str, random: Random) -> None:
    """What people leave on the screen: depth ticks, now and then callipers and text; the same for every class."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
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
        words = {
            "busbra": ["L BREAST", "R BREAST", "QSE", "UIQ", "12H"],
            "aul": ["LIVER", "RT LOBE", "LT LOBE", "SUBCOSTAL"],
            "fetal_planes": ["GA 21w3d", "FETUS", "Ob 2T", "GA 24w0d"],
        }[layout]
        place = (random.uniform(0.03, 0.6) * width, random.uniform(0.82, 0.93) * height)
        draw.text(place, str(random.choice(words)), fill=ink, font=_font(max(8, height // 20)))


def take_picture(painter: Painter, scan: Scan, case: Case, layout: str, random: Random) -> Image.Image:
    """One grey image (mode L) of the patient `case`."""
    tissue = painter(scan, case, random)
    grey = scan.to_picture(acquire(tissue, random))
    picture = Image.fromarray(np.round(255 * grey).astype(np.uint8))
    annotate(picture, scan, layout, random)
    return picture


def severity(label: str, random: Random) -> float:
    """How malignant a lesion looks; the classes are two standard deviations apart: nobody can tell all of them."""
    return float(random.normal({"benign": 0.28, "malignant": 0.78, "normal": 0.0}[label], 0.24))


Saved = tuple[str, Image.Image]


def busbra(settings: SimulateSettings, random: Random) -> Iterator[tuple[str, bytes]]:
    """BUS-BRA: bus_data.csv, and two sides or one of every patient."""
    scans = machines(settings.layout, settings.image_size, random)
    labels = random.permutation(shares(settings.patients, BREAST))
    rows = []
    for patient, label in enumerate(labels.tolist(), 1):
        case = Case(label, severity(label, random), int(random.integers(2**31)))
        device = int(random.integers(len(scans)))
        sides = {"l": "left", "r": "right"} if random.random() < 811 / 1064 else {"s": "single"}
        for suffix, side in sides.items():
            picture = take_picture(breast, scans[device], case, settings.layout, random)
            name = f"bus_{patient:04d}-{suffix}"
            birads = int(np.clip(round(2 + 3 * case.severity), 2, 5))
            rows.append(
                [name, patient, "simulated", label, birads, f"Simulated scanner {device + 1}", *picture.size, side]
            )
            yield f"Images/{name}.png", encode(picture, "PNG")
    header = ["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side"]
    yield "bus_data.csv", table([header, *rows], ",")


def aul(settings: SimulateSettings, random: Random) -> Iterator[tuple[str, bytes]]:
    """Liver735: class folders of RGB JPEGs numbered from 1, one image a patient."""
    scans = machines(settings.layout, settings.image_size, random)
    number = dict.fromkeys(LIVER, 0)
    for label in random.permutation(shares(settings.patients, LIVER)).tolist():
        number[label] += 1
        case = Case(label, severity(label, random), int(random.integers(2**31)))
        scan = scans[int(random.integers(len(scans)))]
        picture = take_picture(liver, scan, case, settings.layout, random).convert("RGB")
        yield f"{label.capitalize()}/image/{number[label]}.jpg", encode(picture, "JPEG")


def fetal_planes(settings: SimulateSettings, random: Random) -> Iterator[tuple[str, bytes]]:
    """FETAL_PLANES_DB: the CSV with its odd header, and several planes of every patient as RGBA PNGs."""
    scans = machines(settings.layout, settings.image_size, random)
    visits = np.minimum(random.geometric(1 / 5, settings.patients), 30)
    planes = random.permutation(shares(int(visits.sum()), {plane: FETAL[plane][0] for plane in FETAL})).tolist()
    rows = []
    for patient, images in enumerate(visits.tolist(), 1):
        seed, device = int(random.integers(2**31)), int(random.integers(len(scans)))
        here, planes = sorted(planes[:images]), planes[images:]
        for plane in dict.fromkeys(here):
            _, number, painter = FETAL[plane]
            for frame in range(1, here.count(plane) + 1):
                name = f"Patient{patient:05d}_Plane{number}_{frame}_of_{here.count(plane)}"
                case = Case(plane, 0.0, seed + number)
                picture = take_picture(painter, scans[device], case, settings.layout, random).convert("RGBA")
                view = "Trans-thalamic" if plane == "Fetal brain" else "Not A Brain"
                rows.append([name, patient, plane, view, "Op. 1", f"Simulated scanner {device + 1}", f"{patient % 2} "])
                yield f"Images/{name}.png", encode(picture, "PNG")
    header = ["Image_name", "Patient_num", "Plane", "Brain_plane", "Operator", "US_Machine", "Train "]
    yield "FETAL_PLANES_DB_data.csv", table([header, *rows], ";")


LAYOUTS: dict[str, Callable[[SimulateSettings, Random], Iterator[tuple[str, bytes]]]] = {
    "busbra": busbra,
    "aul": aul,
    "fetal_planes": fetal_planes,
}


def encode(picture: Image.Image, kind: str) -> bytes:
    """The file of a picture."""
    stream = io.BytesIO()
    picture.save(stream, kind, **({"quality": 92} if kind == "JPEG" else {"compress_level": 3}))
    return stream.getvalue()


def table(rows: Sequence[Sequence[object]], separator: str) -> bytes:
    """The file of a CSV table."""
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def simulate(settings: SimulateSettings, root: Path) -> int:
    """Write a simulated data set into `root`; returns the number of images.

    README.txt comes first and SIMULATED.json last, so an interrupted run is seen as unfinished and is replaced. A
    folder with other content and without that README.txt is somebody's data and is never touched.
    """
    mark = root / "README.txt"
    if root.exists() and any(root.iterdir()):
        if not mark.is_file() or mark.read_text(encoding="utf-8", errors="replace") != README:
            raise UrfmError(
                f"{root}: holds files the simulator did not make, and is left alone. Simulate into another folder "
                "(data_root, or the data set's `folder`), or take the data set out of `simulation`"
            )
        for path in root.iterdir():
            if path != mark:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_text(mark, README)
    name_seed = int.from_bytes(hashlib.sha256(settings.dataset.encode()).digest()[:4])
    random = np.random.default_rng([settings.seed, name_seed])
    listing = []
    with threadpool_limits(1):  # small products: a second thread costs time, eightfold where the other core is busy
        for name, content in progress(LAYOUTS[settings.layout](settings, random), f"simulating {settings.dataset}"):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            listing.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    images = len([line for line in listing if not line.endswith(".csv\n")])
    write_json(
        root / "SIMULATED.json",
        {
            "seed": settings.seed,
            "settings": settings.model_dump(),
            "images": images,
            "sha256": hashlib.sha256("".join(sorted(listing)).encode()).hexdigest(),
        },
    )
    return images


def main() -> None:
    """Command line of the stage."""
    parser = argparse.ArgumentParser(description="Write one simulated data set in its published layout.")
    parser.add_argument("--settings", required=True, help="JSON: " + ", ".join(SimulateSettings.model_fields))
    parser.add_argument("--root", type=Path, required=True, help="the data set's folder")
    arguments = parser.parse_args()
    settings = parse_settings(SimulateSettings, arguments.settings)
    images = simulate(settings, arguments.root)
    say(f"{settings.dataset}: {images:,} simulated images in {arguments.root}")


if __name__ == "__main__":
    run(main)
