"""`planner schema`: the JSON Schema of a scenario or a budget file, for editors and generators."""

from __future__ import annotations

import click

from planner.commands.common import emit, out_option


@click.command()
@click.option("--budget", is_flag=True, help="The schema of a budget file instead of a scenario.")
@out_option
def command(budget: bool, out: str | None, force: bool) -> None:
    """Print the JSON Schema of a scenario: every key, its type, and what it means."""
    from planner.report.json_text import dumps
    from planner.schema.budget import Budget
    from planner.schema.scenario import Scenario

    schema = (Budget if budget else Scenario).model_json_schema()
    emit(dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}), out, force)
