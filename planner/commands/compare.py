"""`planner compare`: two scenarios, saved plans or overrides of one scenario, side by side."""

from __future__ import annotations

import click

from planner.commands.common import Output, output_options, progress


@click.command(epilog="Example: planner compare scenarios/qwen7b_rl.yaml --set-b limits.headroom_gib=10")
@click.argument("first", metavar="A")
@click.argument("second", metavar="[B]", required=False)
@click.option("--set-a", "overrides_a", metavar="PATH=VALUE", multiple=True, help="Override a value of A; repeatable.")
@click.option("--set-b", "overrides_b", metavar="PATH=VALUE", multiple=True, help="Override a value of B; repeatable.")
@output_options()
def command(
    first: str, second: str | None, overrides_a: tuple[str, ...], overrides_b: tuple[str, ...], output: Output
) -> None:
    """Differences of A and B: scenarios, plans saved by `planner solve --format json`, or A with two sets of values."""
    from planner.analysis.two_plans import compare_files
    from planner.inputs.catalog import default_catalog
    from planner.report.two_plans import compare_blocks, compare_document

    comparison = compare_files(first, second, overrides_a, overrides_b, default_catalog(), progress)
    output.write(lambda: compare_blocks(comparison), lambda: compare_document(comparison))
