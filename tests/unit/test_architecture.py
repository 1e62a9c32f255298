"""The map in docs/architecture.md is the house: rooms, what each uses, and where torch may be."""

import ast
import graphlib
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
LIBRARY = HOME / "workflow" / "urfm"
MAP = (HOME / "docs" / "architecture.md").read_text()
ROOMS = {
    cells[0].strip("`"): cells
    for line in MAP.split("## Rooms")[1].split("\n## ")[0].splitlines()
    if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0].startswith("`")
}


def room(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def imports() -> dict[str, set[str]]:
    """Room -> the rooms that it imports; the package's own door, `urfm`, is none."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in LIBRARY.rglob("*.py"):
        own = room(path.relative_to(LIBRARY).parts)
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            found[own] |= {name.split(".")[1] for name in names if name.startswith("urfm.")} - {own}
    del found["__init__"]
    return found


def test_the_map_shows_the_real_imports() -> None:
    wanted = {name: set(filter(None, re.split(r",\s*", cells[3]))) for name, cells in ROOMS.items()}
    assert {name: used - {"core"} for name, used in imports().items()} == wanted
    assert imports()["core"] == set()


def test_nothing_goes_round_in_a_circle() -> None:
    tuple(graphlib.TopologicalSorter(imports()).static_order())


@pytest.mark.parametrize("name", [name for name, cells in ROOMS.items() if cells[2] == "no"])
def test_torch_is_where_the_map_says(name: str) -> None:
    """Every module of the room is imported in a fresh process."""
    files = [LIBRARY / f"{name}.py"] if (LIBRARY / f"{name}.py").is_file() else sorted((LIBRARY / name).rglob("*.py"))
    modules = [".".join(path.relative_to(HOME / "workflow").with_suffix("").parts) for path in files]
    modules = [module.removesuffix(".__init__") for module in modules]
    program = f"import sys, {', '.join(modules)}; sys.exit(bool({{'torch', 'snakemake'}} & sys.modules.keys()))"
    environment = {"PYTHONPATH": str(HOME / "workflow"), "PATH": ""}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0


def test_every_place_on_the_map_is_there() -> None:
    named = set(re.findall(r"`((?:workflow|docs|tests|envs|slurm)/[\w./-]+)`", MAP))
    assert named
    assert not [name for name in named if not (HOME / name).exists()]
