"""Code digests: what changes them, what does not, and that the static closure misses nothing."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from urfm.core import provenance

ROOT = Path(provenance.__file__).parents[1]
ENTRIES = [
    "urfm.simulation.simulate",
    "urfm.data.manifest",
    "urfm.data.images",
    "urfm.data.splits.stage",
    "urfm.targets.build",
    "urfm.training.pretrain.stage",
    "urfm.models.encoders",
    "urfm.models.export",
    "urfm.training.finetune.stage",
    "urfm.statistics.seed_scores",
    "urfm.statistics.stage",
    "urfm.interpret.probes",
    "urfm.figures.figure_2",
    "urfm.figures.loss_curves",
    "urfm.figures.probe_curves",
    "urfm.figures.reconstructions",
    "urfm.tables.table_2",
    "urfm.tables.settings_table",
]
WITHOUT_TORCH = [entry for entry in ENTRIES if entry.split(".")[1] in ("statistics", "figures", "tables")]

SOURCE = '''"""Docstring."""
import os

RATE = 0.1


def area(width, height=2):
    """Area."""
    return width * height  # product
'''


def digest(text: str, folder: Path) -> str:
    path = folder / "module.py"
    path.write_text(text)
    provenance.syntax_digest.cache_clear()
    return provenance.syntax_digest(path)


@pytest.mark.parametrize(
    "changed",
    [
        SOURCE.replace("# product", "# another comment"),
        SOURCE.replace('"""Docstring."""', '"""Other words."""'),
        SOURCE.replace('    """Area."""\n', ""),
        SOURCE.replace("width * height", "(width\n            * height)"),
        SOURCE + "\n\n",
    ],
)
def test_digest_ignores_what_cannot_change_a_result(changed: str, tmp_path: Path) -> None:
    assert changed != SOURCE
    assert digest(changed, tmp_path) == digest(SOURCE, tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        SOURCE.replace("0.1", "0.2"),
        SOURCE.replace("height=2", "height=3"),
        SOURCE.replace("width * height", "height * width"),
        SOURCE.replace("width * height", "width + height"),
        SOURCE.replace("import os", "import sys"),
        SOURCE.replace("0.1", "'0.1'"),
    ],
)
def test_digest_sees_code(changed: str, tmp_path: Path) -> None:
    assert digest(changed, tmp_path) != digest(SOURCE, tmp_path)


def test_digest_does_not_depend_on_the_python_version() -> None:
    # Computed once by hand-flattening `x = 1`: Module body [ Assign targets [ Name id x ] value Constant value 1 ].
    import hashlib

    parts = ["Module", "body", "[", "Assign", "targets", "[", "Name", "id", "str:'x'", "]"]
    parts += ["value", "Constant", "value", "int:1", "]"]
    expected = hashlib.sha256(b"".join(part.encode() + b"\0" for part in parts)).hexdigest()[:12]
    assert (
        expected
        == hashlib.sha256(
            b"".join(part.encode() + b"\0" for part in provenance._flatten(ast.parse("x = 1"), []))
        ).hexdigest()[:12]
    )


@pytest.mark.parametrize("entry", ENTRIES)
def test_static_closure_contains_what_really_is_imported(entry: str) -> None:
    program = (
        f"import sys, json, {entry}; "
        "print(json.dumps([name for name in sys.modules if name.split('.')[0] in ('urfm', 'torch')]))"
    )
    environment = {"PYTHONPATH": str(ROOT.parent), "PATH": "/usr/bin:/bin"}
    loaded = set(json.loads(subprocess.check_output([sys.executable, "-c", program], env=environment, text=True)))
    static = {item.split("@")[0] for item in provenance.code_digests(entry)} | provenance.INERT
    assert {name for name in loaded if name.startswith("urfm")} <= static
    if entry in WITHOUT_TORCH:
        assert "torch" not in loaded


def test_metrics_do_not_reach_fine_tuning() -> None:
    closure = {item.split("@")[0] for item in provenance.code_digests("urfm.training.finetune.stage")}
    chooses_by = {"urfm.metrics"}  # what the best epoch is chosen by
    others = closure - chooses_by
    assert not {name for name in others if name.startswith(("urfm.statistics", "urfm.figures", "urfm.tables"))}
    assert not {name for name in closure if name.startswith(("urfm.training.pretrain", "urfm.interpret"))}


def test_what_the_library_offers_to_people_restarts_nothing() -> None:
    """Every module has the package `urfm` above it, whose `load` reaches for torch and timm."""
    assert "urfm.embed" in provenance.imported_modules("urfm")
    assert not [
        item for item in provenance.code_digests("urfm.statistics.seed_scores") if item.startswith("urfm.models")
    ]


def test_what_is_made_by_another_stage_does_not_restart_training() -> None:
    """Training imports what reads its inputs, not what wrote them: those are known by their hashes."""
    finetune, pretrain = (
        {item.split("@")[0] for item in provenance.code_digests(f"urfm.training.{stage}.stage")}
        for stage in ("finetune", "pretrain")
    )
    assert not finetune & {
        "urfm.models.checkpoints",
        "urfm.models.encoders",
        "urfm.data.splits.stage",
        "urfm.data.counts",
    }
    assert "urfm.targets.build" not in pretrain


def test_canonical_json_is_canonical() -> None:
    assert provenance.canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'
    swapped = provenance.canonical_json({"lr": 0.1, "wd": 0.2}), provenance.canonical_json({"lr": 0.2, "wd": 0.1})
    assert swapped[0] != swapped[1]


def calls(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_library_keeps_its_promises(path: Path) -> None:
    """No snakemake, no imports by name (the closure would miss them), no unpickling, no blind extraction."""
    tree = ast.parse(path.read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.split(".")[0] for name in modules - {"importlib.metadata"}}  # versions, no imports
    assert not imported & {"snakemake", "importlib", "pickle", "dill", "joblib"}
    names = calls(path)
    assert not names & {"__import__", "exec", "eval"}
    assert not {name for name in names if name.endswith(("extractall", "pickle.load", "read_pickle"))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            weights_only = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get("weights_only")
            assert weights_only == "True"


def test_fingerprint_ignores_key_order_and_sees_every_value() -> None:
    assert provenance.fingerprint({"a": 1, "b": (2, 3)}, "x") == provenance.fingerprint({"b": [2, 3], "a": 1}, "x")
    assert provenance.fingerprint({"a": 1}) != provenance.fingerprint({"a": 2})
    assert provenance.fingerprint("ab", "c") != provenance.fingerprint("a", "bc")
