"""`planner pareto`: the front of throughput against headroom, GPUs, sequence length or dollars."""

from __future__ import annotations

import click

from planner.commands.common import Output, answer_options, progress, scenario_argument, set_option
from planner.errors import NoLayoutFits


@click.command(epilog="Example: planner pareto example:qwen7b_rl --over headroom")
@scenario_argument
@set_option
@click.option(
    "--over",
    type=click.Choice(["headroom", "gpus", "sequence_length", "dollars"]),
    default="headroom",
    show_default=True,
    help="What throughput is traded against.",
)
@click.option("--price", metavar="ID", help="Offer of the price catalog, for --over dollars.")
@answer_options
@click.pass_context
def command(
    context: click.Context, scenario: str, overrides: tuple[str, ...], over: str, price: str | None, output: Output
) -> None:
    """Print the plans of SCENARIO of which none is better in both throughput and the other axis; each is solved."""
    from planner.analysis.near import front, usd_per_gpu_hour
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import load
    from planner.problem.resolve import question_of
    from planner.report.front import front_blocks, front_document, front_screen
    from planner.report.plan_figures import several_figures
    from planner.units import number

    catalog = default_catalog()
    document = load(scenario, overrides)
    usd = None if price is None else usd_per_gpu_hour(price, question_of(document, catalog), catalog)
    plans = front(document, catalog, over, price_usd_per_gpu_hour=usd, progress=progress)
    output.write(
        lambda: front_blocks(document.name, plans),
        lambda: front_document(plans),
        screen=lambda: front_screen(document.name, plans),
        figures=lambda: several_figures([(number(p.value, 0), p.plan) for p in plans.points]),
    )
    if not plans.points:
        context.exit(NoLayoutFits.exit_code)
