"""Write what is made from the classes: the JSON schema for editors, and docs/configuration.md.

From `workflow`: `python -m urfm.config.reference`. A test fails when the two files are stale.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from urfm.config import parts
from urfm.config.schema import KEY, Schema, entries, json_schema, phrase, resolved
from urfm.core.cli import run
from urfm.core.files import write_text
from urfm.core.progress import say

HOME = Path(__file__).resolve().parents[3]
SCHEMA = "workflow/schemas/config.schema.json"
PAGE = "docs/configuration.md"
# Sections whose keys are described elsewhere already, and there in full.
SAME = {
    f"pretraining.runs.{KEY}": "pretraining.defaults",
    f"models.{KEY}.finetuning": "finetuning",
    f"teachers.{KEY}.origin": f"datasets.{KEY}.origin",
    f"models.{KEY}.checkpoint.origin": f"datasets.{KEY}.origin",
}
LONGEST = 60  # characters of a value that is shown

HEAD = """# Every key of the configuration

<!-- Written by `python -m urfm.config.reference` from workflow/urfm/config; edit the classes there. -->

The configuration is one tree of keys in several files. Each is laid over those before it, mappings entry by entry,
while lists and values are replaced whole:

{parts}
1. overlays of your own: `--configfile my.yaml other.yaml`, in the order in which they are named
1. `--config 'finetuning={{epochs: 50}}'`

In an editor that knows yaml-language-server, a first line
`# yaml-language-server: $schema=FOLDER/workflow/schemas/config.schema.json` in your overlay shows all this as you type.

The result is checked before the first job. All mistakes are listed at once, with the key, its value, what would be
right and, for a name that is not known, the nearest one.

`<name>` stands for a name that you choose: lower-case letters, digits and underscores; `[]` for each entry of a list.
The value is that of the files above, the paper's where it states one. An optional key may be left out.
"""


def schema_text() -> str:
    """For editors: nothing is required, because each file says only what it adds or changes."""
    return json.dumps(_without_required(json_schema()), indent=2, ensure_ascii=False) + "\n"


def _without_required(content: Any) -> Any:
    if isinstance(content, list):
        return [_without_required(item) for item in content]
    if not isinstance(content, dict):
        return content
    return {key: _without_required(value) for key, value in content.items() if key != "required"}


def page(home: Path) -> str:
    """The reference of all keys, with the values of the files in `home`."""
    config = parts.load(home)
    files = {part: parts.read(home / part) for part in parts.PARTS}
    text = HEAD.format(parts="\n".join(f"1. `{part}`" for part in parts.PARTS))
    whole = json_schema()
    single = {name: node for name, node in entries(whole).items() if not entries(node)}
    text += _section(
        "Keys by themselves",
        "",
        (_row(name, node, config[name], name in whole["required"]) for name, node in single.items()),
    )
    for name, node in entries(whole).items():
        if name not in single:
            places = " and ".join(f"`{part}`" for part, content in files.items() if content.get(name))
            lead = f"{_capital(node['description'])}." + (f" In {places}." if places else "")
            text += _section(f"`{name}`", lead, _rows(node, config.get(name), name))
    return text


def _section(title: str, lead: str, rows: Iterable[str]) -> str:
    head = ["| key | takes | value | meaning |", "|---|---|---|---|"]
    return "\n".join(["", f"## {title}", "", *([lead, ""] if lead else []), *head, *rows, ""])


def _rows(node: Schema, value: Any, path: str) -> Iterator[str]:
    """A row for each key below a section."""
    told = _at(SAME[path]) if path in SAME else {}
    if told:
        yield f"| `{path}` | a section | | keys of [`{SAME[path]}`](#{SAME[path].partition('.')[0]}) |"
    for key, child in entries(node).items():
        if key in told:
            continue
        where, inner = f"{path}.{key}", value.get(key) if isinstance(value, dict) else None
        child = child if "description" in child else {**child, "description": node.get("description", "")}
        items = resolved(child.get("items", {}))
        if entries(child):
            yield from _rows(child, inner, where)
        elif entries(items):
            yield _row(where, child, inner, key in node.get("required", ()))
            yield from _rows(items, None, f"{where}[]")
        else:
            yield _row(where, child, inner, key in node.get("required", ()) or key == KEY)


def _row(path: str, node: Schema, value: Any, required: bool) -> str:
    value = node.get("default") if value is None else value
    text = "" if value is None else json.dumps(value, ensure_ascii=False)
    shown = f"`{text}`" if text and len(text) <= LONGEST else "see the file" if text else ""
    takes = phrase(node) if required else f"{phrase(node)}; optional"
    return f"| `{path}` | {_cell(takes)} | {shown.replace('|', chr(92) + '|')} | {_cell(node.get('description', ''))} |"


def _cell(text: str) -> str:
    """`<name>` and the like are no tags of HTML, and a bar ends no cell."""
    return re.sub(r"(?<!`)(<[\w ]+>)(?!`)", r"`\1`", text).replace("|", "\\|")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _at(path: str) -> dict[str, Schema]:
    """The keys of a section."""
    found = entries(json_schema())
    for part in path.split("."):
        found = entries(found[part])
    return found


def main() -> None:
    """Command line."""
    for name, text in ((SCHEMA, schema_text()), (PAGE, page(HOME))):
        write_text(HOME / name, text)
        say(f"wrote {name}")


if __name__ == "__main__":
    run(main)
