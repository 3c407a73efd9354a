"""What would make a plan safe, in a sentence and as data."""

from __future__ import annotations

from planner.analysis.safer import Safer
from planner.inputs.document import Document
from planner.report.blocks import Block, Bullets, Heading
from planner.report.json_text import JsonObject
from planner.report.short import short_layout, typed
from planner.search.plan import Plan, chance_words
from planner.units import number, percent

NAME = "safer"
"""Of the row."""


def safer_text(found: Safer, base: Plan) -> str:
    """`safe with sync_each_batch at 1.2 % less speed: ...`, or that nothing tried is safe."""
    room = f"leaves {number(found.headroom_gib, 1)} GiB"
    change = found.throughput_change(base)
    if found.plan is None or change is None:
        also = f" with {_either(found.opened)} alone" if found.opened else ""
        also += f", whatever {_either(found.freed)}," if found.freed else ""
        if found.proved:
            return f"no layout{also} {room}, with which it would be called safe (proved)"
        return f"no safe layout was found{also}".rstrip(",")
    taken = " and ".join(found.taken)
    share = f"{percent(abs(change))} {'less' if change < 0 else 'more'}"
    speed = f"at {share} speed" if abs(change) >= 5e-4 else "at the same speed"
    chance = found.plan.fit_probability
    fits = "" if chance is None else f", fits with {chance_words(chance)}"
    which = "the fastest" if found.proved else "the fastest found"
    free = f"{number(found.plan.headroom_gib, 1)} GiB free{fits}"
    return f"safe with {taken or 'another layout'} {speed}: {short_layout(found.plan)}; {free} ({which} that {room})"


def safer_rows(found: Safer | None, base: Plan | None) -> tuple[tuple[str, str], ...]:
    """The same as a row of a short answer; none where the plan is safe."""
    return () if found is None or base is None else ((NAME, safer_text(found, base)),)


def safer_blocks(found: Safer | None, base: Plan | None, document: Document | None = None) -> list[Block]:
    """The same with what to type for it, where it is about a scenario's file."""
    if found is None or base is None:
        return []
    text = safer_text(found, base)
    said = [f"{text[0].upper()}{text[1:]}."]
    if found.plan is not None and document is not None:
        said.append(f"To type: planner solve {typed(document, found.arguments)}")
    return [Heading("What would make it safe, solved again"), Bullets(tuple(said))]


def safer_document(found: Safer | None, base: Plan | None) -> JsonObject | None:
    """The same for programs; null where the plan is safe."""
    if found is None or base is None:
        return None
    plan = found.plan
    return {
        "text": safer_text(found, base),
        "headroom_gib_asked": found.headroom_gib,
        "opened": list(found.opened),
        "freed": list(found.freed),
        "proved": found.proved,
        "set": list(found.arguments) if plan is not None else [],
        "layout": short_layout(plan) if plan is not None else None,
        "headroom_gib": plan.headroom_gib if plan is not None else None,
        "fit_probability": plan.fit_probability if plan is not None else None,
        "throughput_change": found.throughput_change(base),
    }


def _either(names: tuple[str, ...]) -> str:
    """`a, b or c`"""
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
