"""`planner whatif`: the scenario solved again for each value of some of its fields."""

from __future__ import annotations

import click

from planner.commands.common import Output, output_options, progress, scenario_argument
from planner.errors import NoLayoutFits, NoVerdict


@click.command(epilog="Example: planner whatif scenarios/qwen7b_rl.yaml --set cluster.max_gpus=2,4,8")
@scenario_argument
@click.option(
    "--set",
    "values",
    metavar="PATH=VALUE,VALUE",
    multiple=True,
    required=True,
    help="Values to try, each YAML (a list value in brackets); several --set make every combination, at most 64.",
)
@output_options()
@click.pass_context
def command(context: click.Context, scenario: str, values: tuple[str, ...], output: Output) -> None:
    """Solve SCENARIO again for each value, one row each, relative to the scenario as it stands."""
    from planner.analysis.whatif import what_if
    from planner.inputs.saved import load
    from planner.report.whatif import whatif_blocks, whatif_document

    rows = what_if(load(scenario), values, progress=progress)
    output.write(lambda: whatif_blocks(rows), lambda: whatif_document(rows))
    statuses = {row.status for row in rows[1:]}
    if not statuses & {"optimal", "feasible"}:
        context.exit(NoVerdict.exit_code if "unknown" in statuses else NoLayoutFits.exit_code)
