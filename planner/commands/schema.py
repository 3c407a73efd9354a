"""`planner schema`: the JSON Schema of a scenario, a budget file or an answer, for editors and programs."""

from __future__ import annotations

import click

from planner.commands.common import emit, out_option


@click.command()
@click.option("--budget", is_flag=True, help="The schema of a budget file instead of a scenario.")
@click.option("--of", "name", metavar="NAME", help="The schema of a JSON answer: solve, near, compare, ...")
@out_option
def command(budget: bool, name: str | None, out: str | None, force: bool) -> None:
    """Print the JSON Schema of a scenario: every key, its type, and what it means."""
    from planner.report.json_text import dumps
    from planner.report.schemas import schema_of

    if budget and name is not None:
        raise click.UsageError("--budget and --of name two schemas")
    emit(dumps(schema_of(name or ("budget-file" if budget else "scenario"))), out, force)
