"""`planner near`: the best distinct layouts, since the real best may be the model's second or third."""

from __future__ import annotations

import click

from planner.commands.common import Number, Output, answer_options, progress, scenario_argument, set_option
from planner.errors import NoLayoutFits


@click.command(epilog="Example: planner near example:llama70b_64xh100 --count 5 --within 0.05")
@scenario_argument
@set_option
@click.option("--count", type=click.IntRange(1, 50), default=5, show_default=True, help="Layouts at most.")
@click.option(
    "--within",
    type=Number(0, 10),
    default=None,
    help="Largest slowdown against the best, as a share.  [default: the known error of such a step; 0.1 where none is]",
)
@answer_options
@click.pass_context
def command(
    context: click.Context, scenario: str, overrides: tuple[str, ...], count: int, within: float | None, output: Output
) -> None:
    """Print the best distinct layouts of SCENARIO, each proved with the earlier ones left out.

    Distinct layouts have other degrees or machines; other micro-batches, recomputation or rollout settings of the same
    ones are variants, counted beside the best of them.
    """
    from planner.analysis.near import known_within, near_plans
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import load
    from planner.problem.resolve import question_of
    from planner.report.near import near_blocks, near_document, near_screen
    from planner.report.plan_figures import several_figures

    question = question_of(load(scenario, overrides), default_catalog())
    within = known_within(question) if within is None else within
    outcomes = near_plans(question, count=count, within=within, progress=progress)
    output.write(
        lambda: near_blocks(question.document.name, outcomes, within),
        lambda: near_document(question, outcomes),
        screen=lambda: near_screen(question.document.name, outcomes, within),
        figures=lambda: several_figures([(f"plan {n}", o.plan) for n, o in enumerate(outcomes, 1)]),
    )
    if not outcomes:
        context.exit(NoLayoutFits.exit_code)
