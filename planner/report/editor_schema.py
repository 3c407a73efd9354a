"""The schema of a scenario as editors use it: names of the catalog, and for every key meaning, unit and example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from planner.inputs.catalog import Catalog
from planner.schema.scenario import Scenario
from planner.schema.scenario_keys import CATALOG_NAMES, key_facts

SchemaNode = dict[str, Any]
"""A JSON Schema, or a part of one."""


def editor_schema(catalog: Catalog) -> SchemaNode:
    """JSON Schema of a scenario. A name of the catalog is offered, and any other text allowed: paths, names as people
    type them, entries of own folders.
    """
    schema: SchemaNode = Scenario.model_json_schema()
    facts = key_facts()
    for name, key in properties(schema):
        known = facts.get(name)
        if known is not None:
            key.setdefault("description", known.meaning)
            key["x-unit"] = known.unit
            key["examples"] = [] if known.example is None else [known.example]
        if (kind := CATALOG_NAMES.get(name)) is not None:
            _offer(key, catalog.ids(kind))
    return schema


def properties(schema: SchemaNode) -> Iterator[tuple[str, SchemaNode]]:
    """(`Class.field`, its schema) of every key of a scenario."""
    for title, part in [("Scenario", schema), *schema["$defs"].items()]:
        for field, key in part.get("properties", {}).items():
            yield f"{title}.{field}", key


def paths(schema: SchemaNode) -> dict[str, str]:
    """Every dotted path that `--set` takes, with its description; items of lists are left out."""
    return {key: str(part.get("description", "")) for key, part in _parts(schema, schema, "")}


def _parts(schema: SchemaNode, part: SchemaNode, before: str) -> Iterator[tuple[str, SchemaNode]]:
    for field, key in part.get("properties", {}).items():
        yield before + field, key
        for inner in [key, *key.get("anyOf", [])]:
            reference = str(inner.get("$ref", ""))
            if reference:
                yield from _parts(schema, schema["$defs"][reference.rpartition("/")[2]], f"{before}{field}.")


def words(schema: SchemaNode, path: str) -> list[str]:
    """Words that a key takes: names of the catalog, choices, truth values."""
    found = [part for key, part in _parts(schema, schema, "") if key == path]
    out: list[str] = []
    stack = list(found)
    while stack:
        part = stack.pop(0)
        out += [str(word) for word in [*part.get("enum", []), *([part["const"]] if "const" in part else [])]]
        out += ["true", "false"] if part.get("type") == "boolean" else []
        stack += part.get("anyOf", [])
    return list(dict.fromkeys(out))


def _offer(key: SchemaNode, names: list[str]) -> None:
    """Names wherever the key takes a text, alone or in a list."""
    offered = {"anyOf": [{"enum": names}, {"type": "string"}]}
    if key.get("type") == "string":
        del key["type"]
        key["anyOf"] = offered["anyOf"]
        return
    for index, choice in enumerate(key.get("anyOf", [])):
        if choice.get("type") == "string" and "const" not in choice and "enum" not in choice:
            key["anyOf"][index] = offered
        elif choice.get("type") == "array" and choice.get("items") == {"type": "string"}:
            choice["items"] = offered
