"""The files that make up the configuration, and how they merge.

Snakemake reads them by `configfile:` and merges them in the same way; this is for whoever has no Snakemake: the
reference, the tests, and the Snakefile as a module with a `config:` of its own. Stages read none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

# Each stands above those before it; overlays (--configfile, --config, a module's `config:`) stand above them all.
PARTS = (
    "workflow/catalogue/datasets.yaml",
    "workflow/catalogue/tasks.yaml",
    "workflow/catalogue/models.yaml",
    "workflow/catalogue/paper.yaml",
    "config.yaml",
)


def load(home: Path, *overlays: Path) -> dict[str, Any]:
    """The configuration of a clone in `home`, with overlays, the last one on top."""
    content: dict[str, Any] = {}
    for path in [*(home / part for part in PARTS), *overlays]:
        merge(content, read(path))
    return content


def read(path: Path) -> dict[str, Any]:
    """One of the files."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def merge(base: dict[str, Any], extra: dict[str, Any]) -> None:
    """Lay `extra` over `base`, in place: mappings entry by entry, all else replaced, lists as well."""
    for key, value in extra.items():
        if isinstance(value, dict):
            inner = base[key] if isinstance(base.get(key), dict) else {}
            base[key] = inner
            merge(inner, value)
        else:
            base[key] = value
