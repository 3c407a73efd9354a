"""What free stages gain, as blocks."""

from __future__ import annotations

from planner.analysis.uniform import Uniform
from planner.report.blocks import Block, Heading, Text
from planner.report.short import short_layout, short_wishes
from planner.units import format_seconds, number

WORDS = {"layout.layers_per_stage": "an even split", "layout.recompute": "one recompute count"}


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
