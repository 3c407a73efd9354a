"""Blocks as Markdown: for issues, notes and pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterable

from planner.report.blocks import Block, Bullets, Command, Figure, Grid, Heading, Headline, Scatter, Text, shown
from planner.report.characters import figure_lines

_ACTIVE = re.compile(r"(`[^`]*`)|<|\]\(|\]\[|!\[")
_ESCAPES = {"<": "&lt;", "](": "]\\(", "][": "]\\[", "![": "!\\["}


def render(blocks: Iterable[Block]) -> str:
    """Blocks as Markdown text, one empty line between them."""
    texts = (_text(block) for block in map(shown, blocks) if not isinstance(block, Scatter))
    return "\n\n".join(text for text in texts if text) + "\n"


def _text(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {escaped(block.text)}"
    if isinstance(block, Headline):
        return f"**{escaped(block.text)}**"
    if isinstance(block, Text):
        return escaped(block.text)
    if isinstance(block, Bullets):
        return "\n".join(f"- {escaped(item)}" for item in block.items)
    if isinstance(block, Command):
        return f"Next: `{block.text}` ({block.purpose})"
    if isinstance(block, Figure):
        lines = figure_lines(block)
        return "```text\n" + "\n".join(lines) + "\n```" if lines else ""
    assert isinstance(block, Grid)
    return _grid(block)


def escaped(text: str) -> str:
    """Text in which nothing that a person named becomes an element or a link; what stands in backticks stays."""
    return _ACTIVE.sub(lambda found: found.group(1) or _ESCAPES[found.group()], text)


def _grid(block: Grid) -> str:
    width = len(block.columns) or max((len(row) for row in block.rows), default=0)
    header = block.columns or ("",) * width
    ruler = tuple("---" if index in block.left else "---:" for index in range(width))
    return "\n".join(_row(cells) for cells in (header, ruler, *block.rows))


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(escaped(cell).replace("|", "\\|") for cell in cells) + " |"
