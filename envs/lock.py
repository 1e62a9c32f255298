"""Remake the pins in envs/ from pyproject.toml: sh envs/run lock [--upgrade | --upgrade-package NAME].

uv resolves once for all systems and Pythons, and keeps what is pinned unless an upgrade is asked for. What it finds is
split by who installs it, so that torch with CUDA and torch without stand beside the same rest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ENVS = Path(__file__).resolve().parent
PYTHONS = ["3.11", "3.12", "3.13"]
SYSTEMS = ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin"]
BUILD = {"setuptools"}  # what pip builds urfm and the packages below with
SOURCE = ["connection-pool"]  # published as source alone; plain Python
TORCH = re.compile(r"torch|torchvision|triton|cuda-.+|nvidia-.+")
FILES = {
    "build": "What pip builds urfm itself with; installed first.",
    "run": "Everything that the workflow runs with but torch, for Linux and macOS.",
    "cuda": "torch of the public registry: with CUDA on Linux, without it on macOS, where there is no other.",
    "cpu": "torch without CUDA for Linux, of an index that pip is given. No hashes: its files are its own.\n"
    "# None can come from the public registry, which takes no version with a + in it.",
    "dev": "Formatting, lint, types, tests and the tool that makes these files, on top of requirements.txt.",
}


def path(part: str) -> Path:
    """The file of a part."""
    return ENVS / ("requirements.txt" if part == "run" else f"requirements-{part}.txt")


def uv(*arguments: str) -> None:
    """Run uv, which must not know of this machine's settings."""
    environment = os.environ | {"UV_NO_CONFIG": "1", "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # torch's wheels need macOS 14
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], cwd=ENVS.parent, env=environment, check=True)


def entries(text: str) -> dict[str, str]:
    """What a file of pins says of each package: a line, or one for each of its versions, with hashes."""
    found: dict[str, str] = {}
    for entry in re.findall(r"^[a-z].*(?:\n .*)*\n", text, flags=re.MULTILINE):
        name = entry.partition("==")[0]
        found[name] = found.get(name, "") + entry
    return found


def resolved(lock: Path, extras: list[str], upgrades: list[str]) -> dict[str, str]:
    """All that pyproject.toml asks for with these extras, at the versions of `lock` where they will do."""
    uv(
        *("pip", "compile", "pyproject.toml", *(f"--extra={extra}" for extra in extras), "--output-file", str(lock)),
        *("--universal", "--python-version", PYTHONS[0], "--fork-strategy=fewest", "--generate-hashes"),
        *("--no-header", "--no-annotate", "--no-emit-index-url", *upgrades),
    )
    return entries(lock.read_text())


def has_wheels(lock: Path, system: str, python: str) -> None:
    """End where a package has no file with a hash in the lock that this system's pip can install."""
    uv(
        *("pip", "install", "--dry-run", "--no-deps", "--require-hashes", "--requirement", str(lock)),
        *("--python-platform", system, "--python-version", python, "--target", str(lock.parent / "nowhere")),
        *("--only-binary=:all:", *(f"--no-binary={name}" for name in SOURCE)),
    )


def main(upgrades: list[str]) -> None:
    """Resolve, check, split, write."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "lock.txt"
        pinned = [entries(path(part).read_text()) for part in ("run", "cuda", "dev", "build")]
        lock.write_text("".join(entry for part in pinned for entry in part.values()))
        everything = resolved(lock, ["workflow", "dev"], upgrades)
        for system in SYSTEMS:
            for python in PYTHONS:
                has_wheels(lock, system, python)
        running = resolved(lock, ["workflow"], []).keys()

    parts: dict[str, list[str]] = {part: [] for part in FILES}
    for name, entry in everything.items():
        if TORCH.fullmatch(name):
            parts["cuda"].append(entry)
        elif name in BUILD:
            parts["build"].append(entry)
        else:
            parts["run" if name in running else "dev"].append(entry)
    for name in ("torch", "torchvision"):
        version = everything[name].split()[0]
        parts["cpu"].append(f'{version}+cpu ; sys_platform == "linux"\n')
    parts["run"].insert(0, f"-r {path('build').name}\n")
    parts["dev"].insert(0, f"-r {path('run').name}\n")
    for part, lines in parts.items():
        path(part).write_text(f"# {FILES[part]}\n# Made by sh envs/run lock.\n" + "".join(lines))

    # conda's file has the pins without hashes: Snakemake copies it alone, so it cannot refer to the others.
    conda = ENVS / "urfm.yaml"
    text = "".join(entry for part in ("build", "run", "cuda") for entry in parts[part])
    pins = re.findall(r"^[a-z].*?(?= \\$)", text, flags=re.MULTILINE)
    head = conda.read_text().partition("  - pip:\n")[0]
    conda.write_text(head + "  - pip:\n" + "".join(f"      - {pin}\n" for pin in sorted(pins)))


if __name__ == "__main__":
    main(sys.argv[1:])
