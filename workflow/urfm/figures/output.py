"""What the command line of every figure takes and writes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from urfm.core.files import atomic_path, write_csv


def arguments(description: str) -> argparse.ArgumentParser:
    """--settings and --output; a figure adds its inputs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", required=True, help="JSON of the stage's settings")
    parser.add_argument("--output", type=Path, required=True, help="path without suffix; .pdf, .png and .csv are made")
    return parser


def save(stem: Path, figure: Figure, dpi: int, numbers: pd.DataFrame | None = None) -> None:
    """Write <stem>.pdf, <stem>.png and the numbers drawn as <stem>.csv, each whole or not at all.

    Equal figures give equal bytes.
    """
    with atomic_path(stem.with_name(f"{stem.name}.pdf")) as path:
        figure.savefig(path, format="pdf", metadata={"CreationDate": None})
    with atomic_path(stem.with_name(f"{stem.name}.png")) as path:
        figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})
    if numbers is not None:
        write_csv(stem.with_name(f"{stem.name}.csv"), numbers)
