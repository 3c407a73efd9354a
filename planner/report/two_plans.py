"""Two plans side by side as blocks and as data."""

from __future__ import annotations

import shlex
from typing import Any

from planner.analysis.two_plans import Difference, Differences, Side
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Text
from planner.report.json_text import JsonObject
from planner.report.short import provenance
from planner.search.plan import PHASES
from planner.units import number, percent, signed


def compare_blocks(comparison: Differences) -> list[Block]:
    """Layout, figures, memory and time of both, with signed differences."""
    a, b = comparison.a, comparison.b
    ratio = b.tokens_per_second / a.tokens_per_second
    same = all(left == right for _, left, right in comparison.layout)
    text = (
        f"B against A: {signed(b.peak_gib - a.peak_gib)} GiB peak, {signed(b.headroom_gib - a.headroom_gib)} GiB free, "
    )
    text += f"{signed(b.step_seconds - a.step_seconds)} s a step, {percent(ratio)} of the tokens a second"
    blocks: list[Block] = [Headline(text), Text(f"A: {a.name} ({a.status})"), Text(f"B: {b.name} ({b.status})")]
    blocks += [Heading("Layout" + (" (the same)" if same else "")), _layout(comparison)]
    blocks += [Heading("Figures"), _figures(a, b)]
    blocks += [
        Heading(f"Memory when fullest: A in {_where(a)}, B in {_where(b)}"),
        _ledger(comparison.memory, "GiB", 2),
        Heading("Time of one step"),
        _ledger(comparison.time, "s", 3),
        Bullets(_known_errors(comparison)),
    ]
    return [*blocks, Command(*_next(comparison))]


def _next(comparison: Differences) -> tuple[str, str]:
    """(command, purpose): one side in full."""
    for label, side in (("A", comparison.a), ("B", comparison.b)):
        if side.scenario is not None:
            sets = [part for argument in side.overrides for part in ("--set", argument)]
            verb = "estimate" if side.status == "does not fit" else "solve"
            command = f"planner {verb} " + " ".join(shlex.quote(part) for part in (side.scenario, *sets))
            return command, f"{label} in full"
    return "planner --help", "what else there is"


def _where(side: Side) -> str:
    phase = PHASES.get(side.phase, side.phase)
    return phase if side.stage is None else f"{phase}, stage {side.stage}"


def _layout(comparison: Differences) -> Grid:
    rows = [
        (name, _cell(left), _cell(right), "" if left == right else "differs") for name, left, right in comparison.layout
    ]
    strong = frozenset(place for place, row in enumerate(rows) if row[3])
    return Grid(("decision", "A", "B", ""), tuple(rows), left=frozenset({0, 3}), strong=strong)


def _cell(value: Any) -> str:
    """A decision as text; lists of equal stages in short."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value:
        return f"{value[0]} each" if len(set(value)) == 1 else " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _figures(a: Side, b: Side) -> Grid:
    rows = []
    for name, left, right, digits in (
        ("peak [GiB]", a.peak_gib, b.peak_gib, 2),
        ("usable [GiB]", a.usable_gib, b.usable_gib, 2),
        ("free [GiB]", a.headroom_gib, b.headroom_gib, 2),
        ("step [s]", a.step_seconds, b.step_seconds, 3),
        ("tokens/s", a.tokens_per_second, b.tokens_per_second, 0),
        ("tokens/s a GPU", a.tokens_per_second_per_gpu, b.tokens_per_second_per_gpu, 0),
        ("MFU [%]", a.mfu * 100, b.mfu * 100, 1),
    ):
        rows.append((name, number(left, digits), number(right, digits), signed(right - left, digits)))
    return Grid(("", "A", "B", "B - A"), tuple(rows))


def _ledger(rows: tuple[Difference, ...], unit: str, digits: int) -> Grid:
    cells = [(r.name, number(r.a, digits), number(r.b, digits), signed(r.change, digits)) for r in rows]
    left, right = sum(row.a for row in rows), sum(row.b for row in rows)
    cells.append(("total", number(left, digits), number(right, digits), signed(right - left, digits)))
    return Grid(
        (f"item [{unit}]", "A", "B", "B - A"),
        tuple(cells),
        strong=frozenset({len(rows)}),
        rules=frozenset({len(rows) - 1}),
    )


def _known_errors(comparison: Differences) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*comparison.a.known_errors, *comparison.b.known_errors]))


def compare_document(comparison: Differences) -> JsonObject:
    """The same for programs."""
    a, b = comparison.a, comparison.b
    return {
        "a": _side(a),
        "b": _side(b),
        "layout": [{"name": n, "a": x, "b": y, "same": x == y} for n, x, y in comparison.layout],
        "memory": [_difference(row, "gib") for row in comparison.memory],
        "time": [_difference(row, "seconds") for row in comparison.time],
        "known_error": list(_known_errors(comparison)),
        "provenance": provenance([a.document, b.document], sorted({*a.provenance, *b.provenance})),
    }


def _difference(row: Difference, unit: str) -> JsonObject:
    return {
        "name": row.name,
        f"a_{unit}": round(row.a, 9),
        f"b_{unit}": round(row.b, 9),
        f"change_{unit}": round(row.change, 9),
    }


def _side(side: Side) -> JsonObject:
    return {
        "name": side.name,
        "status": side.status,
        "peak_gib": round(side.peak_gib, 9),
        "usable_gib": round(side.usable_gib, 9),
        "headroom_gib": round(side.headroom_gib, 9),
        "binding_stage": side.stage,
        "binding_phase": side.phase,
        "step_seconds": round(side.step_seconds, 9),
        "tokens_per_second": round(side.tokens_per_second, 9),
        "tokens_per_second_per_gpu": round(side.tokens_per_second_per_gpu, 9),
        "mfu": round(side.mfu, 9),
    }
