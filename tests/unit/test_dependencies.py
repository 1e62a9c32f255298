"""pyproject.toml declares what the library imports, and nothing else."""

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


MACHINES = {
    "Linux": {"platform_system": "Linux", "sys_platform": "linux", "platform_machine": "x86_64"},
    "macOS": {"platform_system": "Darwin", "sys_platform": "darwin", "platform_machine": "arm64"},
}


def needed_there(machine: dict[str, str]) -> set[str]:
    """Distributions that the workflow needs on a machine, by what the installed ones say of themselves."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(entry) for entry in project["dependencies"] + project["optional-dependencies"]["workflow"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        key = normalised(requirement.name), frozenset(requirement.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            inner = [Requirement(text) for text in distribution(requirement.name).requires or []]
        except PackageNotFoundError:  # of another system
            continue
        contexts = [{**machine, "extra": extra} for extra in ("", *requirement.extras)]
        wanted += [item for item in inner if not item.marker or any(map(item.marker.evaluate, contexts))]
    return {name for name, _ in seen}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_pins_are_for_every_system(machine: str, python: str) -> None:
    """All that is needed is pinned, and nothing is asked for that a system does without, such as CUDA on macOS."""
    environment = {
        **MACHINES[machine],
        "os_name": "posix",
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    lines = (HOME / "envs" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {normalised(pin.name) for pin in pins if not pin.marker or pin.marker.evaluate(environment)}
    needed = needed_there(environment)
    assert needed - pinned == set()
    # These two are small and can be had everywhere.
    assert pinned - needed - {"greenlet", "importlib-resources"} == set()
