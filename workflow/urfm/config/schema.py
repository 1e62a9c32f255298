"""The JSON schema of the configuration, and what it asks for in words."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from urfm.config.configuration import Configuration
from urfm.config.fields import NAME

Schema = dict[str, Any]
KEY = "<name>"  # stands for the names that a section's entries have


class _Generator(GenerateJsonSchema):
    """Without titles, which repeat the keys, and without null, which no key takes: it is left out instead."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        content = super().default_schema(schema)
        if content.get("default", "") in (None, ""):
            content.pop("default", None)
        return content

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        content = super().dict_schema(schema)
        if "patternProperties" in content:
            content["additionalProperties"] = False
        return content


@cache
def json_schema() -> Schema:
    """The schema of config.yaml, the catalogue and overlays, merged."""
    return Configuration.model_json_schema(schema_generator=_Generator)


def resolved(node: Schema) -> Schema:
    """A part of the schema, with what it refers to."""
    if "$ref" not in node:
        return node
    return {**json_schema()["$defs"][node["$ref"].rpartition("/")[2]], **node}


def entries(node: Schema) -> dict[str, Schema]:
    """What stands below a part of the schema: its keys, or KEY where any name may stand."""
    if "properties" in node:
        return {name: resolved(child) for name, child in node["properties"].items()}
    child = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties"))
    return {KEY: resolved(child)} if isinstance(child, dict) and child else {}


def step(node: Schema, part: str | int) -> Schema | None:
    """The part of the schema for a key or a place in a list; None where it tells no more."""
    if isinstance(part, int):
        items = node.get("prefixItems", [])
        child = items[part] if part < len(items) else node.get("items")
        return resolved(child) if child else None
    found = entries(node)
    return found.get(part, found.get(KEY))


def phrase(node: Schema, plural: bool = False) -> str:
    """What a part of the schema takes, in words: "a number of at least 0 and below 1"."""
    node = resolved(node)
    if "anyOf" in node:
        return " or ".join(phrase(choice, plural) for choice in node["anyOf"])
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return f"{'any' if plural else 'one'} of {', '.join(node['enum'])}"
    kind = node.get("type")
    if kind in ("integer", "number"):
        words = ("whole numbers" if plural else "a whole number", "numbers" if plural else "a number")
        return words[kind == "number"] + _bounds(node)
    if kind == "array":
        inner = node["prefixItems"][0] if "prefixItems" in node else node["items"]
        size = f"{node['minItems']} " if "prefixItems" in node else ""
        least = " (at least one)" if not size and node.get("minItems") else ""
        return f"{'lists' if plural else 'a list'} of {size}{phrase(inner, plural=True)}{least}"
    if kind == "string":
        if node.get("pattern") == NAME:
            return "names" if plural else "a name"
        form = f" like `{node['pattern']}`" if "pattern" in node else ""
        return ("texts" if plural else "text") + form
    if kind == "boolean":
        return "true or false"
    below = entries(node).get(KEY)
    if below:
        return f"{'sections' if plural else 'a section'}: names, each with {phrase(below)}"
    return "sections" if plural else "a section"


def _bounds(node: Schema) -> str:
    words = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{word} {node[key]:g}" for key, word in words.items() if key in node]
    return "".join(f" {said[0]}" if number == 0 else f" and {item}" for number, item in enumerate(said))
