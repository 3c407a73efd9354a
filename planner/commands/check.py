"""`planner check`: a running or finished job against its plan, item by item."""

from __future__ import annotations

import click

from planner.commands.common import Output, answer_options, emit, one_layout, scenario_argument, set_option
from planner.errors import CheckFailed


@click.command(epilog="Example: planner check example:llama8b_sft_a100 run.log snapshot.pickle --set ...")
@scenario_argument
@click.argument("run", metavar="RUN...", nargs=-1, required=True)
@click.option("--stage", metavar="N", type=int, help="Pipeline stage of the rank that wrote the snapshots.")
@click.option("--contribute", metavar="FILE", help="Write the measured peak as an anonymous row of validation/data.")
@set_option
@answer_options
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    run: tuple[str, ...],
    stage: int | None,
    contribute: str | None,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Hold RUN (logs, nvidia-smi samples, PyTorch memory snapshots, or a folder of them) against SCENARIO's plan.

    Snapshots are read without Python's unpickler: nothing in them is executed. Exit code 5 where a measured quantity
    lies outside the 90 % interval of its prediction.
    """
    from planner.analysis.check.check import check
    from planner.analysis.check.contribution import contribution
    from planner.inputs.catalog import default_catalog
    from planner.report.check import check_blocks, check_document, check_screen

    checked = check(one_layout(scenario, overrides, default_catalog()), run, stage)
    if contribute is not None:
        emit(contribution(checked), contribute, output.force, "--contribute")
    output.write(
        lambda: check_blocks(checked, timeline=output.style == "html", scenario=scenario),
        lambda: check_document(checked),
        screen=lambda: check_screen(checked),
    )
    if checked.outside:
        context.exit(CheckFailed.exit_code)
