"""Blocks for people: rich tables on a terminal, plain text of a fixed width elsewhere, the same bytes each time."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text as RichText

from planner.report.blocks import Block, Bullets, Command, Figure, Grid, Heading, Headline, Scatter, Text, shown
from planner.report.characters import figure_lines

WIDTH = 120
LABEL = 48
"""First columns up to this width are never wrapped."""
PLAIN = box.Box(
    "    \n    \n -- \n    \n    \n    \n    \n    \n",
    ascii=True,
)
"""Only a line under the header, in ASCII: what files and pipes get."""


def render(blocks: Iterable[Block], *, colour: bool | None = None) -> str:
    """Blocks as text. `colour` is by default on only where stdout is a terminal."""
    if colour is None:
        colour = sys.stdout.isatty()
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=WIDTH,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )
    before: Block | None = None
    for block in map(shown, blocks):
        if isinstance(block, Scatter):
            continue
        if isinstance(before, Grid) and not isinstance(block, Heading | Command):
            console.print()
        _print(console, block, first=before is None)
        before = block
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _print(console: Console, block: Block, *, first: bool) -> None:
    if isinstance(block, Heading):
        if not first:
            console.print()
        console.print(block.text, style="bold cyan")
    elif isinstance(block, Headline):
        console.print(block.text, style="bold green" if block.good else "bold red")
    elif isinstance(block, Text):
        console.print(Padding(RichText(block.text), (0, 0, 0, 2)))
    elif isinstance(block, Bullets):
        for item in block.items:
            grid = Table.grid(padding=(0, 1, 0, 0))
            grid.add_row("  -", RichText(item))
            console.print(grid)
    elif isinstance(block, Command):
        console.print()
        console.print(f"Next: {block.text}", style="bold", no_wrap=True, overflow="ignore", crop=False)
        console.print(Padding(RichText(block.purpose), (0, 0, 0, 6)))
    elif isinstance(block, Plot):
        for line in drawn(block):
            console.print(Padding(RichText(line), (0, 0, 0, 2)), no_wrap=True, overflow="ignore", crop=False)
    elif isinstance(block, Grid):
        console.print(Padding(_grid(block, plain=console.no_color), (0, 0, 0, 2)))


def _grid(block: Grid, *, plain: bool) -> Table:
    table = Table(
        box=(PLAIN if plain else box.SIMPLE_HEAD) if block.columns else None,
        show_header=bool(block.columns),
        show_edge=False,
        pad_edge=False,
        header_style="bold",
    )
    width = len(block.columns) or max((len(row) for row in block.rows), default=0)
    for index in range(width):
        title = block.columns[index] if block.columns else ""
        longest = max((len(row[index]) for row in block.rows), default=0)
        table.add_column(
            RichText(title),
            justify="left" if index in block.left else "right",
            overflow="fold",
            no_wrap=index == 0 and longest <= LABEL and len(title) <= LABEL,
        )
    for index, row in enumerate(block.rows):
        style = "bold" if index in block.strong else None
        table.add_row(*(RichText(cell) for cell in row), style=style, end_section=index in block.rules)
    return table
