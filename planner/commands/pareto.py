"""`planner pareto`: the front of throughput against headroom, GPUs, sequence length or dollars."""

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
from planner.errors import InputError, Mistake, NoLayoutFits

if TYPE_CHECKING:
    from planner.analysis.near import Front, Point
    from planner.problem.problem import Question
    from planner.report.blocks import Block
    from planner.schema.catalog import Price


@click.command(epilog="Example: planner pareto scenarios/qwen7b_rl.yaml --over headroom")
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
@format_option("table", "json", "markdown", "html")
@out_option
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    overrides: tuple[str, ...],
    over: str,
    price: str | None,
    style: str,
    out: str | None,
    force: bool,
) -> None:
    """Print the plans of SCENARIO of which none is better in both throughput and the other axis; each is solved."""
    from planner.analysis.near import front
    from planner.inputs.catalog import default_catalog
    from planner.inputs.document import load
    from planner.problem.resolve import question_of

    catalog = default_catalog()
    usd = None
    document = load(scenario, overrides)
    if price is not None:
        offer = catalog.find("prices", price)
        _same_gpu(offer, question_of(document, catalog))
        usd = offer.on_demand_usd_per_gpu_hour or offer.reserved_usd_per_gpu_hour or offer.spot_usd_per_gpu_hour
    found = front(document, catalog, over, price_usd_per_gpu_hour=usd, progress=progress)
    if style == "json":
        from planner.report.json_text import dumps

        emit(dumps(_document(found)), out, force)
    else:
        emit(render_blocks(_blocks(document.name, found), style), out, force)
    if not found.points:
        context.exit(NoLayoutFits.exit_code)


def _label(point: Point) -> str:
    from planner.report.short import short_layout

    return short_layout(point.plan)


def _same_gpu(offer: Price, question: Question) -> None:
    """Raise InputError unless all machines of the problem have the GPU that is priced."""
    kinds = sorted({p.gpu.id for variant in question.problems for p in (variant, variant.generating)})
    if kinds != [offer.gpu]:
        raise InputError(
            Mistake(
                f"price {offer.id} is that of {offer.gpu}",
                question.place("cluster"),
                f"the scenario's machines have {' and '.join(kinds)}",
                "planner catalog list prices",
            )
        )


def _blocks(name: str, found: Front) -> list[Block]:
    from planner.report.blocks import Grid, Headline, Plot, Text
    from planner.report.summary import plan_error_blocks
    from planner.units import number

    if not found.points:
        return [Headline(f"{name}: no layout fits anywhere on this front (proved)", good=False)]
    digits = {"headroom": 1, "dollars": 3}.get(found.over, 0)
    rows = tuple(
        (
            number(p.value, digits),
            number(p.plan.tokens_per_second, 0),
            number(p.plan.step_seconds, 2),
            str(p.plan.num_gpus),
            number(p.plan.headroom_gib, 1),
            _label(p),
        )
        for p in found.points
    )
    plans = f"{len(rows)} plans of which none is" if len(rows) > 1 else "one plan, and none is"
    columns = (found.unit, "tokens/s", "step s", "GPUs", "free GiB", "layout")
    blocks: list[Block] = [
        Headline(f"{name}: {plans} better in both throughput and {found.over}"),
        Grid(columns, rows, left=frozenset({5})),
    ]
    if len(rows) > 1:
        points = tuple((p.value, p.plan.tokens_per_second) for p in found.points)
        labels = tuple(f"{row[0]} {found.unit}, {row[1]} tokens/s, {row[5]}" for row in rows)
        blocks.append(Plot(f"tokens/s against {found.over}", found.unit, "tokens/s", points, labels))
    open_ = sum(p.status != "optimal" for p in found.points)
    said = "Every point is a plan solved and proved under its own limit."
    blocks.append(Text(f"Not proved within the time limit: {open_} of {len(rows)} points." if open_ else said))
    return [*blocks, *plan_error_blocks(found.points[0].plan)]


def _document(found: Front) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "over": found.over,
        "unit": found.unit,
        "points": [
            {
                "value": p.value,
                "status": p.status,
                "tokens_per_second": p.plan.tokens_per_second,
                "step_seconds": p.plan.step_seconds,
                "num_gpus": p.plan.num_gpus,
                "headroom_gib": p.plan.headroom_gib,
                "layout": _label(p),
            }
            for p in found.points
        ],
    }
