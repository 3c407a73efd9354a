"""What an editor knows of a scenario: every key with meaning, unit and an example that its own schema accepts."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema

from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.report.editor_schema import paths, properties
from planner.report.schemas import schema_of
from planner.schema.scenario_keys import CATALOG_NAMES, key_facts

SCHEMA = schema_of("scenario")
KEYS = dict(properties(SCHEMA))
ROOT = Path(__file__).resolve().parents[2]
SOON = {"ClusterSpec.gpu", "Scenario.what_if", "Distribution.mean_share", "Distribution.p99_share"}


def test_every_key_has_meaning_unit_and_example() -> None:
    for name, key in KEYS.items():
        assert len(str(key["description"])) > 10, name
        assert key["x-unit"], name
        assert "examples" in key, name
    assert {name for name, key in KEYS.items() if not key["examples"]} == {
        "Scenario.rl", "Scenario.faults", "Column.published",
    }, "blocks shown as a whole by their own keys"  # fmt: skip
    unknown = key_facts().keys() - KEYS.keys()
    assert {name for name in unknown if name.partition(".")[0] in SCHEMA["$defs"] or "Scenario" in name} <= SOON


def test_quantities_say_their_unit() -> None:
    units = {
        "_gib": "GiB",
        "_gb": "GB",
        "_ms": "ms",
        "_minutes": "min",
        "_s": "s",
        "_gpus": "GPUs",
        "_length": "tokens",
    }
    for name, key in KEYS.items():
        for ending, unit in units.items():
            if name.endswith(ending):
                assert key["x-unit"] == unit, name


def accepts(schema: dict[str, object], value: object) -> bool:
    whole = {**schema, "$defs": SCHEMA["$defs"]}
    return bool(jsonschema.Draft202012Validator(whole).is_valid(value))


def test_examples_are_what_the_key_takes() -> None:
    for name, key in KEYS.items():
        assert all(accepts(key, example) for example in key["examples"]), name


def test_names_of_the_catalog_are_offered_and_others_allowed() -> None:
    catalog = default_catalog()
    for name, kind in CATALOG_NAMES.items():
        if name in KEYS:
            assert str(catalog.ids(kind)) in str(KEYS[name]), name
            assert accepts(KEYS[name], "something/else.yaml")
            assert accepts(KEYS[name], catalog.ids(kind)[0])


def test_shipped_scenarios_and_the_page_are_valid() -> None:
    texts = [path.read_text() for path in sorted((ROOT / "scenarios").glob("[!b]*.yaml"))]
    page = (ROOT / "docs" / "scenario.md").read_text()
    examples = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.S) if "\ntask:" in block]
    assert {task for block in examples for task in re.findall(r"(?m)^task: (\w+)", block)} == {"pretrain", "sft", "rl"}
    for text in texts + examples:
        assert accepts(SCHEMA, parse_document(text, "example").data), text


def test_paths_are_those_of_set() -> None:
    found = paths(SCHEMA)
    assert {"cluster.num_gpus", "rl.rollout.tensor_parallel", "limits.headroom_gib", "model"} <= found.keys()
