"""The scanner: tissue on the grid of beams and depths, and the B-mode picture made of it.

Every grid point scatters with random phase; convolution with a point spread function, narrow along the beam and
widening away from the focus across it, gives fully developed speckle; attenuation summed along the beam gives shadows
behind bone and enhancement behind fluid; noise grows with depth gain; then come envelope, log compression and scan
conversion (linear or curved probe).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.floating[Any]]
Random = np.random.Generator

SAMPLES, LINES = 256, 128  # the beam grid: points along a beam, beams


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
    `regions` keeps what an annotator would outline: a name and the signed distance (cm, negative inside).
    """

    def __init__(self, scan: Scan, warp: float, random: Random) -> None:
        self.scan = scan
        self.x: Array = scan.x + warp * field(random, 7, 6)
        self.z: Array = scan.z + warp * field(random, 7, 6)
        self.echo: Array = np.zeros((SAMPLES, LINES), np.float32)
        self.loss: Array = np.zeros((SAMPLES, LINES), np.float32)  # dB/cm, one way
        self.regions: dict[str, Array] = {"scan": np.full((SAMPLES, LINES), -1, np.float32)}

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
