"""Blocks as one self-contained HTML page; plots as inline SVG. Readable without scripts."""

from __future__ import annotations

import html
from collections.abc import Iterable

from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Plot, Scatter, Text, shown
from planner.report.scatter import svg
from planner.units import number

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1c2733}"
    "table{border-collapse:collapse;margin:.5rem 0 1.5rem;font-size:13px}"
    "td,th{border-bottom:1px solid #d8dee4;padding:.2rem .6rem;text-align:right;vertical-align:top}"
    "td.left,th.left{text-align:left}svg{background:#fbfcfd;border:1px solid #d8dee4}"
    "text{font:11px system-ui,sans-serif;fill:#42505e}code{background:#eef1f4;padding:.1rem .3rem}"
)
WIDTH, HEIGHT, MARGIN = 640, 340, 64


def render(blocks: Iterable[Block]) -> str:
    """Blocks as an HTML page."""
    body = "\n".join(_block(block) for block in map(shown, blocks))
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>planner</title><style>{STYLE}</style>"
    return f"{head}\n{body}\n</html>\n"


def fragment(blocks: Iterable[Block]) -> str:
    """Blocks as part of a page that is not ours, such as a notebook: its style reaches nothing else."""
    body = "\n".join(_block(block) for block in map(shown, blocks))
    style = ".planner td,.planner th{text-align:right}.planner .left{text-align:left}"
    return f"<style>{style}</style>\n<div class=planner>\n{body}\n</div>\n"


def _block(block: Block) -> str:
    if isinstance(block, Headline):
        return f"<h1>{html.escape(block.text)}</h1>"
    if isinstance(block, Heading):
        return f"<h2>{html.escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{html.escape(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Command):
        return f"<p>Next: <code>{html.escape(block.text)}</code> ({html.escape(block.purpose)})</p>"
    if isinstance(block, Plot):
        return _plot(block)
    if isinstance(block, Scatter):
        return svg(block)
    return _grid(block)


def _grid(grid: Grid) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        parts = [
            f"<{tag}{' class=left' if place in grid.left else ''}>{html.escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        ]
        return "<tr>" + "".join(parts) + "</tr>"

    header = row(grid.columns, "th") if grid.columns else ""
    return f"<table>{header}{''.join(row(cells, 'td') for cells in grid.rows)}</table>"


def _plot(plot: Plot) -> str:
    xs, ys = [x for x, _ in plot.points], [y for _, y in plot.points]
    low_x, high_x = min(xs), max(xs)
    low_y, high_y = 0.0, max(ys)

    def across(x: float) -> float:
        return MARGIN + (x - low_x) / ((high_x - low_x) or 1) * (WIDTH - 2 * MARGIN)

    def up(y: float) -> float:
        return HEIGHT - MARGIN - (y - low_y) / ((high_y - low_y) or 1) * (HEIGHT - 2 * MARGIN)

    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in plot.points)
    dots = "".join(
        f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="4" fill="#1f6feb">'
        f"<title>{html.escape(label)}</title></circle>"
        for (x, y), label in zip(plot.points, plot.labels, strict=True)
    )
    bottom = HEIGHT - MARGIN
    axes = (
        f'<path d="M{MARGIN} {MARGIN} V{bottom} H{WIDTH - MARGIN}" stroke="#8b98a5" fill="none"/>'
        f'<text x="{MARGIN}" y="{bottom + 18}">{number(low_x, 1)}</text>'
        f'<text x="{WIDTH - MARGIN}" y="{bottom + 18}" text-anchor="end">{number(high_x, 1)}</text>'
        f'<text x="{MARGIN - 6}" y="{bottom}" text-anchor="end">0</text>'
        f'<text x="{MARGIN - 6}" y="{up(high_y):.1f}" text-anchor="end">{number(high_y, 0)}</text>'
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 20}" text-anchor="middle">{html.escape(plot.x)}</text>'
        f'<text x="{MARGIN}" y="{MARGIN - 16}">{html.escape(plot.y)}</text>'
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img"><title>{html.escape(plot.title)}</title>{axes}'
        f'<polyline points="{line}" fill="none" stroke="#1f6feb"/>{dots}</svg>'
    )
