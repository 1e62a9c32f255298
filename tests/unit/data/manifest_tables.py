"""Manifests of small data sets as tables in memory."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from urfm.data.datasets.common import Record
from urfm.data.manifest import write_manifest
from urfm.data.records import ManifestSettings, metadata


def to_table(records: Iterable[Record], dataset: str) -> pd.DataFrame:
    """The manifest's metadata columns, where no image is at hand."""
    return pd.DataFrame([metadata(record, dataset) for record in records])


def make_manifest(root: Path, settings: ManifestSettings, processes: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest and the rejected list of one data set."""
    with TemporaryDirectory() as folder:
        manifest, rejected = Path(folder) / "manifest.parquet", Path(folder) / "rejected.csv"
        write_manifest(root, settings, processes, manifest, rejected)
        return pd.read_parquet(manifest), pd.read_csv(rejected, dtype=str, keep_default_na=False)
