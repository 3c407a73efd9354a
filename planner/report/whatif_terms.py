"""Variations against the scenario as it stands: which decision changed where, and every item of memory and time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from planner.analysis.two_plans import Side, compare, plan_side
from planner.analysis.whatif import Rent, Variation
from planner.report.blocks import Block, Bullets, Figure, Grid, Heading, Stacked, Text
from planner.report.json_text import JsonObject
from planner.report.two_plans import decision_text, equal_items, pair_document
from planner.units import number, signed

Sides = list[tuple[str, Side]]


def sides_of(rows: list[Variation]) -> Sides:
    """(label, plan) of every row that has one; empty where the scenario as it stands has none."""
    if rows[0].plan is None:
        return []
    return [(row.label, plan_side(row.label, row.status, row.plan)) for row in rows if row.plan is not None]


def decision_changes(rows: list[Variation]) -> list[tuple[str, str]]:
    """(label, decisions that are not those of the scenario as it stands) of every variation that fits."""
    sides = sides_of(rows)
    out = []
    for label, side in sides[1:]:
        base = sides[0][1].layout
        changed = [
            f"{name} {decision_text(base.get(name))} -> {decision_text(value)}"
            for name, value in side.layout.items()
            if value != base.get(name)
        ]
        out.append((label, ", ".join(changed) or "every decision is the same"))
    return out


def term_blocks(rows: list[Variation]) -> list[Block]:
    """Decisions that changed, those that no variation changed, and differences item by item, largest first."""
    sides = sides_of(rows)
    if len(sides) < 2:
        return []
    names = dict.fromkeys(name for _, side in sides for name in side.layout)
    same = [
        f"{name} {decision_text(sides[0][1].layout.get(name))}"
        for name in names
        if all(side.layout.get(name) == sides[0][1].layout.get(name) for _, side in sides)
    ]
    return [
        Heading("Which decision changed where"),
        Bullets(tuple(f"{label}: {text}" for label, text in decision_changes(rows))),
        Text(f"Unchanged by all of them: {', '.join(same)}."),
        Heading("Memory at its fullest: difference to the scenario as it stands"),
        _terms(sides, "GiB", 2, lambda side: side.memory),
        Heading("Time of one step: difference to the scenario as it stands"),
        _terms(sides, "s", 3, lambda side: side.time),
    ]


def _terms(sides: Sides, unit: str, digits: int, items: Callable[[Side], tuple[tuple[str, float], ...]]) -> Grid:
    """One row an item: its amount as it stands, then signed differences, which add up to those of the totals."""
    totals = []
    for _, side in sides:
        total: dict[str, float] = {}
        for name, amount in items(side):
            total[name] = total.get(name, 0.0) + amount
        totals.append(total)
    names = list(dict.fromkeys(name for total in totals for name in total))
    rows = [(name, [total.get(name, 0.0) for total in totals]) for name in names]
    rows.sort(key=lambda row: (-max(abs(x - row[1][0]) for x in row[1]), -max(row[1]), row[0]))
    moving = [row for row in rows if any(float(f"{x - row[1][0]:.{digits}f}") for x in row[1])]
    still = [row for row in rows if row not in moving]
    if still:
        summed = [sum(row[1][place] for row in still) for place in range(len(sides))]
        moving.append((equal_items(len(still)), summed))
    moving.append(("total", [sum(row[1][place] for row in rows) for place in range(len(sides))]))
    cells = tuple(
        (name, number(amounts[0], digits), *(signed(x - amounts[0], digits) for x in amounts[1:]))
        for name, amounts in moving
    )
    last = len(cells) - 1
    columns = (f"item [{unit}]", *(label for label, _ in sides))
    return Grid(columns, cells, strong=frozenset({last}), rules=frozenset({last - 1}))


def term_document(rows: list[Variation]) -> list[JsonObject]:
    """The same for programs, a pair each; the side is the variation's label."""
    sides = sides_of(rows)
    return [pair_document(compare(sides[0][1], side), label) for label, side in sides[1:]]


def whatif_figures(rows: list[Variation], rents: Mapping[str, Rent]) -> list[Figure]:
    """Throughput, headroom and dollars of every variation; `rents` by label."""
    plans = [(row.label, row.plan) for row in rows if row.plan is not None]
    if not plans:
        return []
    speed = [(label, (("tokens/s", plan.tokens_per_second),)) for label, plan in plans]
    free = [(label, (("free GiB", max(0.0, plan.headroom_gib)),)) for label, plan in plans]
    figures: list[Figure] = [
        Stacked("Throughput", "tokens/s", tuple(speed)),
        Stacked("Headroom", "GiB free on the fullest GPU", tuple(free)),
    ]
    usd = [(label, (("list price", rents[label].usd_per_million_tokens),)) for label, _ in plans if label in rents]
    if usd:
        figures.append(Stacked("Dollars, on demand", "USD a million tokens", tuple(usd)))
    return figures


def rent_text(rents: Mapping[str, Rent], labels: Sequence[str]) -> str:
    """Where the dollars come from, and which of these variations have none."""
    ids = dict.fromkeys(f"{rent.price.id} ({rent.price.sources[0].date})" for rent in rents.values())
    text = f"dollars: the lowest list price on demand of each node type, without tax: {', '.join(ids)}"
    unknown = [label for label in labels if label not in rents]
    return text + (f"; the catalog has no price of the machines of: {', '.join(unknown)}" if unknown else "")
