"""`planner whatif`: the scenario solved again for each value of some of its fields."""

from __future__ import annotations

import click

from planner.commands.common import Output, answer_options, progress, scenario_argument
from planner.errors import NoLayoutFits, NoVerdict


@click.command(epilog="Example: planner whatif example:qwen7b_rl --set cluster.max_gpus=2,4,8")
@scenario_argument
@click.option(
    "--set",
    "values",
    metavar="PATH=VALUE,VALUE",
    multiple=True,
    help="Values to try, each YAML (a list value in brackets); several --set make every combination, at most 64. "
    "Without any, the scenario's own what_if: is asked.",
)
@answer_options
@click.pass_context
def command(context: click.Context, scenario: str, values: tuple[str, ...], output: Output) -> None:
    """Solve SCENARIO again for each value, one row each, relative to the scenario as it stands."""
    from planner.analysis.whatif import cheapest_rent, what_if
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import load
    from planner.report.blocks import Text
    from planner.report.whatif import whatif_blocks, whatif_document, whatif_screen
    from planner.report.whatif_terms import rent_text, whatif_figures

    catalog = default_catalog()
    rows = what_if(load(scenario), values, catalog, progress=progress)
    found = {row.label: cheapest_rent(row.plan, catalog) for row in rows if row.plan is not None}
    rents = {label: rent for label, rent in found.items() if rent is not None}
    output.write(
        lambda: whatif_blocks(rows),
        lambda: whatif_document(rows),
        screen=lambda: whatif_screen(rows),
        figures=lambda: [*whatif_figures(rows, rents), *([Text(rent_text(rents, tuple(found)))] if rents else [])],
    )
    statuses = {row.status for row in rows[1:]}
    if not statuses & {"optimal", "feasible"}:
        context.exit(NoVerdict.exit_code if "unknown" in statuses else NoLayoutFits.exit_code)
