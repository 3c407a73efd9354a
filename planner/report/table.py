"""Blocks for people: colour and the terminal's width on a terminal, plain text of a fixed width elsewhere.

No word is ever cut in two. A grid that is too wide is turned on its side; one that is still too wide becomes a list of
its rows. The same blocks give the same bytes each time.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from functools import lru_cache

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text as RichText

from planner.report.blocks import WIDTH as WIDTH
from planner.report.blocks import Block, Bullets, Command, Figure, Grid, Heading, Headline, Scatter, Text, shown
from planner.report.characters import figure_lines

MARGIN = 2
"""Characters before every block but a headline."""
GAP = 2
"""Characters between two columns."""
MOST_TURNED = 6
"""Rows up to which a grid that is too wide is turned on its side."""
PLAIN = box.Box(
    "    \n    \n -- \n    \n    \n    \n    \n    \n",
    ascii=True,
)
"""Only a line under the header, in ASCII: what files and pipes get."""


def coloured() -> bool:
    """Whether stdout is a terminal that wants colour (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def screen_width() -> int:
    """Characters of a line on stdout: of the terminal where it is one."""
    return shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH


def render(blocks: Iterable[Block], *, colour: bool | None = None, width: int | None = None) -> str:
    """Blocks as text, as stdout wants it unless `colour` and `width` [characters] are given."""
    colour = coloured() if colour is None else colour
    width = max(40, screen_width() if width is None else width)
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=4 * width,
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
        if _apart(before, block):
            console.print()
        _print(console, block, width)
        before = block
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def height(blocks: Iterable[Block], width: int) -> int:
    """Lines that `render` makes of blocks without colour; each block is measured once, however often it comes."""
    lines = 0
    before: Block | None = None
    for block in blocks:
        if isinstance(block, Scatter):
            continue
        parts = [Bullets((item,)) for item in block.items] if isinstance(block, Bullets) else [block]
        lines += _apart(before, block) + sum(_height(part, width) for part in parts)
        before = block
    return lines


@lru_cache(maxsize=1024)
def _height(block: Block, width: int) -> int:
    return render([block], colour=False, width=width).count("\n")


def _apart(before: Block | None, block: Block) -> bool:
    """Whether a blank line stands between these two; that before a command is its own."""
    if before is None or isinstance(block, Command):
        return False
    return isinstance(block, Heading) or isinstance(before, Grid)


def _print(console: Console, block: Block, width: int) -> None:
    if isinstance(block, Heading):
        _lines(console, block.text, width, style="bold cyan")
    elif isinstance(block, Headline):
        _lines(console, block.text, width, style="bold green" if block.good else "bold red")
    elif isinstance(block, Text):
        _lines(console, block.text, width, indent=" " * MARGIN)
    elif isinstance(block, Bullets):
        for item in block.items:
            _lines(console, item, width, indent="  - ", after="    ")
    elif isinstance(block, Command):
        console.print()
        console.print("\n".join(_command(block.text, width)), style="bold", no_wrap=True, overflow="ignore", crop=False)
        _lines(console, block.purpose, width, indent=" " * 6)
    elif isinstance(block, Figure):
        for line in figure_lines(block, min(64, width - 16)):
            console.print(Padding(RichText(line), (0, 0, 0, MARGIN)), no_wrap=True, overflow="ignore", crop=False)
    elif isinstance(block, Grid):
        _print_grid(console, block, width - MARGIN)


def _lines(
    console: Console, text: str, width: int, *, indent: str = "", after: str | None = None, style: str | None = None
) -> None:
    """A paragraph, wrapped between words."""
    lines = wrapped(text, width, indent, indent if after is None else after)
    console.print(RichText("\n".join(lines)), style=style, no_wrap=True, overflow="ignore", crop=False)


def wrapped(text: str, width: int, indent: str = "", after: str = "") -> list[str]:
    """Lines of at most `width` characters, broken at spaces only; a word that is longer stands alone."""
    options = textwrap.TextWrapper(
        width=width,
        initial_indent=indent,
        subsequent_indent=after,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line for part in text.split("\n") for line in options.wrap(part) or [indent.rstrip()]]


def _command(text: str, width: int) -> list[str]:
    """A command to copy: too long for one line, it goes on after a backslash."""
    whole = f"Next: {text}"
    if len(whole) <= width:
        return [whole]
    lines = wrapped(whole.replace(" --", "\0--").replace(" ", "\1").replace("\0", " "), width - 2, "", " " * 8)
    return [line.replace("\1", " ") + (" \\" if place < len(lines) - 1 else "") for place, line in enumerate(lines)]


def _print_grid(console: Console, block: Grid, width: int) -> None:
    """A grid as it stands, on its side where it has few rows, in groups of columns, or row by row: what fits first."""
    turned = _turned(block) if len(block.rows) <= MOST_TURNED else None
    for shape in ([block], [turned] if turned is not None else None, _groups(block, width)):
        widths = [_widths(part, width) for part in shape] if shape else [None]
        if shape and None not in widths:
            for place, part in enumerate(shape):
                if place:
                    console.print()
                table = _grid(part, widths[place] or [], plain=console.no_color)
                console.print(Padding(table, (0, 0, 0, MARGIN)))
            return
    for place, row in enumerate(block.rows):
        if place:
            console.print()
        for index, cell in enumerate(row):
            name = block.columns[index] if block.columns else ""
            after = " " * (MARGIN + (2 if index else 0))
            said = f"{name}: {cell}" if index and name else cell
            _lines(console, said, width + MARGIN, indent=after, after=after + "  ", style=None if index else "bold")


def _groups(block: Grid, width: int) -> list[Grid]:
    """The grid as several, one below the other: the first column again, and as many of the others as fit."""
    parts: list[Grid] = []
    taken: list[int] = []
    count = max((len(row) for row in (block.columns, *block.rows)), default=0)
    for index in range(1, count):
        if taken and _widths(_some(block, [*taken, index]), width) is None:
            parts.append(_some(block, taken))
            taken = []
        taken.append(index)
    return [*parts, _some(block, taken)] if taken else []


def _some(block: Grid, columns: list[int]) -> Grid:
    """The first column and some others."""
    order = [0, *columns]
    left = frozenset(place for place, index in enumerate(order) if index in block.left)
    titles = tuple(block.columns[i] for i in order) if block.columns else ()
    return Grid(titles, tuple(tuple(row[i] for i in order) for row in block.rows), left, block.strong, block.rules)


def _turned(block: Grid) -> Grid | None:
    """Columns as rows; None where there is no header to name them."""
    if not block.columns or not block.rows:
        return None
    columns = (block.columns[0], *(row[0] for row in block.rows))
    rows = tuple((name, *(row[i] for row in block.rows)) for i, name in enumerate(block.columns) if i)
    return Grid(columns, rows, left=frozenset(range(len(columns))))


def _widths(block: Grid, width: int) -> list[int] | None:
    """Characters of each column, no word of it cut; None where that is wider than `width`."""
    cells = [*([block.columns] if block.columns else []), *block.rows]
    count = max((len(row) for row in cells), default=0)
    room = width - GAP * (count - 1)
    columns = [[row[index] for row in cells if index < len(row)] for index in range(count)]
    least = [max((len(word) for cell in column for word in cell.split()), default=1) or 1 for column in columns]
    natural = [max((len(line) for cell in column for line in cell.split("\n")), default=1) or 1 for column in columns]
    if count and not block.columns:
        least[0] = min(natural[0], max(least[0], width // 2))
    if sum(least) > room:
        return None
    widths, spare = list(least), room - sum(least)
    for index in sorted(range(count), key=lambda i: natural[i] - least[i]):
        more = min(natural[index] - least[index], spare)
        widths[index] += more
        spare -= more
    return widths


def _grid(block: Grid, widths: list[int], *, plain: bool) -> Table:
    table = Table(
        box=(PLAIN if plain else box.SIMPLE_HEAD) if block.columns else None,
        show_header=bool(block.columns),
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1 if block.columns else GAP, 0, 0),
        header_style="bold",
    )

    def cell(text: str, index: int) -> RichText:
        return RichText("\n".join(wrapped(text, widths[index])))

    for index, width in enumerate(widths):
        title = cell(block.columns[index], index) if block.columns else ""
        table.add_column(title, justify="left" if index in block.left else "right", width=width, no_wrap=True)
    for place, row in enumerate(block.rows):
        style = "bold" if place in block.strong else None
        cells = [cell(text, index) for index, text in enumerate(row)]
        table.add_row(*cells, style=style, end_section=place in block.rules)
    return table
