"""What is wrong with a configuration by itself, in sentences: unknown keys, wrong values, what is missing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError

from urfm.config.configuration import Configuration
from urfm.config.finetuning import Finetuning
from urfm.config.pretraining import Defaults
from urfm.config.schema import Schema, entries, json_schema, phrase, resolved, step

Path = tuple[str | int, ...]
Mistake = tuple[Path, str, str]  # where, pydantic's kind, message
FREE = {"model_args", "recipe"}  # whatever stands in them is of others


def mistakes(config: dict[str, Any]) -> list[str]:
    """A sentence for each mistake, with key, value, what would be right, and the nearest known name."""
    if unquoted := list(_unquoted(config)):
        return unquoted
    nulls = list(_nulls(config))
    found = [mistake for mistake in _all(config) if mistake[0] not in nulls]
    found += [(path, "null", "") for path in nulls]
    return list(dict.fromkeys(_sentence(config, *mistake) for mistake in found))


def nearest(name: str, known: Iterable[str]) -> str:
    """What to write instead: the closest known name, or all of them."""
    names = sorted(str(item) for item in known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(names)}"


def _all(config: dict[str, Any]) -> Iterator[Mistake]:
    yield from _wrong(Configuration, config)
    # A bound between two keys, such as warm-up within the epochs, holds for a run or model with what it inherits.
    pretraining, finetuning = config.get("pretraining"), config.get("finetuning")
    if isinstance(pretraining, dict):
        yield from _inherited(Defaults, pretraining.get("defaults"), pretraining.get("runs"), ("pretraining", "runs"))
    if isinstance(models := config.get("models"), dict):
        own = {name: record["finetuning"] for name, record in models.items() if "finetuning" in (record or ())}
        yield from _inherited(Finetuning, finetuning, own, ("models",), ("finetuning",))


def _inherited(kind: type[BaseModel], base: Any, changes: Any, before: Path, after: Path = ()) -> Iterator[Mistake]:
    """What is wrong with `base` under each of `changes`, but not with `base` itself."""
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return
    known = list(_wrong(kind, base))
    for name, own in changes.items():
        if isinstance(own, dict):
            merged = base | {key: value for key, value in own.items() if key in kind.model_fields}
            yield from (
                ((*before, name, *after, *path), sort, message)
                for path, sort, message in _wrong(kind, merged)
                if (path, sort, message) not in known
            )


def _wrong(kind: type[BaseModel], content: Any) -> Iterator[Mistake]:
    """Read as JSON, because there a list may become a tuple and yet "1" is no number."""
    try:
        kind.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False):
            yield item["loc"], item["type"], item["msg"]


def _nulls(content: Any, path: Path = ()) -> Iterator[Path]:
    if content is None:
        yield path
    elif isinstance(content, dict):
        for key, value in content.items():
            if key not in FREE:
                yield from _nulls(value, (*path, key))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _nulls(value, (*path, number))


def _unquoted(content: Any, path: Path = ()) -> Iterator[str]:
    """Keys that YAML took for a number, a date or yes and no; and dates, which no value is. JSON would hide most."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        if isinstance(content, dict) and not isinstance(key, str):
            yield f"{_dotted(path)}: the key {_yaml(key)}; put it in quotes"
        elif isinstance(value, date):
            yield f"{_dotted((*path, key))}: {value} is a date to YAML; put it in quotes"
        elif key not in FREE:
            yield from _unquoted(value, (*path, key))


def _yaml(key: Any) -> str:
    """A key that is no text, as it may have been written, and what YAML took it for."""
    if isinstance(key, bool):
        return f"{'yes, on or true' if key else 'no, off or false'} is {str(key).lower()} to YAML"
    kind = "a date" if isinstance(key, date) else "a number" if isinstance(key, int | float) else "no text"
    return f"{'~' if key is None else key} is {kind} to YAML"


def _sentence(config: Any, path: Path, kind: str, message: str) -> str:
    node, value, description = json_schema(), config, ""
    for number, part in enumerate(path):
        if part == "[key]":
            return f"{_dotted(path[: number - 1])}: {path[number - 1]!r} is no name: lower-case letters, digits, _"
        if kind == "extra_forbidden" and part == path[-1]:
            return f"unknown key {_dotted(path)}{nearest(str(part), entries(node))}"
        child = step(node, part)
        too_short = isinstance(value, list) and isinstance(part, int) and part >= len(value)
        if child is None or too_short:  # within something that may be one thing or another; or not there
            path, kind = path[:number], ""
            break
        node, description = child, child.get("description", description if isinstance(part, int) else "")
        value = value.get(part) if isinstance(value, dict) else value[part] if isinstance(part, int) else None
    where, described = _dotted(path), f" ({description})" if description else ""
    if kind == "missing":
        return f"{where} is missing{described}"
    if kind == "value_error":
        return f"{where}: {message.removeprefix('Value error, ')}{described}"
    return f"{where}: {_shown(value)} is not {phrase(node)}{_hint(node, value)}{described}"


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path) or "the configuration"


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _hint(node: Schema, value: Any) -> str:
    """The nearest of several choices; or how YAML writes a number, or text that looks like something else."""
    if choices := [str(choice) for choice in resolved(node).get("enum", [])]:
        close = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.5)
        return f"; did you mean {close[0]}?" if close else ""
    if isinstance(value, bool | int | float) and node.get("type") == "string":
        return "; put it in quotes"
    if isinstance(value, str) and node.get("type") in ("number", "integer"):
        try:
            float(value)
        except ValueError:
            return ""
        return "; it is text: numbers have no quotes, and 1e-3 is written 1.0e-3"
    return ""
