"""`planner budget`: the cheapest offers that meet every deadline."""

from __future__ import annotations

import click

from planner.commands import completing
from planner.commands.common import Output, answer_options, print_timings, progress, set_option, timings_option
from planner.errors import InputError, Mistake, NoLayoutFits, Place


@click.command(epilog="Example: planner budget example:budget_llama70b")
@click.argument("budget", metavar="BUDGET", shell_complete=completing.scenarios)
@set_option
@timings_option
@answer_options
@click.pass_context
def command(context: click.Context, budget: str, overrides: tuple[str, ...], timings: bool, output: Output) -> None:
    """Choose an offer, a node count and a start for each job of BUDGET: every deadline met with its confidence, at the
    least cost (or the earliest end within max_usd).
    """
    from planner.analysis.budget.budget import solve_budget
    from planner.inputs.saved import saved_answer
    from planner.report.budget import budget_blocks, budget_screen
    from planner.report.budget_json import budget_document

    if saved_answer(budget) is not None:
        because, attempt = "a budget names jobs and offers", "planner budget example:budget_llama70b"
        raise InputError(Mistake(f"{budget} is a saved answer, not a budget", Place(budget), because, attempt))
    answer = solve_budget(budget, overrides, progress=progress)
    output.write(lambda: budget_blocks(answer), lambda: budget_document(answer), screen=lambda: budget_screen(answer))
    if timings:
        print_timings(answer.timings)
    if answer.status == "infeasible":
        context.exit(NoLayoutFits.exit_code)
