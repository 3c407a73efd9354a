"""Predicted against measured as inline SVG."""

from __future__ import annotations

import html
import math

from planner.report.blocks import Scatter

SIZE, MARGIN = 340, 42


def svg(scatter: Scatter) -> str:
    """Points, the diagonal, the band, and 1, 2 and 5 of every power of ten on both axes."""
    logs = [math.log10(value) for point in scatter.points for value in point]
    low, high = min(logs) - 0.05, max(logs) + 0.05

    def at(value: float) -> float:
        return (math.log10(value) - low) / (high - low) * (SIZE - 2 * MARGIN)

    def across(value: float) -> float:
        return MARGIN + at(value)

    def up(value: float) -> float:
        return SIZE - MARGIN - at(value)

    first, last = 10**low, 10**high
    parts = [f'<svg width="{SIZE}" height="{SIZE}" role="img"><title>{html.escape(scatter.title)}</title>']
    for factor, colour in ((1.0, "#42505e"), (1 + scatter.band, "#c3ccd5"), (1 / (1 + scatter.band), "#c3ccd5")):
        start, end = f'x1="{across(first):.1f}" y1="{up(first * factor):.1f}"', f'x2="{across(last):.1f}"'
        parts.append(f'<line {start} {end} y2="{up(last * factor):.1f}" stroke="{colour}"/>')
    for tick in _ticks(first, last):
        parts.append(f'<text x="{across(tick):.1f}" y="{SIZE - MARGIN + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{MARGIN - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for (measured, predicted), label in zip(scatter.points, scatter.labels, strict=True):
        parts.append(
            f'<circle cx="{across(measured):.1f}" cy="{up(predicted):.1f}" r="2.5" fill="#1769aa" fill-opacity=".5">'
            f"<title>{html.escape(label)}</title></circle>"
        )
    parts.append(f'<text x="{MARGIN}" y="18">{html.escape(scatter.title)}</text>')
    below = f"measured [{scatter.unit}]"
    parts.append(f'<text x="{SIZE / 2}" y="{SIZE - 8}" text-anchor="middle">{html.escape(below)}</text>')
    turned = f'transform="rotate(-90 12 {SIZE / 2})" text-anchor="middle"'
    return "".join(parts) + f'<text x="12" y="{SIZE / 2}" {turned}>predicted</text></svg>'


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten inside the range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
    return [tick for tick in every if low <= tick <= high]
