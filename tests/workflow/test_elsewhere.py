"""The workflow from another folder, as a module of another workflow, and with blanks in every path."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from working_copy import HOME, Repository

TINY = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
DATA = ["manifests/busbra.json", "images/busbra/store.json", "splits/breast_tumor/paper.json", "tables/table_2.csv"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A fresh clone, itself in a folder with a blank in its name."""
    folder = tmp_path_factory.mktemp("clones") / "my clone"
    folder.mkdir()
    return Repository(folder)


def overlays(repository: Repository, folder: Path, results: str, root: str, below: str = "") -> list[str]:
    """The demo and on top of it the smallest run, in these places; `below` is the prefix of a module."""
    places = {"pathvars": {"results": results}, "data_root": root, "checkpoint_root": f"{below}{results}/checkpoints"}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY | places))
    return [str(repository.folder / "workflow" / "profiles" / "demo" / "config.yaml"), "tiny.yaml"]


def planned(output: str) -> Counter[str]:
    return Counter(re.findall(r"^\s*(?:local)?rule (\w+):", output, flags=re.MULTILINE))


def test_from_another_folder(repository: Repository, tmp_path: Path) -> None:
    """Results, data and overlays are those of that folder; nothing is written beside the Snakefile."""
    (tmp_path / "my.yaml").write_text("data_root: archives\nseeds: [0, 1]")
    here = ["--snakefile", str(repository.folder / "Snakefile"), "--configfile", "my.yaml"]
    output = repository.snakemake("--dry-run", *here, where=tmp_path)
    assert "archives is not there yet: this is the plan for all data" in output
    assert planned(output)["all"] == 1
    (tmp_path / "archives").mkdir()
    repository.snakemake("table_4", "--cores", "1", *here, where=tmp_path)
    assert (tmp_path / "results" / "tables" / "table_4.csv").is_file()
    assert not (repository.folder / "results").exists()


def test_a_profile_from_another_folder(repository: Repository, tmp_path: Path) -> None:
    """It brings its overlay, which lies beside it."""
    profile = str(repository.folder / "workflow" / "profiles" / "demo")
    here = ["--snakefile", str(repository.folder / "Snakefile"), "--profile", profile]
    output = repository.snakemake("table_4", *here, where=tmp_path)
    assert (tmp_path / "results" / "demo" / "tables" / "table_4.csv").is_file(), output


def test_into_another_folder(repository: Repository, tmp_path: Path) -> None:
    """`--directory`; the path of an overlay is one of the folder in which it is typed."""
    (repository.folder / "my.yaml").write_text("data_root: archives")
    there = ["--directory", str(tmp_path), "--configfile", "my.yaml"]
    assert planned(repository.snakemake("--dry-run", *there))["all"] == 1
    (tmp_path / "archives").mkdir()
    repository.snakemake("table_4", "--cores", "1", *there)
    assert (tmp_path / "results" / "tables" / "table_4.csv").is_file()
    assert not (repository.folder / "results").exists()


MODULE = """
configfile: {overlay!r}
configfile: "tiny.yaml"

rule mine:
    input: "{below}out/tables/table_4.csv"
    output: "mine.csv"
    shell: "cp {{input:q}} {{output}}"

module urfm:
    snakefile: {snakefile!r}
    config: config
    {prefix}

use rule * from urfm as urfm_*
"""


@pytest.mark.parametrize("below", ["", "sub/"], ids=["no prefix", "prefix"])
def test_as_a_module(repository: Repository, tmp_path: Path, below: str) -> None:
    """The same jobs as by itself, and the first rule of the workflow around it stays the one that `snakemake` runs."""
    overlay = overlays(repository, tmp_path, "out", "raw", below)
    snakefile = str(repository.folder / "Snakefile")
    prefix = f"prefix: {below.rstrip('/')!r}" if below else ""
    text = MODULE.format(overlay=overlay[0], below=below, snakefile=snakefile, prefix=prefix)
    (tmp_path / "Snakefile").write_text(text)
    jobs = planned(repository.snakemake("urfm_all", "--dry-run", where=tmp_path))

    repository.snakemake("--cores", "2", where=tmp_path)
    assert (tmp_path / "mine.csv").read_bytes() == (tmp_path / below / "out/tables/table_4.csv").read_bytes()
    repository.snakemake(*(f"{below}out/{name}" for name in DATA), "--cores", "2", where=tmp_path)
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["AUL", "BUSBRA"]
    assert planned(repository.snakemake(f"{below}out/{DATA[0]}", "--dry-run", where=tmp_path)) == Counter()

    alone = tmp_path / "alone"
    alone.mkdir()
    arguments = ["all", "--dry-run", "--snakefile", snakefile, "--configfile"]
    output = repository.snakemake(*arguments, *overlays(repository, alone, "out", "out/raw"), where=alone)
    assert jobs == Counter({f"urfm_{rule}": count for rule, count in planned(output).items()})


def test_a_module_with_three_lines(repository: Repository, tmp_path: Path) -> None:
    """docs/extending.md's. They stand above config.yaml; what the workflow around is given is none of the module's."""
    section = (HOME / "docs" / "extending.md").read_text().split("# The workflow as a part of another", 1)[1]
    block = re.search(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert block
    (tmp_path / "Snakefile").write_text(block[1])
    (tmp_path / "urfm").symlink_to(repository.folder)
    (tmp_path / "archives").mkdir()
    arguments = ["urfm_table_5", "--printshellcmds", "--config", "mine={lr: 1e-3}"]
    output = repository.snakemake(*arguments, "--cores", "1", where=tmp_path)
    assert '"seeds":[0,1]' in output
    assert (tmp_path / "results" / "urfm" / "tables" / "table_5.csv").is_file()


def test_two_modules_do_not_share_their_places(repository: Repository, tmp_path: Path) -> None:
    text = """
module {name}:
    snakefile: {snakefile!r}
    config: {{"data_root": "{name}"}}

use rule * from {name} as {name}_*
"""
    snakefile = str(repository.folder / "Snakefile")
    modules = [text.format(name=name, snakefile=snakefile) for name in ("first", "second")]
    (tmp_path / "Snakefile").write_text("".join(modules))
    output = repository.snakemake("first_table_4", "--dry-run", where=tmp_path, check=False)
    assert "two modules of URFM in one workflow must have the same data_root, checkpoint_root and results" in output


# What a command does with its arguments, in place of the programs that it calls: they are printed, a zero after each.
STUBS = """set -euo pipefail
python() { printf '%s\\0' "$@"; }
sh() { printf '%s\\0' "$@"; }
tee() { cat; printf '%s\\0' "$@"; }
"""


def test_blanks_in_every_path(repository: Repository, tmp_path: Path) -> None:
    """Every command of a plan for everything gets whole paths; those of the data are run."""
    overlay = overlays(repository, tmp_path, "my results", "my results/my data")
    here = ["--snakefile", str(repository.folder / "Snakefile"), "--configfile", *overlay]
    output = repository.snakemake("--dry-run", "--printshellcmds", *here, where=tmp_path)
    blocks = re.findall(r"rule (\w+):\n((?: {4}.*\n)+)Shell command: \n((?: {8}.*\n)+)", output)
    assert {rule for rule, *_ in blocks} == set(planned(output)) - {"all"}
    places = {"URFM_DATA": "my results/my data", "URFM_CHECKPOINTS": "my results/checkpoints"}
    places |= {"URFM_STATE": "my results/state", "URFM_LAUNCH": str(repository.folder / "workflow" / "launch.sh")}
    for rule, _, command in {rule: (rule, _, command) for rule, _, command in blocks}.values():
        done = subprocess.run(
            ["bash", "-c", STUBS + command], env=os.environ | places, capture_output=True, text=True, check=True
        )
        arguments = done.stdout.split("\0")
        whole = [argument for argument in arguments if "my results/" in argument and not argument.startswith("{")]
        assert len(whole) >= 2, rule  # at least what is written and the log
        parts = [part for argument in arguments for part in ("my", "results/", "data", "clone/") if argument == part]
        parts += [argument for argument in arguments if re.match(r"results/|data/|clone/|.*/my$", argument)]
        assert not parts, f"{rule}: {arguments}"

    repository.snakemake(*(f"my results/{name}" for name in DATA), "--cores", "2", *here, where=tmp_path)
    assert all((tmp_path / "my results" / name).is_file() for name in DATA)
    assert (tmp_path / "my results" / "my data" / "BUSBRA" / "SIMULATED.json").is_file()
