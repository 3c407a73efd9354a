"""What the printed schema of an answer says against it."""

from __future__ import annotations

import json
from functools import cache

from jsonschema import Draft202012Validator
from run_cli import run


@cache
def validator_of(name: str) -> Draft202012Validator:
    """Of what `planner schema --of NAME` prints, itself checked once."""
    schema = json.loads(run("schema", "--of", name).out)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def violations(name: str, answer: object) -> list[str]:
    """Empty where the answer keeps to its printed schema."""
    return [f"{list(e.absolute_path)}: {e.message}" for e in validator_of(name).iter_errors(answer)]
