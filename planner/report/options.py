"""What options of the engine do at a plan's layout: as a table, in one line, and as data."""

from __future__ import annotations

from collections.abc import Sequence

from planner.analysis.option_gains import OptionGain
from planner.report.blocks import Block, Grid, Heading, Text
from planner.report.json_text import JsonObject
from planner.units import number, percent, signed

LEAST_CHANGE, LEAST_GIB = 5e-4, 0.05
"""What counts as a difference: a share of the throughput, and GiB."""
TITLE = "What options of the engine do at this layout"


def option_blocks(gains: Sequence[OptionGain]) -> list[Block]:
    """Each option with what it gains in the plan as it stands, and those that change nothing or are refused."""
    if not gains:
        return []
    rows = [(_named(gain), _speed(gain), _free(gain), gain.text) for gain in gains if _matters(gain)]
    blocks: list[Block] = [Heading(TITLE)]
    if rows:
        blocks.append(Grid(("option", "tokens/s", "free GiB", "what it does"), tuple(rows), left=frozenset({0, 3})))
    without = [gain.name for gain in gains if not gain.refused and not _matters(gain)]
    said = [f"No difference here: {', '.join(without)}."] if without else []
    said += [f"{gain.name}: {gain.refused}." for gain in gains if gain.refused]
    if any(gain.changes_numbers and _matters(gain) for gain in gains):
        said.append("* changes what is computed: the search tries it only where options_to_try names it.")
    said.append(
        "Each alone, all else as in the plan; options_to_try: [NAME] searches with it, any with all that do not."
    )
    return [*blocks, *(Text(each) for each in said)]


def option_line(gains: Sequence[OptionGain]) -> str:
    """The chosen ones with what each gains; then those that would, results and the rest of the plan as they are."""
    chosen = [f"{gain.name} {_in_short(gain)}" for gain in gains if gain.is_on and not gain.refused]
    free = (gain for gain in gains if not gain.is_on and not gain.changes_numbers)
    others = [f"{gain.name} {_in_short(gain)}" for gain in free if _better(gain)]
    return "; ".join([*chosen, *(["not on: " + ", ".join(others)] if others else [])])


def options_document(gains: Sequence[OptionGain]) -> list[JsonObject]:
    """The same for programs."""
    return [
        {
            "name": gain.name,
            "text": gain.text,
            "on": gain.is_on,
            "changes_numbers": gain.changes_numbers,
            "throughput_change": gain.throughput_change,
            "free_gib_change": gain.free_gib,
            "refused": gain.refused or None,
        }
        for gain in gains
    ]


def _named(gain: OptionGain) -> str:
    without = f", without {' and '.join(gain.others_off)}" if gain.others_off else ""
    return f"{gain.name}{'*' * gain.changes_numbers}{' (on)' * gain.is_on}{without}"


def _matters(gain: OptionGain) -> bool:
    return abs(gain.throughput_change or 0.0) >= LEAST_CHANGE or abs(gain.free_gib or 0.0) >= LEAST_GIB


def _better(gain: OptionGain) -> bool:
    faster, free = gain.throughput_change or 0.0, gain.free_gib or 0.0
    return not gain.refused and _matters(gain) and faster > -LEAST_CHANGE and free > -LEAST_GIB


def _speed(gain: OptionGain) -> str:
    change = gain.throughput_change or 0.0
    return f"{signed(change * 100, 1)} %" if abs(change) >= LEAST_CHANGE else percent(0.0)


def _free(gain: OptionGain) -> str:
    free = gain.free_gib or 0.0
    return signed(free, 1) if abs(free) >= LEAST_GIB else number(0.0, 1)


def _in_short(gain: OptionGain) -> str:
    parts = [_speed(gain)] if abs(gain.throughput_change or 0.0) >= LEAST_CHANGE else []
    parts += [f"{_free(gain)} GiB free"] if abs(gain.free_gib or 0.0) >= LEAST_GIB else []
    return f"({', '.join(parts) or 'no difference'})"
