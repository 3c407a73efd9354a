"""Seconds over GPUs on two logarithmic axes: as text, and as an SVG file without any library."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

Series = Mapping[str, Sequence[tuple[int, float]]]
"""(GPUs, seconds) by name."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 60, 220, 24, 48
COLOURS = ("#1f6feb", "#cf222e", "#1a7f37", "#8250df")
COLUMNS = 50


def _decades(values: Sequence[float]) -> tuple[int, int]:
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def svg(title: str, series: Series) -> str:
    """The plot as one SVG document."""
    counts = sorted({gpus for line in series.values() for gpus, _ in line})
    low, high = _decades([seconds for line in series.values() for _, seconds in line])

    def x(gpus: float) -> float:
        span = math.log(counts[-1] / counts[0]) or 1.0
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(gpus / counts[0]) / span

    def y(seconds: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(seconds)) / max(1, high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" role="img" '
        'font-family="system-ui,sans-serif" font-size="11" fill="#42505e">'
        f'<title>{html.escape(title)}</title><rect width="{WIDTH}" height="{HEIGHT}" fill="#fbfcfd"/>'
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
    for gpus in counts:
        anchor = f'<text x="{x(gpus):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
        parts.append(f"{anchor}{gpus if gpus < 10000 else f'{gpus // 1024}k'}</text>")
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">GPUs</text>')
    for place, (name, line) in enumerate(series.items()):
        colour = COLOURS[place % len(COLOURS)]
        points = " ".join(f"{x(gpus):.1f},{y(seconds):.1f}" for gpus, seconds in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts += [f'<circle cx="{x(n):.1f}" cy="{y(s):.1f}" r="3" fill="{colour}"/>' for n, s in line]
        at = TOP + 8 + 18 * place
        parts.append(f'<text x="{WIDTH - RIGHT + 14}" y="{at}" fill="{colour}">{html.escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def text(series: Series) -> str:
    """The plot as lines of text, one bar a point; each column is the same factor."""
    low, high = _decades([seconds for line in series.values() for _, seconds in line])
    lines = [f"{'':28s}{10.0**low:<8g}{'':{COLUMNS - 16}s}{10.0**high:>8g} s, logarithmic"]
    for name, line in series.items():
        lines.append(name)
        for gpus, seconds in line:
            bar = "#" * max(1, round(COLUMNS * (math.log10(seconds) - low) / max(1, high - low)))
            lines.append(f"{gpus:>26,d}  {bar} {seconds:.3f}")
    return "\n".join(lines)
