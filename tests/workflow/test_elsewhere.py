"""The workflow from another folder, as a module of another workflow, and with any character in every path."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest
import yaml
from working_copy import HOME, Repository

TINY = yaml.safe_load((HOME / "tests" / "workflow" / "tiny.yaml").read_text())
DATA = ["manifests/busbra.json", "images/busbra/store.json", "splits/breast_tumor/paper.json", "tables/table_2.csv"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A fresh clone, itself in a folder whose name would do something in a shell."""
    folder = tmp_path_factory.mktemp("clones") / 'clone1 it\'s "2" $(touch executed) & Größe; `touch executed`'
    folder.mkdir()
    return Repository(folder)


@pytest.fixture(autouse=True)
def _nothing_is_executed(repository: Repository, tmp_path: Path) -> Iterator[None]:
    """No part of a name is taken for a command."""
    yield
    assert not [*tmp_path.rglob("executed"), *repository.folder.rglob("executed")]


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
RESULTS = 'results1 it\'s "2" $(touch executed) & Größe; `touch executed` *'
DATA_ROOT = f'{RESULTS}/data1 it\'s "2" $(touch executed)'
# What the demo leaves out: a frozen encoder, a comparison of one's own.
MORE = {
    "models": {"linear": {"title": "L", "pretraining": "urfm", "mode": "linear_probe"}},
    "comparisons": {
        "mine": {"models": ["urfm", "linear"], "reference": "urfm", "tasks": ["breast_tumor"], "shares": [100]}
    },
}
PLACES = {"pathvars": {"results": RESULTS}, "data_root": DATA_ROOT, "checkpoint_root": f"{RESULTS}/checkpoints"}


def rules_with_commands() -> set[str]:
    """All of them; a rule made of another by `use rule` has its command."""
    names = set()
    for path in (HOME / "workflow" / "rules").glob("*.smk"):
        for block in re.split(r"^(?=(?:use )?rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            name = re.match(r"use rule \w+ as (\w+)|rule (\w+)", block)
            if name and (block.startswith("use") or "\n    shell:" in block):
                names.add(name[1] or name[2])
    return names


@pytest.fixture(scope="module")
def commands(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A command of every rule, of a plan for everything in odd places."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "odd.yaml").write_text(yaml.safe_dump(PLACES | MORE, allow_unicode=True))
    demo = str(repository.folder / "workflow" / "profiles" / "demo" / "config.yaml")
    arguments = ["--snakefile", str(repository.folder / "Snakefile"), "--configfile", demo, "odd.yaml"]
    targets = ["all", "pretraining", "export", "download", "doctor", "check_data", "cost"]
    output = repository.snakemake(*targets, "--dry-run", "--printshellcmds", *arguments, where=folder)
    assert not list(folder.rglob("executed"))
    blocks = re.findall(r"rule (\w+):\n(?: {4}.*\n)+Shell command: \n((?: {8}.*\n)+)", output)
    return dict(blocks)


def test_any_character_in_every_path(repository: Repository, commands: dict[str, str], tmp_path: Path) -> None:
    """Every command of every rule gets whole paths."""
    assert commands.keys() >= rules_with_commands()
    clone = str(repository.folder)
    places = {"URFM_DATA": DATA_ROOT, "URFM_CHECKPOINTS": f"{RESULTS}/checkpoints"}
    places |= {"URFM_STATE": f"{RESULTS}/state", "URFM_LAUNCH": f"{clone}/workflow/launch.sh"}
    for rule, command in commands.items():
        done = subprocess.run(
            ["bash", "-c", STUBS + command],
            cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, check=True,
        )  # fmt: skip
        arguments = [argument for argument in done.stdout.split("\0") if not argument.startswith("{")]
        whole = [argument for argument in arguments if argument.startswith((RESULTS, clone))]
        assert len(whole) >= (1 if rule in ("doctor", "download", "check_data", "cost") else 2), (
            rule
        )  # what is written, and the log
        rests = [argument.replace(DATA_ROOT, "").replace(RESULTS, "").replace(clone, "") for argument in arguments]
        assert not [rest for rest in rests if re.search("[12] |it's|touch|executed|Größe", rest)], rule


def test_every_field_of_a_command_is_quoted() -> None:
    """But for numbers, and for names that a rule constrains to those of the configuration."""
    bare = re.compile(r"threads|resources\.\w+|wildcards\.(model|run|task|share)")
    found = 0
    for path in (HOME / "workflow" / "rules").glob("*.smk"):
        for command in re.findall(r'shell:\n\s+"""\n(.*?)"""', path.read_text(), flags=re.DOTALL):
            for _, field, form, _ in Formatter().parse(command):
                found += field is not None
                assert field is None or form == "q" or bare.fullmatch(field), f"{path.name}: {field}"
    assert found > 150


def test_the_first_stages_run_in_odd_places(repository: Repository, tmp_path: Path) -> None:
    overlay = overlays(repository, tmp_path, RESULTS, DATA_ROOT)
    here = ["--snakefile", str(repository.folder / "Snakefile"), "--configfile", *overlay]
    repository.snakemake(*(f"{RESULTS}/{name}" for name in DATA), "--cores", "2", *here, where=tmp_path)
    assert all((tmp_path / RESULTS / name).is_file() for name in DATA)
    assert (tmp_path / DATA_ROOT / "BUSBRA" / "SIMULATED.json").is_file()


def test_braces_are_refused(repository: Repository, tmp_path: Path) -> None:
    """Snakemake takes them for wildcards."""
    here = ["--snakefile", str(repository.folder / "Snakefile"), "--dry-run", "--config"]
    wrong = [*here, "pathvars={results: 'a{b}'}", "data_root=x{y}"]
    output = repository.snakemake(*wrong, where=tmp_path, check=False)
    assert "pathvars.results: 'a{b}' holds a brace or a line break" in output
    assert "data_root: 'x{y}' holds a brace or a line break" in output
    other = tmp_path / "clone{x}"
    other.mkdir()
    output = Repository(other).snakemake("--dry-run", check=False)
    assert f"{other}: the path of this clone holds a brace, a colon or a line break" in output


# Trains until it is told to stop, and takes a moment to save.
TRAINING = """
import time
from pathlib import Path
from urfm.training import state

with state.stop_signals() as stop:
    print("waiting", flush=True)
    while not stop:
        time.sleep(0.01)
    print("saving", flush=True)
    time.sleep(0.5)
    Path("saved").touch()
    stop.leave()
"""


@pytest.mark.parametrize("rule", ["pretrain", "finetune"])
@pytest.mark.parametrize("nohup", [False, True], ids=["", "nohup"])
def test_a_closed_terminal_lets_training_save(
    repository: Repository, commands: dict[str, str], tmp_path: Path, rule: str, nohup: bool
) -> None:
    """The rule's own shell, with a program in place of the training; under nohup it goes on."""
    command = commands[rule]
    (written,) = re.findall(r"tee -i (.*?)\)?\n", command)
    log = tmp_path / shlex.split(written)[0]
    log.parent.mkdir(parents=True)
    (tmp_path / "training.py").write_text(TRAINING)
    program = f"() {{ {shlex.quote(sys.executable)} training.py; }}\n"
    script = f"set -euo pipefail\npython{program}sh{program}{command}"
    places = {"URFM_CHECKPOINTS": "c", "URFM_STATE": "s", "URFM_LAUNCH": "l", "PYTHONPATH": str(HOME / "workflow")}
    # The shell of a terminal gets the signal and dies of it; then all that it had started get it.
    shell = '(trap "" HUP; exec bash -c "$1"); exit' if nohup else 'bash -c "$1"; exit'
    leader, terminal = pty.fork()
    if leader == 0:
        os.chdir(tmp_path)
        os.execvpe("sh", ["sh", "-c", shell, "sh", script], os.environ | places)
    said = b""
    while b"waiting" not in said:
        said += os.read(terminal, 1000)
    os.close(terminal)
    _, status = os.waitpid(leader, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGHUP
    number = signal.SIGTERM if nohup else signal.SIGHUP
    if nohup:
        time.sleep(0.5)
        assert log.read_text() == "waiting\n"
        os.killpg(leader, signal.SIGTERM)
    limit = time.monotonic() + 60
    while f"stopped by {number.name}" not in log.read_text():
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.05)
    assert (tmp_path / "saved").exists()
