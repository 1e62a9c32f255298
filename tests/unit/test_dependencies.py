"""pyproject.toml declares what the library imports, and nothing else; envs/ pins it, with hashes, for every system."""

import ast
import re
import runpy
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

HOME = Path(__file__).resolve().parents[2]
ENVS = HOME / "envs"
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKS = ["requirements-build.txt", "requirements.txt", "requirements-cuda.txt", "requirements-dev.txt"]


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
    declared = {normalised(re.split(r"[<>=!~;\[ ]", entry)[0]) for entry in PROJECT["dependencies"]}
    providers = packages_distributions()
    foreign = imported() - set(sys.stdlib_module_names) - {"urfm"}
    needed = {name: {normalised(provider) for provider in providers.get(name, [name])} for name in foreign}
    assert {name for name, distributions in needed.items() if not declared & distributions} == set()
    assert declared - set().union(*needed.values()) == set()


MACHINES = {
    "Linux": {"platform_system": "Linux", "sys_platform": "linux", "platform_machine": "x86_64"},
    "Linux, ARM": {"platform_system": "Linux", "sys_platform": "linux", "platform_machine": "aarch64"},
    "macOS": {"platform_system": "Darwin", "sys_platform": "darwin", "platform_machine": "arm64"},
}
PYTHONS = ["3.11", "3.12", "3.13"]


def environment(machine: str, python: str) -> dict[str, str]:
    """What markers see there."""
    versions = {"python_version": python, "python_full_version": f"{python}.0"}
    return {**MACHINES[machine], **versions, "os_name": "posix", "platform_python_implementation": "CPython"}


def lines(name: str) -> list[str]:
    """Entries of a file of envs, each with its hashes in one line."""
    text = (ENVS / name).read_text(encoding="utf-8").replace("\\\n", "")
    return [line for line in text.splitlines() if not line.startswith(("#", "-r "))]


def pins(*names: str) -> list[Requirement]:
    return [Requirement(line.partition(" --hash")[0]) for name in names for line in lines(name)]


def needed_there(machine: dict[str, str]) -> set[str]:
    """Distributions that the workflow and its tests need on a machine, by what the installed ones say of themselves."""
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(entry) for entry in [*PROJECT["dependencies"], *extras["workflow"], *extras["dev"]]]
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


@pytest.mark.parametrize("torch", ["cuda", "cpu"])
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_pins_are_for_every_system(machine: str, python: str, torch: str) -> None:
    """All that is needed is pinned, and nothing is asked for that a system does without, such as CUDA on macOS."""
    there = environment(machine, python)
    files = ("requirements-build.txt", "requirements.txt", "requirements-dev.txt", f"requirements-{torch}.txt")
    pinned = {normalised(pin.name) for pin in pins(*files) if not pin.marker or pin.marker.evaluate(there)}
    needed = needed_there(there) | {"setuptools"}
    if torch == "cpu":
        if machine == "macOS":
            needed -= {"torch", "torchvision"}  # its one torch is in the other file
        needed = {name for name in needed if not name.startswith(("nvidia-", "cuda-", "triton"))}
    assert needed ^ pinned == set()


def test_cuda_is_in_its_own_file_and_for_linux_alone() -> None:
    other = pins(*(path.name for path in ENVS.glob("requirements*.txt") if path.name != "requirements-cuda.txt"))
    assert not [pin for pin in other if re.match(r"nvidia|cuda|triton", pin.name)]
    there = [
        pin.name
        for pin in pins("requirements-cuda.txt")
        if not pin.marker or pin.marker.evaluate(environment("macOS", "3.11"))
    ]
    assert there == ["torch", "torchvision"]


@pytest.mark.parametrize("name", sorted(path.name for path in ENVS.glob("requirements*.txt")))
def test_one_version_and_its_hashes(name: str) -> None:
    assert lines(name)
    for line in lines(name):
        requirement, *hashes = line.split(" --hash=")
        assert re.fullmatch(r"[a-z0-9-]+==[^\s,*]+( ; .+)?", requirement.strip()), line
        if name == "requirements-cpu.txt":
            assert hashes == []
        else:
            assert hashes
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64} *", text) for text in hashes), line


def test_both_torches_are_of_one_version() -> None:
    with_cuda = {pin.name: str(pin.specifier) for pin in pins("requirements-cuda.txt")}
    without = {pin.name: str(pin.specifier) for pin in pins("requirements-cpu.txt")}
    assert without == {name: f"{with_cuda[name]}+cpu" for name in ("torch", "torchvision")}


def test_pins_are_within_pyproject() -> None:
    pinned = {normalised(pin.name): str(pin.specifier).removeprefix("==") for pin in pins(*LOCKS)}
    asked = [
        *PROJECT["dependencies"],
        *(entry for extra in PROJECT["optional-dependencies"].values() for entry in extra),
    ]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pinned[normalised(requirement.name)]), requirement


def test_pins_of_pip_and_conda_agree() -> None:
    conda = yaml.safe_load((ENVS / "urfm.yaml").read_text(encoding="utf-8"))["dependencies"][-1]["pip"]
    running = [name for name in LOCKS if name != "requirements-dev.txt"]
    assert sorted(map(str, map(Requirement, conda))) == sorted(map(str, pins(*running)))


def test_no_file_names_a_host_or_an_index() -> None:
    for path in ENVS.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"://|file:|--(extra-)?index-url|--find-links|--trusted-host|==\S* @ ", text), path


def test_one_range_of_pythons() -> None:
    """In pyproject.toml, in the check before .venv is made, and in what the lock is made for."""
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(20) if allowed.contains(f"3.{minor}.1")] == PYTHONS
    first, last = (f"(3, {minor})" for minor in (11, 14))
    assert f"{first} <= sys.version_info < {last}" in (ENVS / "run").read_text(encoding="utf-8")
    assert f"PYTHONS = {PYTHONS}".replace("'", '"') in (ENVS / "lock.py").read_text(encoding="utf-8")


def test_a_package_with_two_versions_keeps_both() -> None:
    """As uv writes it where no version is for all Pythons."""
    one = "numpy==1 ; python_full_version < '3.12' \\\n    --hash=sha256:1\n"
    other = "numpy==2 ; python_full_version >= '3.12' \\\n    --hash=sha256:2\n    --hash=sha256:3\n"
    entries = runpy.run_path(str(ENVS / "lock.py"))["entries"]
    assert entries(f"# head\n-r x.txt\n{one}{other}yte==1\n") == {"numpy": one + other, "yte": "yte==1\n"}
