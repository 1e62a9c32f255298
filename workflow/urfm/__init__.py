"""URFM: the reference workflow for ultrasound foundation models, as a library.

Every stage of the workflow is a module that can also be run by hand
(`python -m urfm.data.manifest --help`). Nothing in here imports snakemake or
reads the configuration file: a stage gets its settings as one JSON object.

An encoder in use: `urfm.load("results/encoders/urfm.json").embed(image)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from urfm.config.fields import Pooling
    from urfm.embed import Encoder


def load(path: str | Path, pooling: Pooling = "mean") -> Encoder:
    """An encoder by its json, its safetensors or its folder (see urfm.embed.load)."""
    from urfm import embed  # torch is imported when an encoder is wanted, and not before

    return embed.load(path, pooling)
