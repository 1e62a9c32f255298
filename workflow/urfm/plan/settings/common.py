"""What several sections leave out of a record."""

from __future__ import annotations

from urfm.plan.availability import Config, stand_ins


def without_origin(record: Config) -> Config:
    """Where a file is published changes no result."""
    return {key: value for key, value in record.items() if key != "origin"}


def weights(config: Config, record: Config) -> Config:
    """What is read of a checkpoint or a teacher; a stand-in has another hash than the published file."""
    kept = without_origin(record)
    if record.get("file") in stand_ins(config):
        kept.pop("sha256", None)
    return kept
