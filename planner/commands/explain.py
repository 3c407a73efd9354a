"""`planner explain`: what binds a plan, what other decisions would cost, and why nothing fits where nothing does."""

from __future__ import annotations

import click

from planner import streams
from planner.commands.common import Output, answer_options, progress, scenario_argument, set_option
from planner.errors import NoLayoutFits

CONFLICT_SHARE = 0.5
"""Of the time that is left, for finding which limits contradict each other and what would resolve it."""


@click.command(epilog="Example: planner explain example:qwen7b_rl --why-not layout.tensor_parallel=4")
@scenario_argument
@set_option
@click.option(
    "--why-not",
    "questions",
    metavar="PATH=VALUE",
    multiple=True,
    help="Ask why this value was not chosen; repeatable.",
)
@click.option("--no-neighbours", is_flag=True, help="Do not solve the neighbouring decisions.")
@answer_options
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    overrides: tuple[str, ...],
    questions: tuple[str, ...],
    no_neighbours: bool,
    output: Output,
) -> None:
    """Say what binds the plan of SCENARIO, or which limits contradict each other where nothing fits.

    Every change that is named has been solved again. Exit code 0: a plan; 1: proved that nothing fits.
    """
    from planner.analysis.explanation import explain
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import load
    from planner.report.explain import explain_blocks, explain_document, explain_screen
    from planner.report.plan_figures import plan_figures

    explanation = explain(
        load(scenario, overrides),
        default_catalog(),
        why_not=questions,
        around=not no_neighbours,
        progress=progress,
        in_time=lambda asked: streams.within(CONFLICT_SHARE * streams.seconds_left(), asked),
    )
    output.write(
        lambda: explain_blocks(explanation),
        lambda: explain_document(explanation),
        screen=lambda: explain_screen(explanation),
        figures=lambda: plan_figures(explanation.outcome.plan) if explanation.outcome.plan is not None else [],
    )
    if explanation.outcome.status == "infeasible":
        context.exit(NoLayoutFits.exit_code)
