"""pyproject.toml declares what the library imports, and nothing else."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]


def imported() -> set[str]:
    """Top-level names of all modules that workflow/urfm imports, anywhere in its files."""
    names: set[str] = set()
    for path in (HOME / "workflow" / "urfm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def normalised(name: str) -> str:
    """PyPI's form of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {normalised(re.split(r"[<>=!~;\[ ]", entry)[0]) for entry in project["dependencies"]}
    providers = packages_distributions()
    foreign = imported() - set(sys.stdlib_module_names) - {"urfm"}
    needed = {name: {normalised(provider) for provider in providers.get(name, [name])} for name in foreign}
    assert {name for name, distributions in needed.items() if not declared & distributions} == set()
    assert declared - set().union(*needed.values()) == set()
