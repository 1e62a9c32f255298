"""The images that the suite works on: BUS-BRA and Liver735 where the tests find them, else simulated ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from urfm.config import parts
from urfm.config.pretraining import PretrainSettings
from urfm.core.progress import warn
from urfm.data.images.build import Entry, write_store
from urfm.data.images.decode import decode
from urfm.data.images.pixels import Pixels, pixel_sha256
from urfm.data.images.store import ImageStore
from urfm.plan import completion, settings
from urfm.simulation.archive import SimulateSettings
from urfm.simulation.simulate import simulate

HOME = Path(__file__).resolve().parents[3]
LONG_SIDE = 512
SETS = {"BUS-BRA (PNG)": ("busbra", "BUSBRA", "Images/*.png"), "Liver735 (JPG)": ("aul", "AUL", "**/*.jpg")}
# Sides of what is simulated, pixels: like those of the real files.
SIDES = {"busbra": (320, 480), "aul": (600, 900)}


@dataclass(frozen=True)
class Bench:
    """What all groups are told.

    Attributes
    ----------
    folder
        An empty one, for whatever they write.
    quick
        To see that everything works: hardly any rounds, few images, small networks. The numbers mean nothing.
    """

    folder: Path
    quick: bool = False

    def rounds(self, wanted: int) -> int:
        """How many are measured."""
        return 2 if self.quick else wanted

    @cached_property
    def sets(self) -> dict[str, list[Path]]:
        """The same number of files of each set, spread over it, by the words for it."""
        count = 8 if self.quick else 64
        data = Path(os.environ.get("URFM_TEST_DATA", HOME.parent / "shared" / "data"))
        found = {}
        for title, (name, place, pattern) in SETS.items():
            files, words = sorted((data / place).glob(pattern)), title
            if not files:
                warn(f"no {place} in {data} (URFM_TEST_DATA): {title} is simulated")
                made = self.folder / "simulated" / name
                size = SIDES[name]
                simulate(SimulateSettings(dataset=name, layout=name, patients=count, image_size=size), made)
                files, words = sorted(made.glob(pattern)), f"{title}, simulated"
            found[words] = files[:: max(1, len(files) // count)][:count]
        return found


def configuration(profile: str = "") -> dict[str, Any]:
    """The configuration of the paper, or of a profile."""
    overlays = [HOME / "workflow" / "profiles" / profile / "config.yaml"] if profile else []
    config = parts.load(HOME, *overlays)
    completion.complete(config)
    return config


def pretraining(run: str, profile: str = "", **changes: Any) -> PretrainSettings:
    """The settings of a run, with changes."""
    told = settings.pretraining.pretraining(configuration(profile), run) | {"snapshot_every": 0} | changes
    if told["normalisation"] in ("data", "teacher"):
        told["normalisation"] = "imagenet"  # stages find them from images and teacher
    return PretrainSettings.model_validate(told)


def entries(paths: list[Path]) -> list[Entry]:
    """What a store is made from, as a manifest says it."""
    return [Entry(f"{row:05}", path, pixel_sha256(decode(path))) for row, path in enumerate(paths)]


def make_store(
    listed: list[Entry], folder: Path, through: Callable[[Pixels], Pixels] | None = None, **origin: Any
) -> ImageStore:
    """A store of files, in their order."""
    write_store(listed, folder, LONG_SIDE, 1, {"manifest_sha256": "", "simulated": False, **origin}, through=through)
    return ImageStore(folder)


def table(store: ImageStore) -> pd.DataFrame:
    """A pre-training set of all images of a store."""
    return pd.DataFrame({"image_id": store.image_ids, "dataset": store.folder.name, "organ": "one"})
