"""`planner near`: the best distinct layouts, since the real best may be the model's second or third."""

from __future__ import annotations

import click

from planner.commands.common import Output, answer_options, progress, scenario_argument, set_option
from planner.errors import NoLayoutFits


@click.command(epilog="Example: planner near scenarios/llama70b_64xh100.yaml --count 5 --within 0.05")
@scenario_argument
@set_option
@click.option("--count", type=click.IntRange(1, 50), default=5, show_default=True, help="Layouts at most.")
@click.option(
    "--within",
    type=click.FloatRange(0, 10),
    default=0.1,
    show_default=True,
    help="Largest slowdown against the best, as a share.",
)
@answer_options
@click.pass_context
def command(
    context: click.Context, scenario: str, overrides: tuple[str, ...], count: int, within: float, output: Output
) -> None:
    """Print the best distinct layouts of SCENARIO, each proved with the earlier ones left out."""
    from planner.analysis.near import near_plans
    from planner.inputs.catalog import default_catalog
    from planner.inputs.document import load
    from planner.problem.resolve import question_of
    from planner.report.near import near_blocks, near_document, near_screen

    question = question_of(load(scenario, overrides), default_catalog())
    outcomes = near_plans(question, count=count, within=within, progress=progress)
    output.write(
        lambda: near_blocks(question.document.name, outcomes, within),
        lambda: near_document(question, outcomes),
        screen=lambda: near_screen(question.document.name, outcomes, within),
    )
    if not outcomes:
        context.exit(NoLayoutFits.exit_code)
