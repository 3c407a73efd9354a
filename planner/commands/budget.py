"""`planner budget`: the cheapest offers that meet every deadline."""

from __future__ import annotations

import click

from planner.commands.common import Output, output_options, progress, set_option
from planner.errors import NoLayoutFits


@click.command(epilog="Example: planner budget scenarios/budget_llama70b.yaml")
@click.argument("budget", metavar="BUDGET")
@set_option
@output_options()
@click.pass_context
def command(context: click.Context, budget: str, overrides: tuple[str, ...], output: Output) -> None:
    """Choose an offer and a node count for each job of BUDGET: every deadline met, at the least cost."""
    from planner.analysis.budget.budget import solve_budget
    from planner.report.budget import budget_blocks
    from planner.report.budget_json import budget_document

    answer = solve_budget(budget, overrides, progress=progress)
    output.write(lambda: budget_blocks(answer), lambda: budget_document(answer))
    if answer.status == "infeasible":
        context.exit(NoLayoutFits.exit_code)
