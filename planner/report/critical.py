"""Plans that start only if their allocator gives memory back, told apart in every table of plans."""

from __future__ import annotations

from collections.abc import Iterable

from planner.report.blocks import Text
from planner.search.plan import Plan
from planner.units import number


def free_cell(plan: Plan) -> str:
    """GiB free, and the word where the run waits for memory to be given back."""
    free = number(plan.headroom_gib, 1)
    return f"{free} critical" if plan.given_back_gib > 0 else free


def critical_note(plans: Iterable[Plan | None]) -> list[Text]:
    """What the word means, where any of these plans has it."""
    if not any(plan is not None and plan.given_back_gib > 0 <= plan.headroom_gib for plan in plans):
        return []
    said = "critical: starts only if the allocator gives back what it caches; expect it slower than its speed here."
    return [Text(said)]
