"""One drawing for each kind of figure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable

from planner.report.blocks import Figure, Network, Plot, Stacked, Timeline
from planner.report.figures.canvas import KINDS, LETTER, LIGHT, WIDTH, Canvas, cut, tick_text, ticks
from planner.units import number

LEFT, RIGHT, TOP = 52.0, 12.0, 46.0
REST = "everything else"


def figure_svg(figure: Figure, *, alone: bool = False) -> str:
    """A figure as an SVG element; `alone` makes a file of its own of it."""
    return _canvas(figure).svg(alone=alone)


def plain_svg(figure: Figure) -> str:
    """A file of its own in the light colours, without CSS variables: for programs that only know old SVG."""
    text = figure_svg(figure, alone=True)
    start, end = text.index("@media"), text.index("svg.pf{display")
    text = text[:start] + text[end:]
    for name, colour in LIGHT.items():
        text = text.replace(f"var({name})", colour)
    return text


def _canvas(figure: Figure) -> Canvas:
    if isinstance(figure, Plot):
        return _plot(figure)
    if isinstance(figure, Timeline):
        return _timeline(figure)
    return _stacked(figure) if isinstance(figure, Stacked) else _network(figure)


def _plot(figure: Plot) -> Canvas:
    canvas = Canvas(figure.title, 280)
    xs, ys = [x for x, _ in figure.points], [y for _, y in figure.points]
    low, high, top = min(xs), max(xs), max(ys) or 1.0
    bottom = canvas.height - 40

    def across(x: float) -> float:
        return LEFT + (x - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT - 10)

    def up(y: float) -> float:
        return bottom - y / top * (bottom - TOP)

    _upright_axis(canvas, figure.y, top, up)
    for tick in ticks(low, high, 6):
        canvas.text(across(tick), bottom + 15, tick_text(tick), at="middle", name="s")
    canvas.text((LEFT + WIDTH) / 2, canvas.height - 8, figure.x, at="middle")
    path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in figure.points)
    canvas.parts.append(f'<polyline points="{path}" class="n"/>')
    links = figure.links or [""] * len(figure.points)
    for (x, y), label, link in zip(figure.points, figure.labels, links, strict=True):
        canvas.dot(across(x), up(y), label, link=link)
    for place, name in figure.named:
        x, y = figure.points[place]
        canvas.text(across(x) + 7, up(y) - 7, name)
    return canvas


def _upright_axis(canvas: Canvas, name: str, top: float, up: Callable[[float], float]) -> None:
    canvas.head()
    canvas.text(8, 30, name, name="s")
    for tick in ticks(0.0, top):
        canvas.line(LEFT, up(tick), WIDTH - RIGHT, up(tick))
        canvas.text(LEFT - 6, up(tick) + 4, tick_text(tick), at="end", name="s")


def _stacked(figure: Stacked) -> Canvas:
    parts = _parts(figure)
    sums = [sum(amount for _, amount in amounts) for _, amounts in figure.bars]
    top = max([*sums, *(value for value, _ in figure.limits), *(high for _, high in figure.intervals), 1e-9]) * 1.05
    canvas, bottom = Canvas(figure.title, 300), 260.0

    def up(value: float) -> float:
        return bottom - value / top * (bottom - TOP)

    _upright_axis(canvas, figure.y, top, up)
    room = (WIDTH - LEFT - RIGHT) / max(1, len(figure.bars))
    wide = min(56.0, room * 0.7)
    for place, (name, amounts) in enumerate(figure.bars):
        x, reached = LEFT + room * (place + 0.5) - wide / 2, 0.0
        for part, amount in _folded(amounts, parts):
            kind = f"k{parts.index(part) % KINDS}"
            said = f"{name}: {part} {number(amount, 2)}"
            canvas.box(x, up(reached + amount), wide, up(reached) - up(reached + amount), kind, said)
            reached += amount
        if figure.intervals:
            low, high = figure.intervals[place]
            canvas.line(x + wide / 2, up(low), x + wide / 2, up(high), "i")
            for end in (low, high):
                canvas.line(x + wide / 2 - 5, up(end), x + wide / 2 + 5, up(end), "i")
        if room >= LETTER * 3 or place % max(1, round(LETTER * 4 / room)) == 0:
            canvas.text(x + wide / 2, bottom + 15, cut(name, max(room - LETTER, LETTER * 3)), at="middle", name="s")
    for value, name in figure.limits:
        canvas.line(LEFT, up(value), WIDTH - RIGHT, up(value), "w")
        canvas.text(WIDTH - RIGHT, up(value) - 4, f"{name} {number(value, 1)}", at="end")
    canvas.height = canvas.legend(parts, bottom + 36) if len(parts) > 1 else bottom + 24
    return canvas


def _parts(figure: Stacked) -> list[str]:
    """Names of the parts, the largest first; those for which there is no colour of their own are one."""
    total: dict[str, float] = {}
    for _, amounts in figure.bars:
        for part, amount in amounts:
            total[part] = total.get(part, 0.0) + amount
    ranked = sorted(total, key=lambda part: -total[part])
    return ranked if len(ranked) <= KINDS else [*ranked[: KINDS - 1], REST]


def _folded(amounts: Iterable[tuple[str, float]], parts: list[str]) -> list[tuple[str, float]]:
    """(part, amount) in the order of the legend."""
    total = dict.fromkeys(parts, 0.0)
    for part, amount in amounts:
        total[part if part in total else REST] += amount
    return [(part, amount) for part, amount in total.items() if amount > 0]


def _timeline(figure: Timeline) -> Canvas:
    row, margin = 20.0, min(200.0, 10 + LETTER * max((len(name) for name, _ in figure.lines), default=0))
    ends = [bar.end for _, bars in figure.lines for bar in bars] + [at for at, _ in figure.marks]
    last = max(ends, default=0.0) or 1.0
    canvas = Canvas(figure.title, 0)
    top = canvas.head() + 16
    bottom = top + row * len(figure.lines)

    def across(at: float) -> float:
        return margin + at / last * (WIDTH - margin - RIGHT)

    for tick in ticks(0.0, last, 6):
        canvas.line(across(tick), top - 4, across(tick), bottom)
        canvas.text(across(tick), bottom + 14, tick_text(tick), at="middle", name="s")
    kinds = list(dict.fromkeys(bar.kind for _, bars in figure.lines for bar in bars))
    for place, (name, bars) in enumerate(figure.lines):
        y = top + row * place
        canvas.text(margin - 6, y + 13, cut(name, margin - 8), at="end")
        for bar in bars:
            x, wide = across(bar.start), across(bar.end) - across(bar.start)
            said = f"{name}, {bar.label or bar.kind}: {number(bar.start, 2)} to {number(bar.end, 2)}"
            canvas.box(x, y + 2, wide, row - 5, f"k{kinds.index(bar.kind) % KINDS}", said)
            if bar.label and wide > LETTER * len(bar.label) + 4:
                canvas.text(x + wide / 2, y + 13, bar.label, at="middle", name="in")
    for at, _ in figure.marks:
        canvas.line(across(at), top - 6, across(at), bottom + 2, "w")
    canvas.text((margin + WIDTH) / 2, bottom + 30, figure.x, at="middle")
    below = canvas.legend(kinds, bottom + 48) if len(kinds) > 1 else bottom + 40
    for at, name in figure.marks:
        canvas.line(8, below - 4, 24, below - 4, "w")
        canvas.text(30, below, f"{name}: {number(at, 1)}")
        below += 15
    canvas.height = below
    return canvas


def _network(figure: Network) -> Canvas:
    most = max((len(gpus) for _, gpus in figure.nodes), default=1)
    columns = 2 if most <= 8 and len(figure.nodes) > 1 else 1
    room = (WIDTH - 16) / columns
    side = min(34.0, (room - 14) / max(most, 1))
    high = side + 34
    canvas = Canvas(figure.title, 0)
    canvas.head()
    kinds = list(dict.fromkeys(group for groups in figure.groups for group in groups))
    y = 24.0
    for place, ((name, gpus), groups) in enumerate(zip(figure.nodes, figure.groups, strict=True)):
        x, y = 8 + room * (place % columns), 24 + high * (place // columns)
        canvas.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{room - 6:.1f}" height="{high - 8:.1f}" class="a" rx="4"/>'
        )
        canvas.text(x + 6, y + 14, cut(name, room - 14), name="s")
        for index, (gpu, group) in enumerate(zip(gpus, groups, strict=True)):
            left = x + 4 + side * index
            canvas.box(left, y + 19, side - 3, side - 3, f"k{kinds.index(group) % KINDS}", f"{name}: {gpu}")
            if side >= LETTER * len(gpu) + 3:
                canvas.text(left + (side - 3) / 2, y + 19 + side / 2 + 2, gpu, at="middle", name="in")
    below = y + high + 8
    for text in figure.links:
        for line in textwrap.wrap(text, int((WIDTH - 12) / LETTER)):
            canvas.text(8, below, line, name="s")
            below += 15
    canvas.height = below
    return canvas
