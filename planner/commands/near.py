"""`planner near`: the best distinct layouts, since the real best may be the model's second or third."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from planner.commands.common import (
    emit,
    format_option,
    out_option,
    progress,
    render_blocks,
    scenario_argument,
    set_option,
)
from planner.errors import NoLayoutFits

if TYPE_CHECKING:
    from planner.report.blocks import Block
    from planner.search.search import Outcome


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
@format_option("table", "json", "markdown", "html")
@out_option
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    overrides: tuple[str, ...],
    count: int,
    within: float,
    style: str,
    out: str | None,
    force: bool,
) -> None:
    """Print the best distinct layouts of SCENARIO, each proved with the earlier ones left out."""
    from planner.analysis.near import near_plans
    from planner.inputs.catalog import default_catalog
    from planner.inputs.document import load
    from planner.problem.resolve import question_of

    document = load(scenario, overrides)
    problem = question_of(document, default_catalog())
    found = near_plans(problem, count=count, within=within, progress=progress)
    if style == "json":
        from planner.report.json_text import dumps

        emit(dumps(_document(found)), out, force)
    else:
        emit(render_blocks(_blocks(document.name, found, within), style), out, force)
    if not found:
        context.exit(NoLayoutFits.exit_code)


def _blocks(name: str, found: list[Outcome], within: float) -> list[Block]:
    from planner.report.blocks import Grid, Headline, Text
    from planner.report.short import LEGEND, short_binding, short_layout
    from planner.report.summary import plan_error_blocks
    from planner.units import number, percent, signed

    plans = [outcome.plan for outcome in found if outcome.plan is not None]
    if not plans:
        return [Headline(f"{name}: no layout fits (proved)", good=False)]
    best = plans[0]
    rows = []
    for place, plan in enumerate(plans, 1):
        slower = plan.step_seconds / best.step_seconds - 1
        rows.append(
            (
                str(place),
                short_layout(plan),
                number(plan.step_seconds, 2),
                f"{signed(slower * 100, 1)} %",
                number(plan.headroom_gib, 1),
                short_binding(plan),
            )
        )
    unproved = sum(outcome.status != "optimal" for outcome in found)
    return [
        Headline(f"{name}: {len(plans)} layouts within {percent(within)} of the best"),
        Grid(("", "layout", "step s", "slower", "free GiB", "fullest in"), tuple(rows), left=frozenset({1, 5})),
        *([Text(f"Not proved within the time limit: {unproved} of {len(plans)}.")] if unproved else []),
        Text(LEGEND),
        Text(
            "On public sweeps the best of the first three is the real best more often than the first alone: try three."
        ),
        *plan_error_blocks(best),
    ]


def _document(found: list[Outcome]) -> dict[str, Any]:
    from planner.search.decisions import layout_document

    return {
        "schema_version": 1,
        "plans": [
            {
                "status": outcome.status,
                "layout": layout_document(outcome.plan),
                "step_seconds": outcome.plan.step_seconds,
                "tokens_per_second": outcome.plan.tokens_per_second,
                "headroom_gib": outcome.plan.headroom_gib,
            }
            for outcome in found
            if outcome.plan is not None
        ],
    }
