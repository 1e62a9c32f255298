"""The schema for editors and the page of all keys are those that the classes give."""

from collections.abc import Iterator
from typing import Any

import jsonschema  # part of Snakemake
import pytest
import yaml
from configurations import HOME
from urfm.config import parts, reference
from urfm.config.schema import json_schema

OVERLAYS = [
    "workflow/profiles/demo/config.yaml",
    "workflow/profiles/pocket/config.yaml",
    "workflow/profiles/v100/config.yaml",
    "tests/workflow/tiny.yaml",
]


@pytest.mark.parametrize(
    ("name", "text"), [(reference.SCHEMA, reference.schema_text()), (reference.PAGE, reference.page(HOME))]
)
def test_generated_files_are_fresh(name: str, text: str) -> None:
    assert (HOME / name).read_text() == text, f"{name} is stale: `python -m urfm.config.reference` in workflow/"


def described(schema: Any, path: str = "") -> Iterator[tuple[str, bool]]:
    """Every entry under any `properties` of the schema, and whether it has a description of its own."""
    if isinstance(schema, dict):
        for name, entry in schema.get("properties", {}).items():
            yield f"{path}.{name}", bool(entry.get("description"))
        for key, content in schema.items():
            yield from described(content, f"{path}.{key}")


def test_every_key_is_described() -> None:
    found = dict(described(json_schema()))
    assert len(found) > 150
    assert [name for name, has in found.items() if not has] == []


@pytest.mark.parametrize("name", [*parts.PARTS, *OVERLAYS])
def test_an_editor_has_nothing_against_our_files(name: str) -> None:
    """Each by itself: none of them says everything."""
    schema = yaml.safe_load(reference.schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    errors = jsonschema.Draft202012Validator(schema).iter_errors(yaml.safe_load((HOME / name).read_text()))
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_an_editor_marks_mistakes() -> None:
    schema = yaml.safe_load(reference.schema_text())
    wrong = {"finetuning": {"drop_path": 1.0, "layer_decy": 1}, "models": {"Own": {}}, "seeds": [0, 0]}
    assert len(list(jsonschema.Draft202012Validator(schema).iter_errors(wrong))) == 4
