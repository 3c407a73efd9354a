"""Marks on a drawing of fixed width, with axes, ticks and a legend; every figure is made of these."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

WIDTH = 480
"""Of every figure in its own units; pages scale it."""
LETTER = 6.1
"""Mean width of a letter of 11 px."""
BOLD_LETTER = 6.8
"""The same, bold."""
KINDS = 8
"""Colours before they repeat."""
STYLE = (
    ":root{--ink:#1c2733;--soft:#5b6773;--line:#d3dae1;--paper:#fff;--k0:#3b7dd8;--k1:#e08a2e;--k2:#3f9e6b;--k3:#c2527e;"
    "--k4:#7d66c2;--k5:#8a7a45;--k6:#2c9db0;--k7:#9aa4ae;--warn:#c43b3b}"
    "@media (prefers-color-scheme:dark){:root{--ink:#e3e8ee;--soft:#a3aeb9;--line:#3a444f;--paper:#14191f;--k0:#5a97ea;"
    "--k1:#e9a053;--k2:#5cba87;--k3:#d97a9f;--k4:#9d8ae0;--k5:#b3a36b;--k6:#4fbccf;--k7:#6d7883;--warn:#ec6a6a}}"
    "svg.pf{display:block;width:100%;height:auto}"
    "svg.pf text{font:11px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:var(--ink);stroke:none}"
    "svg.pf .t{font-weight:600}svg.pf .s{fill:var(--soft)}svg.pf .a{stroke:var(--line);fill:none}"
    "svg.pf .w{stroke:var(--warn);stroke-dasharray:5 3;fill:none}svg.pf .i{stroke:var(--ink);fill:none}"
    "svg.pf .n{fill:none;stroke:var(--k0);stroke-width:2}svg.pf .in{fill:#fff}"
    + "".join(f"svg.pf .k{kind}{{fill:var(--k{kind})}}" for kind in range(KINDS))
)
"""For the page, or for the drawing itself where it stands alone."""
LIGHT = dict(part.split(":") for part in STYLE.partition("{")[2].partition("}")[0].split(";"))
"""The light colours by variable, for programs that know no variables."""


@dataclass
class Canvas:
    """A drawing that grows downwards."""

    title: str
    height: float
    parts: list[str] = field(default_factory=list)
    role: str = "img"

    def text(self, x: float, y: float, said: str, *, at: str = "start", name: str = "", turn: bool = False) -> None:
        """Words; `at` is start, middle or end."""
        kind = f' class="{name}"' if name else ""
        turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
        anchor = "" if at == "start" else f' text-anchor="{at}"'
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{kind}{anchor}{turned}>{html.escape(said)}</text>')

    def head(self) -> float:
        """The title, wrapped; returns the y of its last line."""
        y = -1.0
        for line in textwrap.wrap(self.title, int((WIDTH - 16) / BOLD_LETTER)) or [""]:
            y += 15
            self.text(8, y, line, name="t")
        return y

    def box(self, x: float, y: float, wide: float, high: float, name: str, said: str = "") -> None:
        """A filled rectangle; `said` is shown where the mouse rests."""
        note = f"<title>{html.escape(said)}</title>" if said else ""
        size = f'width="{max(wide, 0.4):.1f}" height="{max(high, 0.4):.1f}"'
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="{name}">{note}</rect>')

    def line(self, x: float, y: float, to_x: float, to_y: float, name: str = "a") -> None:
        """A straight line."""
        self.parts.append(f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" class="{name}"/>')

    def dot(self, x: float, y: float, said: str, name: str = "k0", link: str = "") -> None:
        """A point; `link` is where a click on it leads."""
        note, size = f"<title>{html.escape(said)}</title>", "7" if link else "3.5"
        mark = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" class="{name}">{note}</circle>'
        if link:
            mark = f'<a href="{html.escape(link)}" aria-label="{html.escape(said)}">{mark}</a>'
            self.role = "group"
        self.parts.append(mark)

    def legend(self, kinds: Sequence[str], y: float) -> float:
        """One square a kind, wrapped; returns the y below it."""
        x = 8.0
        for place, kind in enumerate(kinds):
            wide = 22 + LETTER * len(kind)
            if x > 8 and x + wide > WIDTH:
                x, y = 8.0, y + 16
            self.box(x, y - 9, 10, 10, f"k{place % KINDS}")
            self.text(x + 14, y, kind)
            x += wide + 6
        return y + 16

    def svg(self, *, alone: bool = False) -> str:
        """The drawing; `alone` puts its style inside."""
        style = f"<style>{STYLE}svg.pf{{background:var(--paper)}}</style>" if alone else ""
        space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
        size = f' width="{WIDTH}" height="{self.height:.0f}"' if alone else ""
        head = f'<svg{space} class="pf" viewBox="0 0 {WIDTH} {self.height:.0f}"{size} role="{self.role}">'
        return f"{head}<title>{html.escape(self.title)}</title>{style}{''.join(self.parts)}</svg>"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from low to high: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((power * digit for digit in (1, 2, 5, 10) if power * digit >= raw * (1 - 1e-9)), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [step * place for place in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """A tick in few letters."""
    size = abs(value)
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / {'T': 1e12, 'G': 1e9, 'M': 1e6, 'k': 1e3}[unit]:g}{unit}"
    return f"{round(value, 10):,g}"


def cut(text: str, room: float) -> str:
    """As much of a text as fits."""
    letters = max(1, int(room / LETTER))
    return text if len(text) <= letters else text[: max(1, letters - 1)] + "…"
