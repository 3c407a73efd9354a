"""Why each degree of a plan is what it is: the rule or the memory that stops half of it and twice of it, or the speed.

The neighbours are costed as they stand, with the plan's recomputation; nothing is searched again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.search.plan import Plan, make_plan
from planner.search.space import AXES
from planner.units import number

DEGREES = (
    ("tensor_parallel", "TP"),
    ("pipeline_parallel", "PP"),
    ("context_parallel", "CP"),
    ("expert_parallel", "EP"),
)
RULES = {
    "tensor_parallel_inside_domain": "would leave the NVLink domain",
    "heads_divide_tensor": "does not divide the attention heads",
    "linear_heads_divide": "times context_parallel does not go into the heads of linear attention",
    "fp8_projection_divides": "leaves rows of the projection into linear attention that fp8 has no products for",
    "kv_heads_divide_tensor": "does not go into the key-value heads",
    "kv_heads_multiple_of_tensor": "does not divide the key-value heads",
    "layers_divide_pipeline": "does not divide the layers",
    "pairs_stay_together": "parts the two answers of a pair",
    "batch_divides": "leaves micro-batches that do not divide the batch",
    "experts_divide": "does not divide the experts",
    "expert_grid": "does not go into the ranks of a stage",
}
"""A rule in a few words; others by their name."""
CLOSE = 0.005
"""Speeds nearer than this are called equal."""


@dataclass(frozen=True)
class Reason:
    """One decision, and what stops its neighbours."""

    decision: str
    """`tensor_parallel`, or another column of a layout."""
    text: str
    """`TP=4: 8 would leave the NVLink domain; 2 lacks 12.3 GiB`."""


def reasons(plan: Plan) -> tuple[Reason, ...]:
    """Why each degree, micro-batch and recomputation of a plan are as they are; in the order of the flags."""
    out = []
    base = _costed(plan, plan.layout, plan.layers, plan.recomputed)
    for name, short in DEGREES:
        said = [f"{value} {why}" for value in (plan.layout[name] * 2, plan.layout[name] // 2)
                if value >= 1 and (why := _neighbour(plan, base, name, value))]  # fmt: skip
        if said:
            out.append(Reason(name, f"{short}={plan.layout[name]}: {'; '.join(said)}"))
    size = "max_tokens" if plan.layout["max_tokens"] else "micro_batch_size"
    word = "tokens a GPU" if plan.layout["max_tokens"] else "micro-batch"
    if why := _neighbour(plan, base, size, plan.layout[size] * 2):
        out.append(Reason(size, f"{word}={plan.layout[size]:,}: {plan.layout[size] * 2:,} {why}"))
    if any(plan.recomputed):
        partial = plan.problem.engine.recompute.partial and plan.problem.scenario.layout.recomputed_layers != "all"
        step = plan.layout["virtual_pipeline"] if partial else max(plan.layers)
        other = _costed(plan, plan.layout, plan.layers, tuple(max(0, count - step) for count in plan.recomputed))
        if other is not None and base is not None and (why := _compared(plan, base, other)):
            what = f"{step} less a stage" if partial else "none"
            out.append(Reason("recomputed", f"recomputed layers={max(plan.recomputed)} a stage: {what} {why}"))
    return tuple(out)


def _neighbour(plan: Plan, base: Plan | None, name: str, value: int) -> str:
    """What stops a plan's neighbour, in words; empty where there is none to speak of."""
    if name == "expert_parallel" and not plan.problem.architecture.is_moe:
        return ""
    if name == "context_parallel" and value > 1 and not plan.problem.engine.context_parallel:
        return ""
    if name == "pipeline_parallel" and value > 1 and not plan.problem.engine.pipeline.supported:
        return ""
    if name == "tensor_parallel" and value > 1 and not plan.problem.engine.tensor_parallel:
        return ""
    row = dict(plan.layout) | {name: value}
    ranks = row["tensor_parallel"] * row["pipeline_parallel"] * row["context_parallel"]
    if row["num_gpus"] % ranks:
        return f"does not go into {row['num_gpus']} GPUs"
    row["data_parallel"] = row["num_gpus"] // ranks
    each = row["data_parallel"] * (1 if row["max_tokens"] else row["micro_batch_size"])
    if row["max_tokens"]:
        packed = plan.layout["num_micro_batches"] * plan.layout["data_parallel"] * plan.layout[size_of(row)]
        row["num_micro_batches"] = max(1, -(-packed // (row["data_parallel"] * row[size_of(row)])))
    elif row["global_batch_size"] % each:
        return "leaves micro-batches that do not divide the batch"
    else:
        row["num_micro_batches"] = row["global_batch_size"] // each
    row["sequence_parallel"] = int(row["tensor_parallel"] > 1 and _cuts_sequence(plan))
    broken = _broken(plan.problem, row)
    if broken is not None:
        return RULES.get(broken, f"breaks {broken}")
    stages = row["pipeline_parallel"]
    total = sum(plan.layers)
    if total % stages and name == "pipeline_parallel":
        return "does not divide the layers"
    layers = plan.layers if name != "pipeline_parallel" else tuple(total // stages for _ in range(stages))
    share = sum(plan.recomputed) / total
    kept = plan.recomputed if name != "pipeline_parallel" else tuple(round(share * n) for n in layers)
    other = _costed(plan, row, layers, kept)
    return "" if other is None or base is None else _compared(plan, base, other)


def size_of(row: dict[str, int]) -> str:
    """The column that says how large a micro-batch is."""
    return "max_tokens" if row["max_tokens"] else "micro_batch_size"


def _cuts_sequence(plan: Plan) -> bool:
    if plan.layout["tensor_parallel"] > 1:
        return bool(plan.layout["sequence_parallel"])
    return plan.problem.engine.sequence_parallel != "never"


def _row(row: dict[str, int]) -> Layouts:
    return Layouts(**{name: np.array([value], dtype=np.int64) for name, value in {**row, "variant": 0}.items()})


def _broken(problem: Problem, row: dict[str, int]) -> str | None:
    """The first rule that a row breaks."""
    layouts = _row(row)
    for axis in AXES:
        rules = [*axis.RULES, *(rule for rule in axis.ENGINE_RULES if rule.name in problem.engine.rules)]
        for rule in rules:
            if not np.all(rule.keeps(problem, layouts)):
                return str(rule.name)
    return None


def _costed(plan: Plan, row: dict[str, int], layers: tuple[int, ...], recomputed: tuple[int, ...]) -> Plan | None:
    """The training side of a layout; a rollout engine beside it is left as it is."""
    if plan.problem.later is not None:
        return None
    return make_plan(plan.problem.alone, _row(row), 0, layers, recomputed, None, None)


def _compared(plan: Plan, base: Plan, other: Plan) -> str:
    """What is against the other: memory, or speed; empty where it is better in both (a wish or a pin decided)."""
    usable = other.usable_gib
    if other.peak_gib > usable:
        return f"lacks {number(other.peak_gib - usable, 1)} GiB"
    if other.given_back_gib > plan.given_back_gib:
        return f"lacks {number(other.given_back_gib, 1)} GiB of its allocator's reserve"
    demanded = plan.demanded_gib
    if demanded and usable - other.peak_gib < demanded:
        return f"leaves {number(usable - other.peak_gib, 1)} GiB of the {number(demanded, 1)} demanded"
    slower = other.step_seconds / base.step_seconds - 1
    if slower > CLOSE:
        return f"trains {number(100 * slower, 0)} % slower"
    if slower > -CLOSE:
        return "is as fast"
    return ""
