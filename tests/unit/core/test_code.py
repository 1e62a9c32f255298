"""Code digests: what changes them, what does not, and that nothing which can run is missed."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from urfm.core import code

LIBRARY = code.ROOT / code.PACKAGE
FILES = sorted(LIBRARY.rglob("*.py"))

STAGE = '''
"""Docstring."""
import math
from pathlib import Path

from urfm import shapes
from urfm.core.errors import UrfmError
from urfm.core.progress import progress, say
from urfm.readers import READERS
from urfm.shapes import RATIO as ratio, area

CHOICES = {"READERS": "source.reader"}
SIZE: int = 3


class Box(shapes.Base):
    """A box."""

    side: float = 1.0


def unused(x):
    return Missing(x)


def main(name: str = "a") -> None:
    """Do it."""
    if name == "":
        raise UrfmError(f"no name, {SIZE} expected")
    for item in progress(READERS[name](Path(".")), "reading"):
        say(f"read {item}")
        print(area(item) * ratio + math.pi, Box)  # product


if __name__ == "__main__":
    main()
'''
SHAPES = """
RATIO = 2
WORD = "unused"


class Base:
    pass


def area(side, height=2):
    return _product(side, height)


def _product(a, b):
    return a * b


def circle(radius):
    return 3 * radius
"""
READERS = """
from urfm import first, second

READERS = {"a": first.read, "b": second.read}
"""


class Library:
    """A small library in a folder; `digests` reads it afresh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "urfm"
        for name, text in {
            "__init__": "",
            "stage": STAGE,
            "shapes": SHAPES,
            "readers": READERS,
            "first": "def read(folder):\n    return [1]\n",
            "second": "SKIPPED = 1\n\n\ndef read(folder):\n    return [2, SKIPPED]\n",
        }.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / f"{name}.py").read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def definitions(self, reader: str | None = "all") -> dict[str, str]:
        """Of one reader, of none, or of all."""
        forget()
        return code.definitions("urfm.stage", None if reader == "all" else {"source": {"reader": reader}})


def forget() -> None:
    for cached in (code._reach, code._by_module, code.define, code.scope):
        cached.cache_clear()


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    monkeypatch.setattr(code, "ROOT", tmp_path)
    yield Library(tmp_path)
    forget()


def test_what_is_reached(library: Library) -> None:
    reached = {
        "urfm.stage": {"__main__", "main", "Box"},  # SIZE is named in a message alone
        "urfm.shapes": {"Base", "RATIO", "area", "_product"},
        "urfm.readers": {"READERS"},
        "urfm.first": {"read"},
        "urfm.second": {"read", "SKIPPED"},
    }
    assert set(library.definitions()) == {f"{module}:{name}" for module, names in reached.items() for name in names}
    assert set(library.definitions()) - set(library.definitions("a")) == {
        "urfm.second:read",
        "urfm.second:SKIPPED",
    }
    assert not [name for name in library.definitions(None) if name.startswith(("urfm.first", "urfm.second"))]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("stage", "# product", "# another comment"),
        ("stage", '"""Docstring."""', '"""Other words."""'),
        ("stage", '    """Do it."""\n', ""),
        ("stage", 'name: str = "a") -> None', 'name="a")'),
        ("stage", "no name,", "nobody,"),
        ("stage", 'say(f"read {item}")', 'say(f"seen {unused(item)}")'),
        ("stage", 'say(f"read {item}")', "pass"),
        ("stage", '"reading"', '"looking", every=3'),
        ("stage", "return Missing(x)", "return Missing(x, 2)"),
        ("stage", "\n\nclass Box", "\n\n\n# -----\nclass Box"),
        ("shapes", 'WORD = "unused"', 'WORD = "changed"'),
        ("shapes", "return 3 * radius", "return 3.14 * radius"),
        ("readers", '"b": second.read}', '"b": second.read, "c": first.read}'),
        ("second", "SKIPPED = 1", "SKIPPED = 2"),
    ],
)
def test_what_does_not_count(library: Library, module: str, old: str, new: str) -> None:
    before = library.definitions("a")
    library.edit(module, old, new)
    if new == "pass":
        library.edit(module, "        pass\n", "")
    assert library.definitions("a") == before


@pytest.mark.parametrize(
    ("module", "old", "new", "named"),
    [
        ("stage", 'name == ""', 'name == "x"', "urfm.stage:main"),
        ("stage", "* ratio", "/ ratio", "urfm.stage:main"),
        ("stage", "side: float = 1.0", "side: int = 1.0", "urfm.stage:Box"),  # of a class annotations do count
        ("stage", "import math", "import cmath as math", "urfm.stage:main"),
        ("stage", "RATIO as ratio", "area as ratio", "urfm.stage:main"),
        ("stage", "    main()\n", '    main("b")\n', "urfm.stage:__main__"),
        ("shapes", "RATIO = 2", "RATIO = 3", "urfm.shapes:RATIO"),
        ("shapes", "RATIO = 2", "RATIO = '2'", "urfm.shapes:RATIO"),
        ("shapes", "height=2", "height=3", "urfm.shapes:area"),
        ("shapes", "a * b", "b * a", "urfm.shapes:_product"),
        ("shapes", "    pass", "    x = 1", "urfm.shapes:Base"),
        ("first", "[1]", "[3]", "urfm.first:read"),
        ("readers", '"a": first.read', '"a": second.read', "urfm.readers:READERS"),
    ],
)
def test_what_counts(library: Library, module: str, old: str, new: str, named: str) -> None:
    before = library.definitions("a")
    library.edit(module, old, new)
    assert named in code.changes(before, library.definitions("a"))


def test_ways_to_reach_a_definition(library: Library) -> None:
    """Each of these forms is followed, in the module of the caller or through a third one."""
    library.write("far/__init__", "from urfm.shapes import circle\n\n\ndef __dir__():\n    return []\n")
    for call in (
        "import urfm.shapes\n    return urfm.shapes.circle(1)",
        "from urfm import shapes as s\n    return s.circle(1)",
        "from urfm.far import circle as c\n    return c(1)",
        "from urfm import far\n    return far.circle(1)",
        "from urfm import shapes\n    return vars(shapes)",
    ):
        library.write("stage", f"def main():\n    {call}\n\n\nif __name__ == '__main__':\n    main()\n")
        assert "urfm.shapes:circle" in library.definitions(), call


def test_what_a_module_does_when_it_is_imported_counts(library: Library) -> None:
    library.write("shapes", SHAPES + "\nif RATIO:\n    HEIGHT = circle(RATIO)\nprint(WORD)\n")
    assert {"urfm.shapes:__effects__", "urfm.shapes:circle", "urfm.shapes:WORD"} <= library.definitions().keys()


def test_mistakes_in_tables_are_errors(library: Library) -> None:
    library.edit("stage", '{"READERS"', '{"WRITERS"')
    with pytest.raises(KeyError, match="reaches no table WRITERS"):
        library.definitions("a")
    library.write("stage", "from urfm.shapes import gone\n\nprint(gone)\n\nif __name__ == '__main__':\n    gone()\n")
    with pytest.raises(LookupError, match="defines no gone"):
        library.definitions()


def test_a_digest_a_module(library: Library) -> None:
    digests = code.code_digests("urfm.stage", {"source": {"reader": "a"}})
    assert [item.split("@")[0] for item in digests] == ["urfm.first", "urfm.readers", "urfm.shapes", "urfm.stage"]
    assert all(len(item.split("@")[1]) == 12 for item in digests)


def test_digests_do_not_depend_on_the_python_version(library: Library) -> None:
    """`RATIO = 2`, flattened by hand."""
    parts = ["Assign", "targets", "[", "Name", "id", "str:'RATIO'", "]", "value", "Constant", "value", "int:2"]
    parts += ["urfm.shapes:RATIO"]  # the name it binds
    expected = hashlib.sha256("".join(f"{part}\0" for part in parts).encode()).hexdigest()[:12]
    assert library.definitions()["urfm.shapes:RATIO"] == expected


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_the_library_keeps_its_promises(path: Path) -> None:
    """No snakemake, nothing that names do not tell (the digests would miss it), no unpickling, no blind extraction."""
    imported = {
        alias.name.split(".")[0] for node in nodes(path) if isinstance(node, ast.Import) for alias in node.names
    }
    modules = {node.module or "" for node in nodes(path) if isinstance(node, ast.ImportFrom)}
    imported |= {name.split(".")[0] for name in modules - {"importlib.metadata"}}  # versions, no imports
    assert not imported & {"snakemake", "importlib", "pickle", "dill", "joblib"}
    assert not [node for node in nodes(path) if isinstance(node, ast.ImportFrom) and node.level]
    assert "*" not in {alias.name for node in nodes(path) if isinstance(node, ast.ImportFrom) for alias in node.names}
    calls = {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}
    assert not calls & {"__import__", "exec", "eval", "globals"}
    assert not {name for name in calls if name.endswith(("extractall", "pickle.load", "read_pickle", "__subclasses__"))}
    for node in nodes(path):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            weights_only = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}.get("weights_only")
            assert weights_only == "True"


def entries() -> list[str]:
    """Every module that runs as a command."""
    commands = [path for path in FILES if "__name__ ==" in path.read_text() and path.stem not in ("warm", "code")]
    return [".".join(path.relative_to(code.ROOT).with_suffix("").parts) for path in commands]


@pytest.mark.parametrize("entry", entries())
def test_every_name_of_the_library_is_understood(entry: str) -> None:
    found = code.definitions(entry)
    assert f"{entry}:main" in found
    assert not {name.split(":")[0] for name in found} & code.INERT


Reached = Callable[[str], set[str]]


@pytest.fixture
def rooms() -> Reached:
    def of(entry: str) -> set[str]:
        return {name.split(":")[0].split(".")[1] for name in code.definitions(entry)}

    return of


def test_what_is_made_by_another_stage_does_not_restart_training(rooms: Reached) -> None:
    """Training reaches what reads its inputs, not what wrote them: those are known by their hashes."""
    for stage in ("finetune", "pretrain"):
        found = rooms(f"urfm.training.{stage}.stage")
        assert not found & {"statistics", "figures", "tables", "interpret", "plan", "simulation", "download", "doctor"}


def test_choices_name_settings() -> None:
    """Each stage's CHOICES speak of keys that its settings have: `a.b` of a class that has a field `a`."""
    chosen = {}
    for entry in entries():
        for node in code.scope(entry).statements.get("CHOICES", []):
            assert isinstance(node, ast.Assign)
            chosen[entry] = ast.literal_eval(node.value)
    assert len(chosen) >= 6
    fields = {
        target.target.id
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.ClassDef)
        for target in node.body
        if isinstance(target, ast.AnnAssign) and isinstance(target.target, ast.Name)
    }
    for tables in chosen.values():
        assert {part for path in tables.values() for part in path.split(".")} <= fields
