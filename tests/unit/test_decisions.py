"""docs/decisions.md: every number once, listed, and there for whoever is sent to it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "decisions.md").read_text()
HEADINGS = re.findall(r"^### (D\d+)$", PAGE, flags=re.MULTILINE)


def test_every_decision_is_listed_in_order() -> None:
    assert len(set(HEADINGS)) == len(HEADINGS) > 70
    assert re.findall(r"\[(D\d+)\]\(#d\d+\)", PAGE) == HEADINGS


def test_every_decision_that_is_cited_is_there() -> None:
    files = [path for folder in ("workflow", "docs", "slurm") for path in (ROOT / folder).rglob("*")]
    cited = {}
    for path in [*files, ROOT / "config.yaml", ROOT / "README.md"]:
        if path.suffix in {".py", ".md", ".smk", ".yaml", ".rst", ".j2"} and path.name != "decisions.md":
            for name in re.findall(r"\((?:[^()]*\b)?(D\d{1,2})\b[^()]*\)", path.read_text()):
                cited.setdefault(name, path)
    assert len(cited) > 20
    assert {name: str(path) for name, path in cited.items() if name not in HEADINGS} == {}
