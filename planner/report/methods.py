"""Other ways to train that would fit, in sentences."""

from __future__ import annotations

from planner.analysis.other_methods import Method
from planner.inputs.document import Document
from planner.report.blocks import Command
from planner.report.short import typed
from planner.search.plan import verdict
from planner.units import format_seconds, number


def method_notes(methods: tuple[Method, ...]) -> tuple[str, ...]:
    """One sentence for all of them, with the memory and the time of each; none where there is none."""
    if not methods:
        return ()
    said = (
        f"{each.name}: {number(each.plan.peak_gib, 1)} of {number(each.plan.usable_gib, 1)} GiB "
        f"({verdict(each.plan)}), "
        f"{format_seconds(each.plan.step_seconds)} a step"
        for each in methods
    )
    return (f"fits instead (solved): {'; '.join(said)}",)


def method_command(document: Document, method: Method) -> Command:
    """What to type for one of them."""
    return Command(f"planner solve {typed(document, method.arguments)}", f"{method.name} fits: its layout in full")
