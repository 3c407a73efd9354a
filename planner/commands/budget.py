"""`planner budget`: the cheapest offers that meet every deadline."""

from __future__ import annotations

import click

from planner.commands.common import Output, answer_options, print_timings, progress, set_option, timings_option
from planner.errors import NoLayoutFits


@click.command(epilog="Example: planner budget scenarios/budget_llama70b.yaml")
@click.argument("budget", metavar="BUDGET")
@set_option
@timings_option
@answer_options
@click.pass_context
def command(context: click.Context, budget: str, overrides: tuple[str, ...], timings: bool, output: Output) -> None:
    """Choose an offer, a node count and a start for each job of BUDGET: every deadline met with its confidence, at the
    least cost (or the earliest end within max_usd).
    """
    from planner.analysis.budget.budget import solve_budget
    from planner.report.budget import budget_blocks, budget_screen
    from planner.report.budget_json import budget_document

    answer = solve_budget(budget, overrides, progress=progress)
    output.write(lambda: budget_blocks(answer), lambda: budget_document(answer), screen=lambda: budget_screen(answer))
    if timings:
        print_timings(answer.timings)
    if answer.status == "infeasible":
        context.exit(NoLayoutFits.exit_code)
