"""What free stages are worth: the same scenario with an even split and one recompute count, solved beside the plan."""

from __future__ import annotations

from dataclasses import dataclass

from planner.blocks import Block, Heading, Text, number
from planner.catalog import Catalog
from planner.pipeline import override, plan
from planner.plan import Plan
from planner.search import Outcome
from planner.short import short_layout, short_wishes
from planner.units import format_seconds

WORDS = {"layout.layers_per_stage": "an even split", "layout.recompute": "one recompute count"}


@dataclass(frozen=True)
class Uniform:
    """The best plan whose stages are alike."""

    changes: dict[str, str]
    """What makes the scenario uniform."""
    plan: Plan | None
    """None where no uniform layout fits, or none was found in time."""
    gain: float | None
    """Throughput of the free plan over the uniform one's, less one; None where their wishes differ, or without one."""


def uniform(outcome: Outcome, catalog: Catalog, *, time_limit_s: float | None = None) -> Uniform | None:
    """Solve for stages that are alike, where the scenario leaves them free; None where it does not."""
    spec, found = outcome.problem.scenario.layout, outcome.plan
    uneven = found is not None and len(set(found.layers)) > 1
    changes = {"layout.layers_per_stage": "even"} if spec.layers_per_stage == "free" or uneven else {}
    changes = {} if isinstance(spec.layers_per_stage, list) else changes
    changes |= {"layout.recompute": "uniform"} if spec.recompute == "per_stage" else {}
    if found is None or not changes:
        return None
    again = plan(override(outcome.problem.document, changes), catalog, check_points=0, time_limit_s=time_limit_s)
    if again.plan is None:
        return Uniform(changes, None, None)
    if again.plan.wish.given_up != found.wish.given_up:
        return Uniform(changes, again.plan, None)
    return Uniform(changes, again.plan, found.tokens_per_second / again.plan.tokens_per_second - 1)


def uniform_blocks(uniform: Uniform | None) -> list[Block]:
    """What free stages gain over stages that are alike."""
    if uniform is None:
        return []
    what = " and ".join(WORDS[path] for path in uniform.changes)
    if uniform.plan is None:
        return [Heading("Free stages"), Text(f"With {what} no layout fits, or none was found in time.")]
    again = uniform.plan
    said = f"With {what} the best plan is {short_layout(again)}: {format_seconds(again.step_seconds)} a step, "
    said += f"{number(again.headroom_gib, 1)} GiB free"
    if uniform.gain is None:
        return [Heading("Free stages"), Text(f"{said}, and it gives up other wishes ({short_wishes(again)}).")]
    within = " (within the near-tie band)" if abs(uniform.gain) <= again.problem.scenario.search.near_tie else ""
    return [Heading("Free stages"), Text(f"{said}. Free stages change throughput by {uniform.gain:+.1%}{within}.")]
