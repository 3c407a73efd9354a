"""What longer responses need, as one table and as data."""

from __future__ import annotations

from planner.analysis.rl_lengths import LengthAnswer
from planner.inputs.document import Document
from planner.report.blocks import Block, Bullets, Command, Grid, Headline, Text
from planner.report.critical import free_cell
from planner.report.envelope import enveloped, together
from planner.report.json_text import JsonObject
from planner.report.screen import Screen, error_text, model_text, screen_blocks
from planner.report.short import short_wishes, typed
from planner.report.summary import plan_error_blocks
from planner.search.decisions import layout_document
from planner.search.plan import degrees, host_total_gib
from planner.search.search import why_nothing_fits
from planner.units import number

NAMES = (
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
"""Rows of the table, as `_cells` fills them."""
ON_SCREEN = (
    *("degrees", "step s", "free GiB", "rollout engine", "memory fraction", "samples a micro-batch"),
    *("longest sample, tokens", "recomputed layers a stage", "pool over mean demand", "host GiB of a node"),
)
"""Those that people ask for first, as many as one screen holds."""


def rl_length_screen(document: Document, answers: list[LengthAnswer], lead: tuple[str, ...] = ()) -> list[Block]:
    """The same on one screen, under sentences about all of them."""
    plans = [answer.plan for answer in answers if answer.plan is not None]
    rows = (("model", model_text(plans[0])), ("risk", error_text(plans[0]))) if plans else ()
    command = Command(f"planner rl-lengths {typed(document)} -v", "every row, and what they mean")
    if plans:
        longest = max((a for a in answers if a.plan is not None), key=lambda a: a.response_length)
        scenario = typed(longest.outcome.question.document)
        command = Command(f"planner solve {scenario}", "the longest that fits in full (-v here: every row)")
    grid = _grid(answers, ON_SCREEN)
    return screen_blocks(
        Screen(
            _headline(document.name, answers), lead, table=grid, notes=_reasons(answers), after=rows, command=command
        )
    )


def rl_length_blocks(name: str, answers: list[LengthAnswer]) -> list[Block]:
    """One column a largest response, and what is known of the error."""
    plans = [answer.plan for answer in answers if answer.plan is not None]
    reasons = _reasons(answers)
    blocks: list[Block] = [_headline(name, answers), _grid(answers, NAMES)]
    blocks += [Bullets(reasons)] if reasons else []
    blocks.append(
        Text(
            "The distribution of lengths is scaled with the largest response. Pool over demand: how many times the "
            "pool of an engine holds the samples that it decodes at once, all at their end, of mean or of largest "
            "length; below 1 samples wait or are put back."
        )
    )
    return [*blocks, *(plan_error_blocks(plans[0]) if plans else [])]


def _headline(name: str, answers: list[LengthAnswer]) -> Headline:
    fitting = sum(answer.plan is not None for answer in answers)
    return Headline(f"{name}: {fitting} of {len(answers)} largest responses fit", good=fitting > 0)


def _grid(answers: list[LengthAnswer], names: tuple[str, ...]) -> Grid:
    cells = [_cells(answer) for answer in answers]
    rows = tuple((name, *(column[NAMES.index(name)] for column in cells)) for name in names)
    return Grid(("responses of up to", *(f"{a.response_length:,}" for a in answers)), rows)


def _reasons(answers: list[LengthAnswer]) -> tuple[str, ...]:
    """What keeps a length from fitting, and what is given up for it."""
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
    return tuple(reasons)


def _cells(answer: LengthAnswer) -> tuple[str, ...]:
    """One column of the table."""
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
        free_cell(plan),
        number(host_total_gib(plan)[0], 0),
        number(rollout.seconds, 1),
        number(plan.step_seconds, 1),
        number(plan.samples_per_second, 2),
    )


def rl_length_document(document: Document, answers: list[LengthAnswer]) -> JsonObject:
    """The same for programs."""
    used = {pair for answer in answers for pair in answer.outcome.question.provenance}
    rows = []
    for answer in answers:
        plan = answer.plan
        row: JsonObject = {
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
    status = together(answer.outcome.status for answer in answers)
    return enveloped(
        "rl-lengths", status, {"scenario": document.name, "rows": rows}, asked=[document], catalog=sorted(used)
    )
