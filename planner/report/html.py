"""Blocks as one self-contained HTML page; plots as inline SVG. Readable without scripts."""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Iterator, Sequence

from planner.report.blocks import Block, Bullets, Command, Figure, Grid, Heading, Headline, Scatter, Text, shown
from planner.report.figures.canvas import STYLE as FIGURES
from planner.report.figures.draw import figure_svg
from planner.report.scatter import svg

BESIDE = ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.2rem 2rem}"
"""Figures stand beside each other where there is room."""
STYLE = FIGURES + (
    "*{box-sizing:border-box}html{color-scheme:light dark;background:var(--paper)}"
    "body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif;margin:0 auto;max-width:76rem;"
    "padding:1.2rem 1rem;"
    "color:var(--ink);background:var(--paper);overflow-wrap:anywhere}"
    "h1{font-size:1.25rem;line-height:1.35}h1.bad{color:var(--warn)}h2{font-size:1.05rem;margin:1.6rem 0 .4rem}"
    ".wide{overflow-x:auto}table{border-collapse:collapse;margin:.3rem 0 1rem;font-size:13px}"
    "td,th{border-bottom:1px solid var(--line);padding:.2rem .6rem .2rem 0;text-align:right;vertical-align:top;"
    "overflow-wrap:normal}"
    "td.left,th.left{text-align:left}tr.strong td{font-weight:600}tr.rule td{border-bottom:2px solid var(--soft)}"
    "code{background:color-mix(in srgb,var(--line) 45%,transparent);padding:.1rem .3rem;border-radius:3px}"
    "ul{padding-left:1.2rem}figure{margin:0;min-width:0;max-width:44rem}"
    + BESIDE
    + "@media print{@page{size:A4;margin:14mm}:root{--ink:#000;--paper:#fff;--line:#ccc;--soft:#444}"
    "body{font-size:10.5pt;max-width:none;padding:0}table{font-size:8.5pt}.wide{overflow:visible}"
    ".summary{break-after:page}figure,tr,h2{break-inside:avoid}h2{break-after:avoid}"
    ".figures{grid-template-columns:1fr 1fr}figure:only-child{grid-column:1/-1;max-width:125mm}"
    "a,code{overflow-wrap:anywhere}}"
)


def render(blocks: Iterable[Block], summary: Sequence[Block] = ()) -> str:
    """Blocks as an HTML page; `summary` comes before them and is the first printed page."""
    first = f"<section class=summary>{chr(10).join(_joined(list(summary)))}</section>\n" if summary else ""
    body = first + "\n".join(_joined(list(blocks)))
    meta = '<meta charset=utf-8><meta name=viewport content="width=device-width,initial-scale=1">'
    head = f"<!doctype html><html lang=en>{meta}<title>planner</title><style>{STYLE}</style>"
    return f"{head}\n<body>\n{body}\n</body></html>\n"


def _joined(blocks: list[Block]) -> Iterator[str]:
    """Figures that follow each other stand beside each other."""
    for drawn, group in itertools.groupby(map(shown, blocks), key=lambda block: isinstance(block, Figure)):
        inside = "\n".join(_block(block) for block in group)
        yield f'<div class="figures">{inside}</div>' if drawn else inside


def fragment(blocks: Iterable[Block]) -> str:
    """Blocks as part of a page that is not ours, such as a notebook: its style reaches nothing else."""
    blocks = list(blocks)
    body = "\n".join(_joined(blocks))
    figures = FIGURES.replace(":root", ".planner") + BESIDE if any(isinstance(b, Figure) for b in blocks) else ""
    style = figures + ".planner td,.planner th{text-align:right}.planner td.left,.planner th.left{text-align:left}"
    return f"<style>{style}</style>\n<div class=planner>\n{body}\n</div>\n"


def _block(block: Block) -> str:
    if isinstance(block, Headline):
        return f"<h1{'' if block.good else ' class=bad'}>{html.escape(block.text)}</h1>"
    if isinstance(block, Heading):
        return f"<h2>{html.escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f"<p>{_said(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>" + "".join(f"<li>{_said(item)}</li>" for item in block.items) + "</ul>"
    if isinstance(block, Command):
        return f"<p>Next: <code>{html.escape(block.text)}</code> ({html.escape(block.purpose)})</p>"
    if isinstance(block, Figure):
        return f"<figure>{figure_svg(block)}</figure>"
    if isinstance(block, Scatter):
        return svg(block)
    return _grid(block)


def _said(text: str) -> str:
    """A sentence; its arrows are not broken over two lines."""
    return html.escape(text).replace("-&gt;", "&rarr;")


def _grid(grid: Grid) -> str:
    def row(cells: Iterable[str], tag: str) -> str:
        parts = [
            f"<{tag}{' class=left' if place in grid.left else ''}>{html.escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        ]
        return "".join(parts)

    header = f"<thead><tr>{row(grid.columns, 'th')}</tr></thead>" if grid.columns else ""
    lines = []
    for place, cells in enumerate(grid.rows):
        kinds = [kind for kind, places in (("strong", grid.strong), ("rule", grid.rules)) if place in places]
        named = f' class="{" ".join(kinds)}"' if kinds else ""
        lines.append(f"<tr{named}>{row(cells, 'td')}</tr>")
    return f"<div class=wide><table>{header}<tbody>{''.join(lines)}</tbody></table></div>"
