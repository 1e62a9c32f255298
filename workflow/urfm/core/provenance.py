"""What a result depends on, as short strings: code digests and canonical settings.

Snakemake compares a rule's params as an unordered set of values, so a rule passes exactly two kinds:
one `module@digest` a module that its entry point imports (`code_digests`), and one JSON string of all
the settings it reads (`canonical_json`). An edit that may change a result then changes one string, and
Snakemake's reason names the module or the setting; a comment, a docstring or a touched file changes none.
"""

from __future__ import annotations

import ast
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "urfm"
# No result depends on these, nor on what they import: `urfm` hands encoders to people, no stage calls it for anything.
INERT = {"urfm", "urfm.core.errors", "urfm.core.progress", "urfm.core.provenance"}
ROOT = Path(__file__).resolve().parents[2]


def canonical_json(content: Any) -> str:
    """JSON with sorted keys and no white space: equal content gives equal text, whatever its order."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(*parts: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of the parts as canonical JSON: key order and tuple or list do not matter."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def code_digests(module: str) -> list[str]:
    """`module@digest` for every module of the package that `module` imports, directly or not, and itself.

    Parameters
    ----------
    module
        Dotted name of an entry point, e.g. "urfm.training.pretrain.stage".

    Imports are found statically, those inside functions included; importing by a computed name would
    not be seen and is not used in the package (a test holds the package to it).
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(imported_modules(name) if name not in INERT else ())
    return [f"{name}@{syntax_digest(module_path(name))}" for name in sorted(found - INERT)]


def module_path(name: str) -> Path:
    """The source file of a module or package of this library; FileNotFoundError when there is none."""
    base = ROOT.joinpath(*name.split("."))
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name}: no module of {ROOT}")


@cache
def imported_modules(name: str) -> frozenset[str]:
    """Modules of the package that `name` imports itself, its parent packages included."""
    parents = [name.rpartition(".")[0]] if "." in name else []
    names = [*parents]
    for node in ast.walk(ast.parse(module_path(name).read_bytes())):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            names.append(origin)
            names.extend(f"{origin}.{alias.name}" for alias in node.names)
    return frozenset(found for found in names if found.split(".")[0] == PACKAGE and _exists(found))


def _exists(name: str) -> bool:
    try:
        module_path(name)
    except FileNotFoundError:
        return False
    return True


@cache
def syntax_digest(path: Path) -> str:
    """Twelve hexadecimal digits of SHA-256 over the syntax tree, without comments, docstrings and layout.

    The tree is flattened by hand: `ast.dump` changes between minor versions of Python, which would
    restart months of GPU work after an upgrade.
    """
    parts = _flatten(ast.parse(path.read_bytes()), [])
    return hashlib.sha256("".join(f"{part}\0" for part in parts).encode()).hexdigest()[:12]


def _flatten(value: Any, parts: list[str]) -> list[str]:
    if isinstance(value, ast.AST):
        parts.append(type(value).__name__)
        for field in value._fields:
            part = getattr(value, field, None)
            if field in ("ctx", "kind", "type_comment", "type_ignores") or part is None or part == []:
                continue
            parts.append(field)
            _flatten(_without_docstring(value, part) if field == "body" else part, parts)
    elif isinstance(value, list):
        parts.append("[")
        for item in value:
            _flatten(item, parts)
        parts.append("]")
    else:
        parts.append(f"{type(value).__name__}:{value!r}")
    return parts


def _without_docstring(node: ast.AST, body: Any) -> Any:
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return body[1:]
    return body
