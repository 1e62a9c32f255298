"""The configuration as the rules see it: the files merged, what they leave unsaid filled in. The tests' one loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from urfm.config import parts
from urfm.plan import completion

HOME = Path(__file__).resolve().parents[1]


def load(*overlays: Path) -> dict[str, Any]:
    """The paper's configuration with overlays, the last one on top."""
    return completed(parts.load(HOME, *overlays))


def profile(name: str) -> dict[str, Any]:
    """The configuration of a profile, `demo` or `pocket`."""
    return load(HOME / "workflow" / "profiles" / name / "config.yaml")


def overlaid(text: str) -> dict[str, Any]:
    """The paper's configuration under an overlay given as YAML."""
    content = parts.load(HOME)
    parts.merge(content, yaml.safe_load(text))
    return completed(content)


def completed(content: dict[str, Any]) -> dict[str, Any]:
    completion.complete(content)
    return content


PAPER = load()
