"""Scores of the time model as text, JSON, Markdown, and one HTML file with plots of predicted against measured."""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from planner.report import markdown, table
from planner.report.blocks import Block, Command, Grid, Heading, Headline, Text
from planner.validation.rl.phases import StepResult
from planner.validation.rl.phases_report import step_blocks, step_document
from planner.validation.rl.placement import PlacementResult
from planner.validation.rl.placement_report import placement_blocks, placement_document
from planner.validation.rl.report import rl_bar, rl_blocks, rl_document
from planner.validation.rl.steps import RlResult
from planner.validation.throughput.cases import CLASSES, Speed
from planner.validation.throughput.constants import LeftOut
from planner.validation.throughput.express import Estimate, Unexpressed
from planner.validation.throughput.score import Accuracy, Bar, GroupScore, accuracy, bars, groups

BEATEN = {
    "share of best, top-1, mean of sources": "trivial rule 0.90; 0.74 on a wider set",
    "share of best, best of top-3": "trivial rule 0.956",
    "Spearman inside groups, median of source medians": "plain roofline 0.56",
    "tokens/s, dense bf16, median of source medians": "llm-analysis 25.6 %, SimuMax up to 13.5 %",
    "tokens/s, vTrain one node, mean error": "vTrain 8.4 %",
    "tokens/s, vTrain several nodes, mean error": "vTrain 14.7 %",
}


@dataclass(frozen=True)
class Result:
    """All that a run of the validation found."""

    estimates: tuple[Estimate, ...]
    excluded: tuple[Speed, ...]
    unexpressed: tuple[Unexpressed, ...]
    constants: tuple[LeftOut, ...] = ()
    rl: RlResult | None = None
    placements: PlacementResult | None = None
    steps: StepResult | None = None

    @property
    def groups(self) -> list[GroupScore]:
        """Sweeps worth ranking."""
        return groups(self.estimates)

    @property
    def bars(self) -> list[Bar]:
        """Promises and what was reached."""
        found = bars(self.estimates, self.groups)
        return [*found, rl_bar(self.rl)] if self.rl is not None else found

    @property
    def ok(self) -> bool:
        """Every bar that has rows is reached."""
        return all(bar.reached for bar in self.bars if bar.rows)

    def accuracies(self) -> list[tuple[str, str, str, str, Accuracy]]:
        """(class, source, GPU, size band, error)."""
        found: dict[tuple[str, str, str, str], list[Estimate]] = {}
        for e in self.estimates:
            key = (e.speed.accuracy, e.speed.source, e.speed.run.gpu or "", e.speed.band)
            found.setdefault(key, []).append(e)
        order = {name: index for index, name in enumerate(CLASSES)}
        return [
            (*key, accuracy(key[1], found[key])) for key in sorted(found, key=lambda k: (order[k[0]], k[1], k[2], k[3]))
        ]


def _percent(value: float, sign: bool = False) -> str:
    return "-" if value != value else f"{value:+.1%}" if sign else f"{value:.1%}"


def _bar_value(bar: Bar) -> str:
    return _percent(bar.value) if "%" in bar.wanted else f"{bar.value:.3f}"


def blocks(result: Result, *, rows: bool = False) -> list[Block]:
    """The report, before it is known how it is printed."""
    reached = sum(bar.reached for bar in result.bars if bar.rows)
    total = sum(1 for bar in result.bars if bar.rows)
    out: list[Block] = [
        Headline(f"{reached} of {total} bars reached over {len(result.estimates)} published runs", reached == total),
        Heading("Bars"),
        Grid(
            ("what", "bar", "reached", "", "groups or rows", "to beat"),
            tuple(
                (b.name, b.wanted, _bar_value(b), "yes" if b.reached else "NO", str(b.rows), BEATEN.get(b.name, ""))
                for b in result.bars
                if b.rows
            ),
            left=frozenset({0, 5}),
        ),
        Heading("Error of tokens/s"),
        Grid(
            ("class", "source", "GPU", "size", "rows", "median", "p90", "bias"),
            tuple(
                (c, s, g, z, str(a.rows), _percent(a.median), _percent(a.p90), _percent(a.bias, True))
                for c, s, g, z, a in result.accuracies()
            ),
            left=frozenset({0, 1, 2, 3}),
        ),
        Heading("Choice inside sweeps: share of the best measured speed"),
        Grid(
            ("sweep", "rows", "Spearman", "top-1", "top-3", "trivial", "random", "pick", "best"),
            tuple(
                (
                    " ".join(g.key),
                    str(g.rows),
                    *(f"{value:.2f}" for value in (g.spearman, g.top1, g.top3, g.trivial, g.random)),
                    g.picked,
                    g.best,
                )
                for g in result.groups
            ),
            left=frozenset({0, 7, 8}),
        ),
    ]
    if result.rl is not None:
        out += rl_blocks(result.rl)
    if result.placements is not None:
        out += placement_blocks(result.placements)
    if result.steps is not None:
        out += step_blocks(result.steps)
    if result.constants:
        out += [Heading("Fitted constants, each refitted with one source or model left out"), _constants(result)]
    else:
        out.append(Text("Fitted constants and their left-out errors: --constants (two minutes)."))
    if rows:
        out += [Heading("Rows"), _rows(result)]
    reasons = Counter(f"{s.run.source}: {s.excluded}" for s in result.excluded)
    reasons += Counter(f"{u.speed.run.source}: {u.reason}" for u in result.unexpressed)
    out += [
        Heading("Not scored"),
        Grid(("source and reason", "rows"), tuple((name, str(n)) for name, n in sorted(reasons.items()))),
        Command("planner validate throughput --format html --out throughput.html", "the same with plots"),
    ]
    return out


def _constants(result: Result) -> Grid:
    return Grid(
        ("constant", "value", "fitted on", "rows", "folds", "median", "left out", "best multiple"),
        tuple(
            (
                c.fitted.name,
                f"{c.value:g}",
                c.fitted.data,
                str(c.rows),
                f"{c.folds} by {c.fitted.fold}",
                _percent(c.in_sample),
                _percent(c.left_out),
                f"{c.best:g}",
            )
            for c in result.constants
        ),
        left=frozenset({0, 2, 4}),
    )


def _row(e: Estimate) -> dict[str, Any]:
    c = e.speed.run
    names = ("tp", "pp", "vpp", "cp", "ep", "dp", "zero_stage")
    return {
        "id": c.id,
        "class": e.speed.accuracy,
        "model": c.model,
        "gpu": c.gpu,
        "num_gpus": c.num_gpus,
        "layout": {name: c.layout.get(name) for name in names},
        "micro_batch_size": c.micro_batch_size,
        "engine": e.problem.engine.id,
        "measured_tokens_per_s_per_gpu": e.speed.tokens_per_s_per_gpu,
        "predicted_tokens_per_s_per_gpu": round(e.tokens_per_s_per_gpu, 2),
        "predicted_peak_gib": round(e.peak_gib, 2),
    }


def _rows(result: Result) -> Grid:
    columns = ("id", "model", "GPUs", "layout", "micro-batch", "measured", "predicted", "error")
    out = []
    for e in sorted(result.estimates, key=lambda e: e.speed.id):
        row = _row(e)
        text = " ".join(f"{name}{value}" for name, value in row["layout"].items() if value is not None)
        figures = (f"{e.speed.tokens_per_s_per_gpu or 0:.0f}", f"{e.tokens_per_s_per_gpu:.0f}", _percent(e.error, True))
        out.append((row["id"], row["model"], str(row["num_gpus"]), text, str(row["micro_batch_size"]), *figures))
    return Grid(columns, tuple(out), left=frozenset({0, 1, 3}))


def render_text(result: Result, *, rows: bool = False) -> str:
    """For a terminal."""
    return table.render(blocks(result, rows=rows))


def render_markdown(result: Result, *, rows: bool = False) -> str:
    """For issues and notes."""
    return markdown.render(blocks(result, rows=rows))


def render_json(result: Result, *, rows: bool = False) -> str:
    """For programs; figures that do not exist are null."""
    data: dict[str, Any] = {
        "bars": [asdict(bar) for bar in result.bars],
        "accuracy": [
            {"class": c, "source": s, "gpu": g, "size": z, **asdict(a)} for c, s, g, z, a in result.accuracies()
        ],
        "groups": [asdict(g) for g in result.groups],
        "constants": [asdict(c) for c in result.constants],
        "not_scored": [{"id": s.id, "reason": s.excluded} for s in result.excluded]
        + [{"id": u.speed.id, "reason": u.reason} for u in result.unexpressed],
    }
    if result.rl is not None:
        data["rl"] = rl_document(result.rl)
    if result.placements is not None:
        data["rl_placements"] = placement_document(result.placements)
    if result.steps is not None:
        data["rl_steps"] = step_document(result.steps)
    if rows:
        data["rows"] = [_row(e) for e in sorted(result.estimates, key=lambda e: e.speed.id)]
    return json.dumps(_plain(data), indent=1, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def render_html(result: Result, *, rows: bool = False) -> str:
    """One self-contained page: tables, and a plot of predicted against measured for each class."""
    parts = []
    for block in blocks(result, rows=rows):
        if isinstance(block, Heading):
            parts.append(f"<h2>{html.escape(block.text)}</h2>")
        elif isinstance(block, Headline | Text):
            parts.append(f"<p>{html.escape(block.text)}</p>")
        elif isinstance(block, Grid):
            parts.append(_table(block))
    plots = []
    for name, text in CLASSES.items():
        points = [e for e in result.estimates if e.speed.accuracy == name]
        if points:
            plots.append(f"<figure>{_plot(points)}<figcaption>{html.escape(text)}</figcaption></figure>")
    style = (
        "body{font:14px sans-serif;max-width:1200px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
        "td,th{padding:2px 8px;border-bottom:1px solid #ddd;text-align:right}td:first-child,th:first-child"
        "{text-align:left}figure{display:inline-block;margin:8px}svg{background:#fafafa}"
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Throughput</title><style>{style}</style>'
    return f"{head}<h1>Predicted against measured tokens/s</h1>{''.join(plots)}{''.join(parts)}</html>\n"


def _table(grid: Grid) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{line(grid.columns, 'th')}{''.join(line(row, 'td') for row in grid.rows)}</table>"


def _plot(points: Sequence[Estimate], size: int = 340) -> str:
    """A log-log scatter with the diagonal and lines at 25 % either side."""
    pairs = [(e.speed.tokens_per_s_per_gpu or 1.0, e.tokens_per_s_per_gpu, e.speed.id) for e in points]
    values = [math.log10(v) for a, b, _ in pairs for v in (a, b)]
    low, high = min(values) - 0.05, max(values) + 0.05

    def at(value: float) -> float:
        return 30 + (math.log10(value) - low) / (high - low) * (size - 40)

    dots = "".join(
        f'<circle cx="{at(a):.1f}" cy="{size - at(b):.1f}" r="2.5" fill="#2563eb" fill-opacity="0.5">'
        f"<title>{html.escape(name)}: {a:.0f} measured, {b:.0f} predicted</title></circle>"
        for a, b, name in pairs
    )
    lines: str = ""
    for factor, colour in ((1.0, "#111"), (1.25, "#bbb"), (0.8, "#bbb")):
        first, last = 10**low, 10**high
        start, end = size - at(first * factor), size - at(last * factor)
        lines += f'<line x1="{at(first):.1f}" y1="{start:.1f}" x2="{at(last):.1f}" y2="{end:.1f}" stroke="{colour}"/>'
    scale = f"{10**low:,.0f} to {10**high:,.0f}"
    label = f'<text x="34" y="{size - 6}" font-size="11">measured tokens/s/GPU, {scale}</text>'
    return f'<svg width="{size}" height="{size}" viewBox="0 0 {size} {size}">{lines}{dots}{label}</svg>'
