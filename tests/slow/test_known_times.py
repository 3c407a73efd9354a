"""The shipped table of times is what the validation finds with every constant fitted again: minutes."""

from __future__ import annotations

import json

from planner.inputs.catalog import default_catalog
from planner.inputs.known_errors import FILE
from planner.validation.memory.summary import time_tables


def test_the_shipped_table_of_times_is_what_the_validation_finds() -> None:
    shipped = json.loads(default_catalog().data_file(FILE).read_text())
    told = json.loads(json.dumps(time_tables()))
    assert {name: shipped[name] for name in told} == told, "run: planner validate summary"
