"""What a report says, before it is known how it is printed: headings, sentences, lists and grids.

Commands build blocks once; `report/table`, `report/markdown` and others print the same blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from planner.errors import visible
from planner.units import number

WIDTH = 80
"""Characters of a line in files and pipes, and of the screen that a short answer must fit."""


@dataclass(frozen=True)
class Heading:
    """The title of what follows."""

    text: str


@dataclass(frozen=True)
class Headline:
    """The answer in one sentence."""

    text: str
    good: bool = True


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """Sentences of equal rank."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """Rows and columns of text; the first column is left-aligned, numbers stand right."""

    columns: tuple[str, ...]
    """Empty where the grid has no header."""
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[int] = field(default_factory=lambda: frozenset({0}))
    """Columns that are aligned to the left."""
    strong: frozenset[int] = field(default_factory=frozenset)
    """Rows that stand out: totals."""
    rules: frozenset[int] = field(default_factory=frozenset)
    """Rows after which a new section begins."""


@dataclass(frozen=True)
class Command:
    """What to type next."""

    text: str
    purpose: str


@dataclass(frozen=True)
class Plot:
    """Points joined by a line."""

    title: str
    x: str
    y: str
    points: tuple[tuple[float, float], ...]
    labels: tuple[str, ...]
    """One for each point, shown where the mouse rests."""
    named: tuple[tuple[int, str], ...] = ()
    """Points with a name beside them."""
    links: tuple[str, ...] = ()
    """One for each point, where a click on it leads; empty where pictures lead nowhere."""


@dataclass(frozen=True)
class Scatter:
    """Predicted against measured, both logarithmic, with the diagonal and a band beside it. Only pages draw it."""

    title: str
    unit: str
    points: tuple[tuple[float, float], ...]
    """(measured, predicted), both above 0."""
    labels: tuple[str, ...]
    """One for each point, shown where the mouse rests."""
    band: float
    """Lines stand at predicted = measured x (1 + band) and / (1 + band)."""


@dataclass(frozen=True)
class Bar:
    """One stretch on a line of a timeline."""

    start: float
    end: float
    kind: str
    """What it is; stretches of one kind look alike."""
    label: str = ""
    """Printed in it where there is room."""


@dataclass(frozen=True)
class Timeline:
    """Stretches of time on lines: a schedule of jobs, of a pipeline, of phases."""

    title: str
    x: str
    """Axis with its unit."""
    lines: tuple[tuple[str, tuple[Bar, ...]], ...]
    """(name, bars) from top to bottom."""
    marks: tuple[tuple[float, str], ...] = ()
    """(time, name) of upright lines: deadlines."""


@dataclass(frozen=True)
class Stacked:
    """One bar a name, made of parts that add up, against limits."""

    title: str
    y: str
    """Axis with its unit."""
    bars: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    """(name, ((part, amount), ...)) from left to right; parts of one name look alike."""
    limits: tuple[tuple[float, str], ...] = ()
    """(value, name) of level lines: capacity."""
    intervals: tuple[tuple[float, float], ...] = ()
    """(low, high) of the sum of each bar; empty where there are none."""


@dataclass(frozen=True)
class Network:
    """Machines and the groups that their GPUs form."""

    title: str
    nodes: tuple[tuple[str, tuple[str, ...]], ...]
    """(machine, one text a GPU)."""
    groups: tuple[tuple[int, ...], ...]
    """Group of every GPU, a tuple a machine: GPUs of one group look alike."""
    links: tuple[str, ...] = ()
    """What is known of the links, as sentences."""


Figure = Plot | Timeline | Stacked | Network
"""Drawn where there is room for pictures; as characters where text is all there is."""
Block = Heading | Headline | Text | Bullets | Grid | Command | Scatter | Figure


def shown(block: Block) -> Block:
    """A block as every renderer prints it: what files and people put into its texts stays on one line."""
    return type(block)(**{each.name: _shown(getattr(block, each.name)) for each in fields(block)})


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    return tuple(_shown(item) for item in value) if isinstance(value, tuple) else value


def drawn(plot: Plot, width: int = 64, height: int = 12) -> list[str]:
    """A plot in characters: lines of text, the highest value on top."""
    xs, ys = [x for x, _ in plot.points], [y for _, y in plot.points]
    cells = [[" "] * width for _ in range(height)]
    for x, y in plot.points:
        column = round((x - min(xs)) / ((max(xs) - min(xs)) or 1) * (width - 1))
        row = round((max(ys) - y) / ((max(ys) - min(ys)) or 1) * (height - 1))
        cells[row][column] = "o"
    margin = max(len(number(max(ys), 0)), len(number(min(ys), 0)))
    sides = [number(max(ys), 0), *[""] * (height - 2), number(min(ys), 0)]
    lines = [f"{side:>{margin}} |{''.join(row).rstrip()}" for side, row in zip(sides, cells, strict=True)]
    low, high = number(min(xs), 1), number(max(xs), 1)
    lines.append(" " * margin + " +" + "-" * width)
    lines.append(" " * (margin + 2) + low + " " * max(1, width - len(low) - len(high)) + high)
    return [f"{plot.y} against {plot.x}", *lines]


def pairs(rows: Sequence[tuple[str, str]]) -> Grid:
    """A grid of names and values, both left-aligned, without a header."""
    return Grid((), tuple(rows), left=frozenset({0, 1}))
