"""What a report says, before it is known how it is printed: headings, sentences, lists and grids.

Commands build blocks once; `report/table`, `report/markdown` and others print the same blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


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


Block = Heading | Headline | Text | Bullets | Grid | Command


def pairs(rows: Sequence[tuple[str, str]]) -> Grid:
    """A grid of names and values, both left-aligned, without a header."""
    return Grid((), tuple(rows), left=frozenset({0, 1}))


def number(value: float, digits: int = 2) -> str:
    """A figure with thousands separators and no negative zero."""
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign."""
    text = number(value, digits)
    return text if text.startswith("-") or float(text.replace(",", "")) == 0 else f"+{text}"


def percent(share: float, digits: int = 1) -> str:
    """0.715 as 71.5 %."""
    return f"{share * 100:.{digits}f} %"
