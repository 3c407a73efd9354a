"""Figures in characters, where text is all there is. What only repeats a table beside it is not drawn."""

from __future__ import annotations

from planner.report.blocks import Figure, Plot, Timeline, drawn
from planner.units import number

LETTERS = "#=+o*x-~"
"""One a kind of stretch, in the order in which they come."""


def figure_lines(figure: Figure, width: int = 64) -> list[str]:
    """Lines of text; none of a figure whose numbers stand in tables."""
    if isinstance(figure, Plot):
        return drawn(figure, width=width)
    if isinstance(figure, Timeline):
        return _timeline(figure, width)
    return []


def _timeline(figure: Timeline, width: int) -> list[str]:
    ends = [bar.end for _, bars in figure.lines for bar in bars] + [at for at, _ in figure.marks]
    last = max(ends, default=0.0) or 1.0
    kinds = list(dict.fromkeys(bar.kind for _, bars in figure.lines for bar in bars))
    letters = {kind: LETTERS[place % len(LETTERS)] for place, kind in enumerate(kinds)}
    margin = max((len(name) for name, _ in figure.lines), default=0)
    width = max(20, width + 12 - margin)
    lines = []
    for name, bars in figure.lines:
        cells = [" "] * width
        for at, _ in figure.marks:
            cells[_column(at, last, width)] = "|"
        for bar in bars:
            first, end = _column(bar.start, last, width), _column(bar.end, last, width)
            for place in range(first, max(end, first + 1)):
                cells[place] = letters[bar.kind]
        lines.append(f"{name:<{margin}} {''.join(cells).rstrip()}")
    lines.append(" " * (margin + 1) + f"0{number(last, 1):>{width - 1}}")
    said = [f"{letters[kind]} {kind}" for kind in kinds]
    said += ["| " + ", ".join(name for _, name in figure.marks)] if figure.marks else []
    return [*lines, f"{figure.x}; " + "; ".join(said)]


def _column(at: float, last: float, width: int) -> int:
    return min(width - 1, int(at / last * width))
