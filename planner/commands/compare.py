"""`planner compare`: scenarios, saved plans and overrides of one scenario, beside each other."""

from __future__ import annotations

import shlex

import click

from planner.commands import completing
from planner.commands.common import Output, answer_options, note, progress
from planner.errors import InputError, NoLayoutFits, NoVerdict, Place


@click.command(epilog="Example: planner compare example:qwen7b_rl --set-b limits.headroom_gib=10")
@click.argument("paths", metavar="A [B ...]", nargs=-1, required=True, shell_complete=completing.scenarios)
@click.option("--set-a", "overrides_a", metavar="PATH=VALUE", multiple=True, help="Override a value of A; repeatable.")
@click.option(
    "--set-b", "overrides_b", metavar="PATH=VALUE", multiple=True, help="Override a value of B (A where there is no B)."
)
@click.option(
    "--also", metavar="'PATH=VALUE ...'", multiple=True, help="One more side: A with these values; repeatable."
)
@answer_options
@click.pass_context
def command(
    context: click.Context,
    paths: tuple[str, ...],
    overrides_a: tuple[str, ...],
    overrides_b: tuple[str, ...],
    also: tuple[str, ...],
    output: Output,
) -> None:
    """Differences of A and B, C, ...: scenarios, plans saved by `planner solve --format json`, A with other values.

    A saved plan is not searched again; the values of --set-a, --set-b and --also change the scenario that it answered.
    """
    from planner.analysis.many_plans import compare_many
    from planner.analysis.two_plans import Side
    from planner.inputs.catalog import default_catalog
    from planner.inputs.examples import absent, file_of, missing
    from planner.report.two_plans import compare_blocks, compare_document, compare_figures, compare_screen

    wrong = [missing(path, Place(path)) for path in paths if path != "-" and absent(file_of(path))]
    if wrong:
        raise InputError(wrong)
    sides: list[tuple[str, tuple[str, ...]]] = [(path, ()) for path in paths]
    sides[0] = (paths[0], overrides_a)
    if overrides_b:
        sides[1:2] = [(paths[1] if len(paths) > 1 else paths[0], overrides_b)]
    elif len(paths) == 1 and overrides_a and not also:
        sides.append((paths[0], ()))
    sides += [(paths[0], tuple(shlex.split(values))) for values in also]
    found = compare_many([path for path, _ in sides], [values for _, values in sides], default_catalog(), progress)
    for remark in dict.fromkeys(side.remark for side in found.sides if side.remark is not None):
        note(remark)
    output.write(
        lambda: compare_blocks(found),
        lambda: compare_document(found),
        screen=lambda: compare_screen(found),
        figures=lambda: compare_figures(found),
    )
    if not any(isinstance(side, Side) for side in found.sides):
        proved = all(side.status == "infeasible" for side in found.sides)
        context.exit(NoLayoutFits.exit_code if proved else NoVerdict.exit_code)
