"""Plans beside each other as blocks and as data: what is equal is left out, the largest difference comes first."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from planner.analysis.cause import Cause
from planner.analysis.many_plans import ManyPlans, Planless
from planner.analysis.two_plans import DOES_NOT_FIT, Difference, Differences, Side
from planner.report.blocks import Block, Bullets, Command, Figure, Grid, Heading, Headline, Stacked, Text
from planner.report.envelope import ANSWERED, enveloped
from planner.report.json_text import JsonObject
from planner.report.screen import Screen, screen_blocks
from planner.search.plan import PHASES
from planner.units import number, percent, signed

FIGURES: tuple[tuple[str, Callable[[Side], float | None], int], ...] = (
    ("peak [GiB]", lambda side: side.peak_gib, 2),
    ("usable [GiB]", lambda side: side.usable_gib, 2),
    ("free [GiB]", lambda side: side.headroom_gib, 2),
    ("step [s]", lambda side: side.step_seconds, 3),
    ("tokens/s", lambda side: side.tokens_per_second, 0),
    ("tokens/s a GPU", lambda side: side.tokens_per_second_per_gpu, 0),
    ("model TFLOP/s a GPU", lambda side: side.model_tflops_per_gpu, 0),
    ("MFU [%]", lambda side: side.mfu * 100, 1),
)
SCREEN_ITEMS = 4
"""Largest differences that the short answer prints."""


def letter(place: int) -> str:
    """A for the first side."""
    return chr(ord("A") + place)


def compare_blocks(found: ManyPlans) -> list[Block]:
    """Layout, figures, memory and time of all sides; differences against the first plan, signed, largest first."""
    blocks: list[Block] = [_headline(found), *(Text(text) for text in _names(found)), *map(Text, _sentences(found))]
    base = found.base
    if base is None:
        return [*blocks, Command(*_next(found))]
    blocks += [Heading("Layout: what differs"), *_layout(found), Heading("Figures"), _figures(found)]
    where = "; ".join(f"{letter(place)} in {_where(side)}" for place, side in _plans(found))
    blocks += [
        Heading(f"Memory when fullest: {where}"),
        _ledger(found, "GiB", 2, lambda side: side.memory),
        Heading("Time of one step"),
        _ledger(found, "s", 3, lambda side: side.time),
        Bullets(_known_errors(found)),
    ]
    return [*blocks, Command(*_next(found))]


def compare_screen(found: ManyPlans) -> list[Block]:
    """The result, what differs, and the largest differences, on one screen."""
    if found.base is None:
        return screen_blocks(Screen(_headline(found), tuple(_names(found)), command=Command(*_next(found))))
    rows = [(name, *cells) for name, *cells in _differing(found)]
    rows += list(_figures(found).rows)
    for unit, digits, items in (("GiB", 2, _memory), ("s", 3, _time)):
        table = [row for row in _items(found, items) if not _same(row[1], digits)][:SCREEN_ITEMS]
        rows += [(f"{name} [{unit}]", *_cells(amounts, digits)) for name, amounts in table]
    command, purpose = _next(found)
    return screen_blocks(
        Screen(
            _headline(found),
            tuple(_names(found)),
            table=Grid(("", *_columns(found)), tuple(rows)),
            notes=tuple(_sentences(found)),
            command=Command(command, f"{purpose} (-v: all items of this comparison)"),
        )
    )


def compare_figures(found: ManyPlans) -> list[Figure]:
    """Memory of every side at its fullest, and its time, stacked."""
    plans = list(_plans(found))
    if not plans:
        return []
    limits = tuple(dict.fromkeys((side.usable_gib, "usable") for _, side in plans))
    memory = tuple((letter(place), tuple(item for item in side.memory if item[1] > 0)) for place, side in plans)
    time = tuple((letter(place), tuple(item for item in side.time if item[1] > 0)) for place, side in plans)
    return [
        Stacked("Memory at its fullest moment", "GiB of the fullest GPU", memory, limits),
        Stacked("Time of one step", "s a step", time),
    ]


def _plans(found: ManyPlans) -> list[tuple[int, Side]]:
    return [(place, side) for place, side in enumerate(found.sides) if isinstance(side, Side)]


def _headline(found: ManyPlans) -> Headline:
    plans = _plans(found)
    if not plans:
        return Headline(f"none of {len(found.sides)} sides has a plan", good=False)
    if len(plans) == 1:
        (place, side) = plans[0]
        text = f"only {letter(place)} has a plan: {number(side.tokens_per_second, 0)} tokens/s"
        return replace(_fitting(text, plans), good=False)
    if len(plans) == 2:
        (first, a), (second, b) = plans
        if (a.layout, a.memory, a.time) == (b.layout, b.memory, b.time):
            return _fitting(f"{letter(second)} is the same plan as {letter(first)}", plans)
        ratio = b.tokens_per_second / a.tokens_per_second
        text = f"{letter(second)} against {letter(first)}: {signed(b.peak_gib - a.peak_gib)} GiB peak, "
        text += f"{signed(b.headroom_gib - a.headroom_gib)} GiB free, "
        text += f"{signed(b.step_seconds - a.step_seconds)} s a step, {percent(ratio)} of the tokens a second"
        return _fitting(text, plans)
    fastest = max(plans, key=lambda each: each[1].tokens_per_second)
    roomiest = max(plans, key=lambda each: each[1].headroom_gib)
    text = f"{len(plans)} plans: {letter(fastest[0])} is the fastest "
    text += f"({number(fastest[1].tokens_per_second, 0)} tokens/s), {letter(roomiest[0])} leaves most free "
    return _fitting(text + f"({number(roomiest[1].headroom_gib, 1)} GiB)", plans)


def _fitting(text: str, plans: Sequence[tuple[int, Side]]) -> Headline:
    """With the sides that are layouts as they were pinned and do not fit."""
    tight = [letter(place) for place, side in plans if side.status == DOES_NOT_FIT]
    said = f"; {' and '.join(tight)} {'does' if len(tight) == 1 else 'do'} not fit" if tight else ""
    critical = [letter(place) for place, side in plans if side.given_back_gib > 0 <= side.headroom_gib]
    if critical:
        said += f"; {' and '.join(critical)}: critical, to start only if the allocator gives memory back, and slower"
    return Headline(text + said, good=not tight and not critical)


def _names(found: ManyPlans) -> list[str]:
    return [
        f"{letter(place)}: {side.name} ({side.status})"
        if isinstance(side, Side)
        else f"{letter(place)}: {side.status}: {side.because}"
        for place, side in enumerate(found.sides)
    ]


def _sentences(found: ManyPlans) -> list[str]:
    """One for the largest difference in memory and one for that in time, of each pair."""
    places = [place for place, _ in _plans(found)][1:]
    out = []
    for pair, place, causes in zip(found.pairs, places, found.causes, strict=False):
        for rows, unit, digits, cause in (
            (pair.memory, "GiB", 1, causes[0]),
            (pair.time, "s", 3, causes[1]),
        ):
            if rows and not _zero(rows[0].change, digits):
                out.append(f"{letter(place)}: {_sentence(rows[0], unit, digits, cause)}")
    return out


def _sentence(row: Difference, unit: str, digits: int, cause: Cause | None) -> str:
    much = "more" if row.change > 0 else "less"
    text = f"{number(abs(row.change), digits)} {unit} {much} of {row.name}"
    if cause is None:
        return text + ", which no single decision explains"
    return text + f", because {cause.text} (alone: {signed(cause.alone, digits)} {unit})"


def _columns(found: ManyPlans) -> tuple[str, ...]:
    """The first plan, every other one, and its difference."""
    letters = [letter(place) for place, _ in _plans(found)]
    return (letters[0], *(text for each in letters[1:] for text in (each, f"{each} - {letters[0]}")))


def _cells(amounts: Sequence[float], digits: int) -> list[str]:
    first, *rest = amounts
    cells = [number(first, digits)]
    for amount in rest:
        cells += [number(amount, digits), signed(amount - first, digits)]
    return cells


def _differing(found: ManyPlans) -> list[tuple[str, ...]]:
    """Decisions that are not the same on all sides; an empty cell stands where a difference would."""
    plans = [side for _, side in _plans(found)]
    rows = []
    for name in dict.fromkeys(name for side in plans for name in side.layout):
        values = [side.layout.get(name) for side in plans]
        if any(value != values[0] for value in values):
            cells = [decision_text(values[0])]
            for value in values[1:]:
                cells += [decision_text(value), "differs" if value != values[0] else ""]
            rows.append((name, *cells))
    return rows


def _layout(found: ManyPlans) -> list[Block]:
    rows, plans = _differing(found), _plans(found)
    names = dict.fromkeys(name for _, side in plans for name in side.layout)
    same = [name for name in names if name not in {row[0] for row in rows}]
    blocks: list[Block] = []
    if rows:
        count = 1 + len(_columns(found))
        blocks.append(Grid(("decision", *_columns(found)), tuple(rows), left=frozenset({0, *range(3, count, 2)})))
    if len(plans) > 1 and same:
        blocks.append(Text(f"The same on all sides ({len(same)}): {', '.join(same)}."))
    return blocks


def _where(side: Side) -> str:
    phase = PHASES.get(side.phase, side.phase)
    return phase if side.stage is None else f"{phase}, stage {side.stage}"


def decision_text(value: Any) -> str:
    """A decision as text; lists of equal stages in short."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and value:
        return f"{value[0]} each" if len(set(value)) == 1 else " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _figures(found: ManyPlans) -> Grid:
    plans = [side for _, side in _plans(found)]
    rows = []
    for name, figure, digits in FIGURES:
        amounts = [amount for side in plans if (amount := figure(side)) is not None]
        if len(amounts) < len(plans):
            continue
        if len(plans) == 1 or not _same(amounts, digits) or name.startswith(("peak", "step", "free")):
            rows.append((name, *_cells(amounts, digits)))
    return Grid(("", *_columns(found)), tuple(rows))


def _memory(side: Side) -> tuple[tuple[str, float], ...]:
    return side.memory


def _time(side: Side) -> tuple[tuple[str, float], ...]:
    return side.time


def _items(
    found: ManyPlans, items: Callable[[Side], tuple[tuple[str, float], ...]]
) -> list[tuple[str, tuple[float, ...]]]:
    """(item, its amount on every side that has a plan), the largest difference first."""
    totals = []
    for _, side in _plans(found):
        total: dict[str, float] = {}
        for name, amount in items(side):
            total[name] = total.get(name, 0.0) + amount
        totals.append(total)
    rows = [
        (name, tuple(total.get(name, 0.0) for total in totals))
        for name in dict.fromkeys(name for total in totals for name in total)
    ]
    return sorted(rows, key=lambda row: (-max(abs(x - row[1][0]) for x in row[1]), -max(row[1]), row[0]))


def _zero(amount: float, digits: int) -> bool:
    return float(f"{amount:.{digits}f}") == 0


def _same(amounts: Sequence[float], digits: int) -> bool:
    return all(_zero(amount - amounts[0], digits) for amount in amounts)


def equal_items(count: int) -> str:
    """Name of the row that stands for items without a difference."""
    return f"{count} items that are equal" if count > 1 else "1 item that is equal"


def _ledger(found: ManyPlans, unit: str, digits: int, items: Callable[[Side], tuple[tuple[str, float], ...]]) -> Grid:
    """Items that differ; those that do not as one row, so that the column still adds up to its total."""
    rows = _items(found, items)
    count = len(rows[0][1]) if rows else 0
    differing = [row for row in rows if count == 1 or not _same(row[1], digits)]
    equal = [row for row in rows if row not in differing]
    cells = [(name, *_cells(amounts, digits)) for name, amounts in differing]
    if equal:
        summed = [sum(amounts[side] for _, amounts in equal) for side in range(count)]
        cells.append((equal_items(len(equal)), *_cells(summed, digits)))
    totals = [sum(amounts[side] for _, amounts in rows) for side in range(count)]
    cells.append(("total", *_cells(totals, digits)))
    last = len(cells) - 1
    columns = (f"item [{unit}]", *_columns(found))
    return Grid(columns, tuple(cells), strong=frozenset({last}), rules=frozenset({last - 1}))


def _known_errors(found: ManyPlans) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for _, side in _plans(found) for text in side.known_errors))


def _next(found: ManyPlans) -> tuple[str, str]:
    """(command, purpose): one side in full."""
    for place, side in enumerate(found.sides):
        if isinstance(side, Planless) or side.scenario is not None:
            path = side.document.name if isinstance(side, Planless) else str(side.scenario)
            sets = [part for argument in side.document.overrides for part in ("--set", argument)]
            verb = "explain" if isinstance(side, Planless) else "solve"
            if side.status == DOES_NOT_FIT:
                verb = "estimate"
            command = f"planner {verb} " + " ".join(shlex.quote(part) for part in (path, *sets))
            return command, f"{letter(place)} in full"
    return "planner --help", "what else there is"


def compare_document(found: ManyPlans) -> JsonObject:
    """The same for programs."""
    pairs = [pair_document(pair, letter(at)) for pair, (at, _) in zip(found.pairs, _plans(found)[1:], strict=True)]
    document: JsonObject = {
        "sides": [_side(side) for side in found.sides],
        "sentences": _sentences(found),
        "differences": pairs,
        "known_error": list(_known_errors(found)),
    }
    asked = [
        side.document if isinstance(side, Planless) or side.question is None else side.question for side in found.sides
    ]
    provenance = {pair for _, side in _plans(found) for pair in side.provenance}
    return enveloped("compare", ANSWERED, document, asked=asked, catalog=provenance)


def pair_document(pair: Differences, side: str) -> JsonObject:
    """Two plans for programs; `side` names the second."""
    return {
        "side": side,
        "layout": [{"name": n, "a": x, "b": y, "same": x == y} for n, x, y in pair.layout],
        "memory": [_difference(row, "gib") for row in pair.memory],
        "time": [_difference(row, "seconds") for row in pair.time],
    }


def _difference(row: Difference, unit: str) -> JsonObject:
    return {
        "name": row.name,
        f"a_{unit}": round(row.a, 9),
        f"b_{unit}": round(row.b, 9),
        f"change_{unit}": round(row.change, 9),
    }


def _side(side: Side | Planless) -> JsonObject:
    if isinstance(side, Planless):
        return {"name": side.name, "status": side.status, "because": side.because, "figures": None}
    figures = {
        "peak_gib": round(side.peak_gib, 9),
        "usable_gib": round(side.usable_gib, 9),
        "headroom_gib": round(side.headroom_gib, 9),
        "given_back_gib": round(side.given_back_gib, 9),
        "binding_stage": side.stage,
        "binding_phase": side.phase,
        "step_seconds": round(side.step_seconds, 9),
        "tokens_per_second": round(side.tokens_per_second, 9),
        "tokens_per_second_per_gpu": round(side.tokens_per_second_per_gpu, 9),
        "mfu": round(side.mfu, 9),
        "model_tflops_per_gpu": None if side.model_tflops_per_gpu is None else round(side.model_tflops_per_gpu, 9),
    }
    return {"name": side.name, "status": side.status, "because": None, "figures": figures}
