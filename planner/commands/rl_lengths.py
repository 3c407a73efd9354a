"""`planner rl-lengths`: what longer responses need, as one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from planner.errors import Mistake, NoLayoutFits, Place

if TYPE_CHECKING:
    from planner.analysis.rl_lengths import LengthAnswer
    from planner.inputs.document import Document
    from planner.report.blocks import Block


@click.command(epilog="Example: planner rl-lengths scenarios/qwen7b_rl.yaml --lengths 8192,16384,32768")
@scenario_argument
@set_option
@click.option(
    "--lengths",
    default="8192,16384,32768",
    show_default=True,
    metavar="N,N",
    help="Largest responses to plan for [tokens].",
)
@format_option("table", "json", "markdown", "html")
@out_option
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    overrides: tuple[str, ...],
    lengths: str,
    style: str,
    out: str | None,
    force: bool,
) -> None:
    """Solve the RL step of SCENARIO for several largest responses, its distribution of lengths scaled with them."""
    from planner.analysis.rl_lengths import rl_lengths
    from planner.inputs.document import load

    document = load(scenario, overrides)
    answers = rl_lengths(document, _lengths(lengths), progress=progress)
    if style == "json":
        from planner.report.json_text import dumps

        emit(dumps(_document(document, answers)), out, force)
    else:
        emit(render_blocks(_blocks(document.name, answers), style), out, force)
    if all(answer.plan is None for answer in answers):
        context.exit(NoLayoutFits.exit_code if all(a.outcome.status == "infeasible" for a in answers) else 3)


def _lengths(text: str) -> list[int]:
    """`8192,16384`. Raises InputError for anything else."""
    from planner.errors import InputError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(
            Mistake(
                f"--lengths {text}: expected whole numbers of tokens, separated by commas",
                Place("--lengths"),
                attempt="--lengths 8192,16384,32768",
            )
        )
    return [int(part) for part in parts]


def _blocks(name: str, answers: list[LengthAnswer]) -> list[Block]:
    from planner.report.blocks import Bullets, Grid, Headline, Text
    from planner.report.short import short_wishes
    from planner.report.summary import plan_error_blocks
    from planner.search.search import why_nothing_fits

    plans = [answer.plan for answer in answers if answer.plan is not None]
    names = (
        "mean generated",
        "degrees",
        "samples a micro-batch",
        "recomputed layers a stage",
        "longest sample, tokens",
        "rollout engine",
        "memory fraction",
        "pool over mean demand",
        "pool over worst demand",
        "peak GiB",
        "free GiB",
        "host GiB of a node",
        "rollout s",
        "step s",
        "trained samples/s",
    )
    fitting = f"{len(plans)} of {len(answers)} largest responses fit"
    blocks: list[Block] = [Headline(f"{name}: {fitting}", good=bool(plans))]
    cells = [_cells(answer) for answer in answers]
    rows = tuple((name, *(column[place] for column in cells)) for place, name in enumerate(names))
    blocks.append(Grid(("responses of up to", *(f"{a.response_length:,}" for a in answers)), rows))
    reasons = []
    for a in answers:
        if a.plan is None:
            infeasible = a.outcome.status == "infeasible"
            said = why_nothing_fits(a.outcome) if infeasible else "no verdict within the limit"
            reasons.append(f"{a.response_length:,}: {said}")
    reasons += [
        f"{a.response_length:,} gives up {short_wishes(a.plan)}"
        for a in answers
        if a.plan is not None and a.plan.wish.given_up
    ]
    blocks += [Bullets(tuple(reasons))] if reasons else []
    blocks.append(
        Text(
            "The distribution of lengths is scaled with the largest response. Pool over demand: how many times the "
            "pool of an engine holds the samples that it decodes at once, all at their end, of mean or of largest "
            "length; below 1 samples wait or are put back."
        )
    )
    return [*blocks, *(plan_error_blocks(plans[0]) if plans else [])]


def _cells(answer: LengthAnswer) -> tuple[str, ...]:
    """One column of the table."""
    from planner.search.plan import degrees, host_total_gib
    from planner.units import number

    plan = answer.plan
    if plan is None or plan.rollout is None:
        return (answer.outcome.status, *("-",) * 14)
    rollout, layout = plan.rollout, plan.layout
    generated = layout["mean_sequence_length"] - (layout["sequence_length"] - plan.wish.response_length)
    tokens = layout["max_tokens"]
    return (
        f"{generated:,}",
        degrees(layout),
        f"to {tokens:,} tokens" if tokens else str(layout["micro_batch_size"]),
        "/".join(str(count) for count in sorted(set(plan.recomputed))),
        f"{layout['sequence_length']:,}",
        f"{rollout.num_gpus // rollout.tensor_parallel} x TP{rollout.tensor_parallel}",
        f"{rollout.gpu_memory_utilization:g}",
        number(rollout.pool_tokens / rollout.mean_tokens, 1),
        number(rollout.pool_tokens / rollout.worst_tokens, 1),
        number(plan.peak_gib, 1),
        number(plan.headroom_gib, 1),
        number(host_total_gib(plan)[0], 0),
        number(rollout.seconds, 1),
        number(plan.step_seconds, 1),
        number(plan.samples_per_second, 2),
    )


def _document(document: Document, answers: list[LengthAnswer]) -> dict[str, object]:
    from planner.report.short import provenance
    from planner.search.decisions import layout_document
    from planner.search.plan import host_total_gib

    used = {pair for answer in answers for pair in answer.outcome.question.provenance}
    rows = []
    for answer in answers:
        plan = answer.plan
        row: dict[str, object] = {
            "response_length": answer.response_length,
            "response_distribution": {"mean": answer.mean, "p99": answer.p99},
            "status": answer.outcome.status,
            "plan": None,
        }
        if plan is not None and plan.rollout is not None:
            row["plan"] = {
                "layout": layout_document(plan),
                "pool_tokens": plan.rollout.pool_tokens,
                "mean_demand_tokens": plan.rollout.mean_tokens,
                "worst_demand_tokens": plan.rollout.worst_tokens,
                "peak_gib": round(plan.peak_gib, 9),
                "headroom_gib": round(plan.headroom_gib, 9),
                "rollout_seconds": round(plan.rollout.seconds, 9),
                "step_seconds": round(plan.step_seconds, 9),
                "samples_per_second": round(plan.samples_per_second, 9),
                "host_gib": round(host_total_gib(plan)[0], 9),
            }
        rows.append(row)
    return {
        "schema_version": 1,
        "scenario": document.name,
        "rows": rows,
        "provenance": provenance([document], sorted(used)),
    }
