"""B-mode-like images in the layout of a public data set, for demonstration where there are no real ones.

A picture is made the way a scanner makes one, coarsely: an organ is painted on the grid of beams and depths as
backscatter (dB) and excess attenuation (dB/cm), and scanned (urfm.simulation.scanner). The pictures get the
names, tables and defects of the published archive (urfm.simulation.layouts).

Benign and malignant lesions differ in shape, margin, orientation, backscatter and attenuation as in textbooks,
but the distributions overlap, so that a classifier can learn something and not everything. Some pictures are copies of
others, exact or altered, so that a leakage audit has something to find. Nothing here may pass for data: the folder says
so in README.txt, and SIMULATED.json, which also lists the copies, marks every result made from it.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from urfm.core.cli import parse_settings, run
from urfm.core.errors import UrfmError
from urfm.core.files import write_json, write_text
from urfm.core.progress import progress, say
from urfm.simulation.archive import SimulateSettings
from urfm.simulation.layouts import LAYOUTS

CHOICES = {"LAYOUTS": "layout"}  # of urfm.core.code

MADE_HERE = "Simulated ultrasound images, made by urfm"  # so begins README.txt, whichever version wrote it
README = f"{MADE_HERE} for demonstration only. Not patient data.\n"


def simulate(settings: SimulateSettings, root: Path) -> int:
    """Write a simulated data set into `root`; returns the number of images.

    README.txt comes first and SIMULATED.json last, so an interrupted run is seen as unfinished and is replaced. A
    folder with other content and without that README.txt is somebody's data and is never touched.

    SIMULATED.json: `planted` lists the copies, [kind, original, copy]; the kind is `exact` (the same pixels) or what
    was done to it, the original a file of this set or `shared/<organ>`, which other sets' lists may name too.
    """
    mark = root / "README.txt"
    if root.exists() and any(root.iterdir()):
        if not mark.is_file() or not mark.read_text(encoding="utf-8", errors="replace").startswith(MADE_HERE):
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
    listing, images, planted = [], 0, []
    with threadpool_limits(1):  # small products: a second thread costs time, eightfold where the other core is busy
        for file in progress(LAYOUTS[settings.layout](settings, random), f"simulating {settings.dataset}"):
            path = root / file.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            listing.append(f"{hashlib.sha256(file.content).hexdigest()}  {file.name}\n")
            images += file.images
            if file.copy_of:
                planted.append([*file.copy_of, file.name])
    write_json(
        root / "SIMULATED.json",
        {
            "seed": settings.seed,
            "settings": settings.model_dump(),
            "images": images,
            "planted": planted,
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
