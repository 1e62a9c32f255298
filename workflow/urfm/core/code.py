"""Which code a stage depends on: every definition that its entry point can reach, as short digests.

A rule passes two kinds of params and no other, since Snakemake compares them as an unordered set: `module@digest` for
each module of which something is reached, and one JSON string of the settings it reads. The reason for a rerun then
names the module or the setting.

Snakemake does not see imports, and a whole module is too much: an unused helper, or a reader of another data set, would
train everything again. So a stage depends on *definitions*, the functions, classes and constants at the top level of
our modules. From the entry point's last lines (`run(main)`) we follow every name in a definition's syntax tree to what
it stands for, in whichever module, and so on. A name that a local variable hides is followed all the same, a class
counts whole, a module that is handed on as an object counts whole: too much at times, never too little.

Tables. Where a stage picks an implementation by a name from its settings, the choices are one dictionary at the top of
a module, such as READERS. The stage's module says which setting it is, `CHOICES = {"READERS": "reader"}`, and of the
table then counts that entry alone.

What does not count, because no result depends on it: comments, docstrings, layout, annotations of functions, and words
for people: what is passed to `say` and `warn`, to UrfmError and ValueError, the detail of UnusableImage, labels of
progress, descriptions of fields and of command lines. docs/reliability.md tells it to users.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "urfm"
# Words for people, and this: never followed, never counted.
INERT = {f"{PACKAGE}.core.{name}" for name in ("errors", "progress", "provenance", "code", "lock", "children", "kept")}

SPOKEN = {"say", "warn"}  # a line that calls one is not there at all
# Callables that take words: how many of the first arguments count, and whether those given by name do.
WORDS = {"UrfmError": 0, "ValueError": 0, "UnusableImage": 1, "progress": 1, "byte_progress": 1}
DESCRIBED = {
    "Field": {"description", "title", "examples"},
    "ArgumentParser": {"description", "epilog"},
    "add_argument": {"help", "metavar"},
}


def code_digests(entry: str, settings: Mapping[str, Any]) -> list[str]:
    """`module@digest` for every module that a stage reaches something of; parameters as of `definitions`."""
    return list(_by_module(entry, _choices(entry, settings)))


def definitions(entry: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """`module:definition` -> digest of all that a stage reaches, sorted.

    Parameters
    ----------
    entry
        Dotted name of a module that runs as a command, e.g. "urfm.data.manifest".
    settings
        What the stage is told; the CHOICES of its module read which entries of tables count. None: all of them.

    Raises
    ------
    KeyError
        If a table that CHOICES names is not reached.
    """
    return dict(_reach(entry, _choices(entry, settings) if settings is not None else ()))


Choices = tuple[tuple[str, str | None], ...]


def _choices(entry: str, settings: Mapping[str, Any]) -> Choices:
    """The tables of a module's CHOICES, and the key that the settings choose; None where they leave it out."""
    named: dict[str, str] = {}
    for node in scope(entry).statements.get("CHOICES", []):
        if isinstance(node, ast.Assign):
            named = ast.literal_eval(node.value)
    found = []
    for table, path in named.items():
        value: Any = settings
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        found.append((table, value))
    return tuple(found)


@cache
def _by_module(entry: str, choices: Choices) -> tuple[str, ...]:
    parts: dict[str, list[str]] = {}
    for name, digest in _reach(entry, choices).items():
        parts.setdefault(name.split(":")[0], []).append(f"{name}@{digest}")
    return tuple(f"{module}@{_sha256(names)}" for module, names in sorted(parts.items()))


@cache
def _reach(entry: str, choices: Choices) -> dict[str, str]:
    chosen = dict(choices)
    found: dict[str, str] = {}
    tables: set[str] = set()
    waiting = [(entry, "__main__")]
    while waiting:
        module, name = waiting.pop()
        label = f"{module}:{name}"
        if label in found:
            continue
        item = define(module, name)
        if name in chosen and item.table is not None:
            tables.add(name)
            item = item.entry(chosen[name])
        found[label] = item.digest
        waiting += item.reaches
        if "__effects__" in scope(module).statements:
            waiting.append((module, "__effects__"))
    if absent := chosen.keys() - tables:
        raise KeyError(f"{entry} reaches no table {', '.join(sorted(absent))}, which its CHOICES name")
    return dict(sorted(found.items()))


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """`module:definition` of all that differ between two results of `definitions`, sorted."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


@dataclass(frozen=True)
class Definition:
    """What a top-level name stands for: a digest of its code, what it reaches, and its entries if it is a table."""

    digest: str
    reaches: tuple[tuple[str, str], ...]  # module and definition
    table: dict[str, Definition] | None = None

    def entry(self, key: str | None) -> Definition:
        """Of a table the entry that counts; nothing where it has none of this name: nobody can look it up."""
        return (self.table or {}).get(key or "", Definition(_sha256([]), ()))


def module_path(name: str) -> Path | None:
    """The source file of a module or package of this library, None if there is none."""
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


@cache
def define(module: str, name: str) -> Definition:
    """The definition of a top-level name; `__main__` is a module's last `if`, `__effects__` what importing it does."""
    return scope(module).define(name)


@cache
def scope(module: str) -> Scope:
    """A module's names."""
    return Scope(module)


def _bound_names(node: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement defines: none for imports, which are followed, and for docstrings."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.If) and ast.unparse(node.test) in ("__name__ == '__main__'", "TYPE_CHECKING"):
        yield from ["__main__"] * ("__main__" in ast.unparse(node.test))
    elif not isinstance(node, ast.Import | ast.ImportFrom) and not _is_docstring(node):
        stored = [item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)]
        yield from dict.fromkeys(stored if isinstance(node, ast.Assign | ast.AnnAssign) else [*stored, "__effects__"])


class Scope:
    """The names of a module: the statements that define its own, and what its imports stand for."""

    def __init__(self, module: str) -> None:
        path = module_path(module)
        if path is None:
            raise FileNotFoundError(f"{module}: no module of {ROOT}")
        body = _Silence().visit(ast.parse(path.read_bytes())).body
        self.module = module
        self.imported = _imports(body)
        self.statements: dict[str, list[ast.stmt]] = {}
        for node in body:
            for name in _bound_names(node):
                self.statements.setdefault(name, []).append(node)

    def define(self, name: str) -> Definition:
        nodes = self.statements[name]
        whole = self.describe(*nodes)
        if len(nodes) == 1 and isinstance(table := getattr(nodes[0], "value", None), ast.Dict):
            keys = [key.value for key in table.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            if keys and len(keys) == len(table.keys):
                entries = {key: self.describe(value) for key, value in zip(keys, table.values, strict=True)}
                return Definition(whole.digest, whole.reaches, entries)
        return whole

    def describe(self, *nodes: ast.AST) -> Definition:
        parts: list[str] = []
        reaches: dict[tuple[str, str], None] = {}
        for node in nodes:
            _flatten(node, parts)
            local = _imports(item for item in ast.walk(node) if isinstance(item, ast.Import | ast.ImportFrom))
            for chain in _chains(node):
                for target in self.resolve(chain, local):
                    if isinstance(target, str):
                        parts.append(target)
                    else:
                        parts.append(":".join(target))
                        reaches[target] = None
        return Definition(_sha256(parts), tuple(reaches))

    def resolve(self, chain: list[str], local: dict[str, str]) -> Iterator[tuple[str, str] | str]:
        """What a dotted name stands for: definitions of ours, or where it comes from outside."""
        first, *rest = chain
        if first in local or (first in self.imported and first not in self.statements):
            yield from _follow(local.get(first) or self.imported[first], rest)
        elif first in self.statements:
            yield self.module, first


def _follow(origin: str, rest: list[str]) -> Iterator[tuple[str, str] | str]:
    """Definitions behind `origin.rest`, where `origin` is the dotted name that an import gave."""
    if origin.split(".")[0] != PACKAGE or origin in INERT or origin.rpartition(".")[0] in INERT:
        yield origin
        return
    if module_path(origin):
        if rest and (
            module_path(f"{origin}.{rest[0]}") or rest[0] in scope(origin).statements | scope(origin).imported
        ):
            yield from _follow(f"{origin}.{rest[0]}", rest[1:])
        else:  # the module itself is handed on
            yield from ((origin, name) for name in scope(origin).statements if name != "__main__")
        return
    module, _, name = origin.rpartition(".")
    there = scope(module)
    if name in there.statements:
        yield module, name
    elif name in there.imported:  # handed on from a third module
        yield from _follow(there.imported[name], rest)
    else:
        raise LookupError(f"{origin}: {module} defines no {name}")


def _imports(nodes: Iterable[ast.AST]) -> dict[str, str]:
    """Local name -> dotted origin of the imports among `nodes`, those under TYPE_CHECKING included."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found |= _imports(node.body)
    return found


def _chains(tree: ast.AST) -> Iterator[list[str]]:
    """Every name in a tree with the attributes that are taken of it: ["optimisation", "adamw"]."""
    inner: set[int] = set()
    for node in ast.walk(tree):  # outer nodes come first
        if id(node) in inner:
            continue
        chain, item = [], node
        while isinstance(item, ast.Attribute):
            chain.append(item.attr)
            item = item.value
            inner.add(id(item))
        if isinstance(item, ast.Name):
            yield [item.id, *reversed(chain)]


class _Silence(ast.NodeTransformer):
    """Takes out of a syntax tree what no result depends on."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Call) and _called(node.value) in SPOKEN:
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return self._unless_empty(node, node.test)

    def visit_For(self, node: ast.For) -> ast.AST | None:
        return self._unless_empty(node, node.iter)

    def _unless_empty(self, node: ast.If | ast.For, head: ast.expr) -> ast.AST | None:
        """None where nothing but words was inside, and the head does nothing itself."""
        self.generic_visit(node)
        acts = any(isinstance(item, ast.Call | ast.NamedExpr | ast.Await) for item in ast.walk(head))
        return node if node.body or node.orelse or acts else None

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = _called(node)
        if name in WORDS:
            node.args, node.keywords = node.args[: WORDS[name]], []
        node.keywords = [item for item in node.keywords if item.arg not in DESCRIBED.get(name, ())]
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        node.msg = None
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        return self._documented(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._documented(node)

    def _documented(self, node: Any) -> ast.AST:
        if node.body and _is_docstring(node.body[0]):
            node.body = node.body[1:]
        return self.generic_visit(node)


def _called(node: ast.Call) -> str:
    return getattr(node.func, "attr", "") or getattr(node.func, "id", "")


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _flatten(value: Any, parts: list[str]) -> None:
    """A syntax tree as strings, by hand: `ast.dump` changes between minor versions of Python.

    An upgrade would otherwise restart months of GPU work.
    """
    if isinstance(value, ast.AST):
        parts.append(type(value).__name__)
        for field in value._fields:
            part = getattr(value, field, None)
            if field not in ("ctx", "kind", "type_comment", "type_ignores", "type_params") and part not in (None, []):
                parts.append(field)
                _flatten(part, parts)
    elif isinstance(value, list):
        parts.append("[")
        for item in value:
            _flatten(item, parts)
        parts.append("]")
    else:
        parts.append(f"{type(value).__name__}:{value!r}")


def _sha256(parts: list[str]) -> str:
    return hashlib.sha256("".join(f"{part}\0" for part in parts).encode()).hexdigest()[:12]
