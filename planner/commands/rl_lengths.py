"""`planner rl-lengths`: what longer responses need, as one table."""

from __future__ import annotations

import click

from planner.commands.common import Output, answer_options, progress, scenario_argument, set_option
from planner.errors import NoLayoutFits, NoVerdict


@click.command(epilog="Example: planner rl-lengths example:qwen7b_rl --lengths 8k,16k,32k")
@scenario_argument
@set_option
@click.option(
    "--lengths",
    default="8192,16384,32768",
    show_default=True,
    metavar="N,N",
    help="Largest responses to plan for [tokens]; 8k is 8,192.",
)
@answer_options
@click.pass_context
def command(context: click.Context, scenario: str, overrides: tuple[str, ...], lengths: str, output: Output) -> None:
    """Solve the RL step of SCENARIO for several largest responses, its distribution of lengths scaled with them."""
    from planner.analysis.rl_lengths import rl_lengths
    from planner.inputs.asked import tokens
    from planner.inputs.saved import load
    from planner.report.plan_figures import several_figures
    from planner.report.rl_lengths import rl_length_blocks, rl_length_document, rl_length_screen

    document = load(scenario, overrides)
    answers = rl_lengths(document, [tokens(part, "--lengths") for part in lengths.split(",")], progress=progress)
    output.write(
        lambda: rl_length_blocks(document.name, answers),
        lambda: rl_length_document(document, answers),
        screen=lambda: rl_length_screen(document, answers),
        figures=lambda: several_figures([(f"{a.response_length:,}", a.plan) for a in answers]),
    )
    if all(answer.plan is None for answer in answers):
        proved = all(answer.outcome.status == "infeasible" for answer in answers)
        context.exit(NoLayoutFits.exit_code if proved else NoVerdict.exit_code)
