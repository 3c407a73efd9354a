"""What the printed schema of an answer says against it."""

from __future__ import annotations

import json

from jsonschema import Draft202012Validator
from run_cli import run


def violations(name: str, answer: object) -> list[str]:
    """Empty where the answer keeps to what `planner schema --of NAME` prints."""
    schema = json.loads(run("schema", "--of", name).out)
    Draft202012Validator.check_schema(schema)
    return [f"{list(e.absolute_path)}: {e.message}" for e in Draft202012Validator(schema).iter_errors(answer)]
