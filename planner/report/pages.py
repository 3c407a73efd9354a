"""A report as a page that people sign, and one figure of it as a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from planner.errors import InputError, Mistake, Place
from planner.problem.defaults import IN_THE_PROOF
from planner.report.blocks import Block, Command, Figure, Grid, Heading, Text
from planner.report.figures.draw import figure_svg, plain_svg
from planner.report.html import render
from planner.report.screen import CUT, MORE_ROWS, on_a_sheet

Emit = Callable[[str, "str | None", bool], None]


def page(
    blocks: Sequence[Block], figures: Sequence[Block], screen: Callable[[], Sequence[Block]] | None, typed: str
) -> str:
    """The short answer, with as much of it as the first sheet holds, then the figures, then everything, and the command
    that makes it again.
    """
    with on_a_sheet():
        first = [on_paper(block) for block in screen()] if screen is not None else []
    rest = [Heading("In full") if first and block == first[0] else block for block in blocks]
    last: list[Block] = [Heading("This report again"), Text(typed)]
    return render([*figures, *rest, *last], first)


def on_paper(block: Block) -> Block:
    """A block of a screen where all the rest stands below: nothing to type for more of it."""
    if isinstance(block, Command):
        return replace(block, purpose=block.purpose.partition(" (-v")[0])
    if isinstance(block, Text):
        return replace(block, text=block.text.replace(MORE_ROWS, " below"))
    if isinstance(block, Grid):
        cells = ((c.replace(CUT, " ... (below)").replace(IN_THE_PROOF, " (below)") for c in row) for row in block.rows)
        return replace(block, rows=tuple(map(tuple, cells)))
    return block


def one_figure(blocks: Sequence[Block], number: int, style: str, path: str | None, force: bool, emit: Emit) -> None:
    """Write one figure as SVG, or as PNG into a file. Raises InputError where there is no such figure."""
    found = [block for block in blocks if isinstance(block, Figure)]
    if number > len(found):
        names = "; ".join(f"{place} {figure.title}" for place, figure in enumerate(found, 1)) or "none"
        raise InputError(Mistake(f"no figure {number}", Place("--figure"), f"this answer has: {names}"))
    if style == "svg":
        emit(figure_svg(found[number - 1], alone=True), path, force)
        return
    if path is None or path == "-":
        raise InputError(Mistake("a PNG goes into a file", Place("--format png"), attempt="--out FILE.png"))
    _write_png(plain_svg(found[number - 1]), path, force)


def _write_png(svg: str, path: str, force: bool) -> None:
    try:
        import resvg_py
    except ImportError:
        raise InputError(
            Mistake("PNG needs the package resvg-py", Place("--format png"), attempt="pip install 'planner[png]'")
        ) from None
    from planner.inputs.files import write_bytes

    write_bytes(path, bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=2, background="#ffffff")), force=force)
