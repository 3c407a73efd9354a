"""Scores as text, JSON, Markdown, and one HTML file with scatter plots of predicted against measured."""

from __future__ import annotations

import html
import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from planner.validation.memory.cases import CLASSES, STACKS, TOY_GIB
from planner.validation.memory.express import Prediction
from planner.validation.memory.score import HARD_ACCURACY, LATER_BARS, OOM_AMONG_SAFE, SAFE_SUCCESSES, Result, Score

Table = tuple[str, list[str], list[list[str]]]
"""Title, header, rows."""


def _percent(value: float, sign: bool = False) -> str:
    return f"{value:+.1%}" if sign else f"{value:.1%}"


def _error(value: float, unit: str, sign: bool = False) -> str:
    if unit == "MiB":
        return f"{value:+.0f} MiB" if sign else f"{value:.0f} MiB"
    return _percent(value, sign)


def tables(result: Result, *, rows: bool = False, worst: bool = False) -> list[Table]:
    """All tables of a report, in order."""
    out = [_bars(result)]
    if (fit := _fit(result)) is not None:
        out.append(fit)
    out.append(_developments(result))
    out.append(_scores("By class and metric", result.classes()))
    out.append(_scores("By source, engine and metric", result.sources()))
    if worst:
        out += [_ledger(score) for score in result.classes()]
    if rows:
        out.append(_rows(result))
    out.append(_reasons("Reported, not scored", Counter((c.scored_in, c.excluded or "") for c in result.excluded)))
    missing = Counter((u.case.scored_in, u.reason) for u in result.unexpressed)
    out.append(_reasons("Not expressed as a scenario", missing))
    return [table for table in out if table[2]]


def _bars(result: Result) -> Table:
    header = ["class", "rows", "median", "bar", "p90", "bar", "reached", "public tools"]
    rows = []
    for reached in result.bars():
        bar, score, unit = reached.bar, reached.score, reached.bar.unit
        rows.append(
            [
                CLASSES[bar.name],
                str(score.rows),
                _error(score.median(unit), unit),
                _error(bar.median, unit),
                _error(score.p90(unit), unit),
                _error(bar.p90, unit),
                "yes" if reached.ok else "NO",
                bar.others,
            ]
        )
    return "Bars", header, rows


def _fit(result: Result) -> Table | None:
    fit = result.fit()
    if fit is None:
        return None
    rows = [
        ["hard rows called right", str(len(fit.hard)), _percent(fit.hard_accuracy), f">= {HARD_ACCURACY:.0%}"],
        ["out of memory among those called safe", "", f"{fit.oom_among_safe:.2%}", f"<= {OOM_AMONG_SAFE:.0%}"],
        ["successes called safe", "", _percent(fit.safe_successes), f">= {SAFE_SUCCESSES:.0%}"],
        ["all rows called right", str(len(fit.predictions)), _percent(fit.accuracy), "none"],
    ]
    good = (
        fit.hard_accuracy >= HARD_ACCURACY,
        fit.oom_among_safe <= OOM_AMONG_SAFE,
        fit.safe_successes >= SAFE_SUCCESSES,
    )
    marks = ["yes" if ok else "NO" for ok in good] + [""]
    return (
        "Fit or out of memory (nanotron)",
        ["", "rows", "share", "bar", "reached"],
        [[*row, mark] for row, mark in zip(rows, marks, strict=True)],
    )


def _developments(result: Result) -> Table:
    """Rows that were in view from the start beside those kept aside until November 2026."""
    header = ["", *(f"dev-{n} {word}" for n in (1, 2) for word in ("rows", "median", "p90", "bias"))]
    header += ["bar on dev-2", "reached"]
    reached, rows = result.later_ok, []
    for name, *scores in result.stacks():
        row = [STACKS[name]]
        for score in scores:
            if score is None:
                row += ["0", "", "", ""]
            else:
                row += [str(score.rows), _percent(score.median()), _percent(score.p90()), _percent(score.bias(), True)]
        if name in LATER_BARS:
            bar = " / ".join(f"{part:.0%}" for part in LATER_BARS[name] if part is not None)
            row += [bar, {True: "yes", False: "NO", None: ""}[reached.get(name)]]
        rows.append([*row, *[""] * (len(header) - len(row))])
    return f"Development rows 1 and 2 side by side (of 1 those of {TOY_GIB:g} GiB and more, every metric)", header, rows


def _scores(title: str, scores: Sequence[Score]) -> Table:
    header = ["", "metric", "rows", "median", "p90", "bias", "MiB median", "worst row", "measured GiB", "predicted GiB"]
    rows = []
    for score in scores:
        bad = score.worst
        rows.append(
            [
                score.name,
                score.metric,
                str(score.rows),
                _percent(score.median()),
                _percent(score.p90()),
                _percent(score.bias(), True),
                f"{score.median('MiB'):.0f}",
                f"{bad.case.id} ({_percent(bad.error, True)})",
                f"{bad.case.memory_gib:.2f}",
                f"{bad.gib:.2f}",
            ]
        )
    return title, header, rows


def _ledger(score: Score) -> Table:
    bad = score.worst
    title = (
        f"Worst row of {score.name}: {bad.case.id}, {bad.case.model} on {bad.case.num_gpus} x {bad.case.gpu}, "
        f"measured {bad.case.memory_gib:.2f} GiB {bad.case.metric}, predicted {bad.gib:.2f} "
        f"(stage {bad.stage}, {bad.moment})"
    )
    rows = [[name, f"{gib:.3f}", source] for name, gib, source in bad.items()]
    return title, ["item", "GiB", "source"], rows


def _rows(result: Result) -> Table:
    header = [
        "row",
        "class",
        "metric",
        "measured GiB",
        "predicted GiB",
        "error",
        "stage",
        "moment",
        "not scored because",
    ]
    rows = []
    for p in result.predictions:
        if p.case.memory_gib is None:
            continue
        rows.append(
            [
                p.case.id,
                p.case.scored_in,
                p.case.metric,
                f"{p.case.memory_gib:.3f}",
                f"{p.gib:.3f}",
                _percent(p.error, True),
                str(p.stage),
                p.moment,
                p.case.excluded or "",
            ]
        )
    return "Rows", header, rows


def _reasons(title: str, counts: Counter[tuple[str, str]]) -> Table:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return title, ["class", "reason", "rows"], [[name, why, str(count)] for (name, why), count in ordered]


def render_text(report: Sequence[Table]) -> str:
    """Columns for a terminal."""
    parts = []
    for title, header, rows in report:
        width = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
        width[-1] = 0
        lines = [
            "  ".join(
                cell.rjust(w) if _is_number(cell) else cell.ljust(w) for cell, w in zip(row, width, strict=True)
            ).rstrip()
            for row in [header, *rows]
        ]
        parts.append("\n".join([title, "", *(f"  {line}" for line in lines)]))
    return "\n\n".join(parts)


def _is_number(cell: str) -> bool:
    return bool(cell) and (cell[0].isdigit() or cell[0] in "+-") and len(cell) < 12


def render_markdown(report: Sequence[Table]) -> str:
    """Pipe tables."""
    parts = []
    for title, header, rows in report:
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [header, *rows]]
        lines.insert(1, "|" + "---|" * len(header))
        parts.append("\n".join([f"## {title}", "", *lines]))
    return "\n\n".join(parts)


def as_data(result: Result, *, rows: bool = False) -> dict[str, Any]:
    """The report as plain data."""
    fit = result.fit()
    data: dict[str, Any] = {
        "bars": [
            {
                "class": r.bar.name,
                "rows": r.score.rows,
                "unit": r.bar.unit,
                "median": r.score.median(r.bar.unit),
                "median_bar": r.bar.median,
                "p90": r.score.p90(r.bar.unit),
                "p90_bar": r.bar.p90,
                "reached": r.ok,
            }
            for r in result.bars()
        ],
        "fit": None
        if fit is None
        else {
            "rows": len(fit.predictions),
            "hard_rows": len(fit.hard),
            "hard_accuracy": fit.hard_accuracy,
            "accuracy": fit.accuracy,
            "oom_among_safe": fit.oom_among_safe,
            "safe_successes": fit.safe_successes,
            "reached": fit.ok,
        },
        "developments": [
            {
                "stack": name,
                "dev_1": None if first is None else _score_data(first),
                "dev_2": None if second is None else _score_data(second),
                "dev_2_bar": LATER_BARS.get(name),
                "reached": result.later_ok.get(name),
            }
            for name, first, second in result.stacks()
        ],
        "classes": [_score_data(s) for s in result.classes()],
        "sources": [_score_data(s) for s in result.sources()],
        "excluded": [{"id": c.id, "class": c.scored_in, "reason": c.excluded} for c in result.excluded],
        "unexpressed": [{"id": u.case.id, "class": u.case.scored_in, "reason": u.reason} for u in result.unexpressed],
        "reached": result.ok,
    }
    if rows:
        data["rows"] = [
            {
                "id": p.case.id,
                "class": p.case.scored_in,
                "metric": p.case.metric,
                "outcome": p.case.outcome,
                "measured_gib": p.case.memory_gib,
                "predicted_gib": p.gib,
                "peak_gib": p.peak_gib,
                "stage": p.stage,
                "moment": p.moment,
                "excluded": p.case.excluded,
            }
            for p in result.predictions
        ]
    return data


def _score_data(score: Score) -> dict[str, Any]:
    bad = score.worst
    return {
        "name": score.name,
        "metric": score.metric,
        "rows": score.rows,
        "median": score.median(),
        "p90": score.p90(),
        "bias": score.bias(),
        "median_mib": score.median("MiB"),
        "p90_mib": score.p90("MiB"),
        "worst": {
            "id": bad.case.id,
            "error": bad.error,
            "ledger": [{"name": name, "gib": gib, "source": source} for name, gib, source in bad.items()],
        },
    }


def render_json(result: Result, *, rows: bool = False) -> str:
    """The report as JSON."""
    return json.dumps(as_data(result, rows=rows), indent=1, ensure_ascii=False, allow_nan=False)


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1c2733}"
    "table{border-collapse:collapse;margin:.5rem 0 2rem;font-size:13px}"
    "td,th{border-bottom:1px solid #d8dee4;padding:.2rem .6rem;text-align:left;vertical-align:top}"
    ".plots{display:flex;flex-wrap:wrap;gap:1rem}svg{background:#fbfcfd;border:1px solid #d8dee4}"
    "text{font:11px system-ui,sans-serif;fill:#42505e}"
)


def render_html(result: Result, report: Sequence[Table]) -> str:
    """One self-contained page."""
    plots = "".join(_scatter(score) for score in result.classes())
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Memory: predicted and measured</title>",
        f"<style>{_STYLE}</style><h1>Memory: predicted and measured</h1><div class=plots>{plots}</div>",
    ]
    for title, header, rows in report:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{body}</table>")
    return "\n".join(parts)


def _scatter(score: Score, size: int = 340, margin: int = 42) -> str:
    """Predicted against measured, both logarithmic, with the diagonal and ten percent beside it."""
    points = [(p.case.memory_gib or 1.0, max(p.gib, 1e-3), p) for p in score.predictions]
    values = [v for x, y, _ in points for v in (x, y)]
    low, high = math.log10(min(values)) - 0.05, math.log10(max(values)) + 0.05

    def at(value: float) -> float:
        return (math.log10(value) - low) / (high - low) * (size - 2 * margin)

    def xy(x: float, y: float) -> tuple[float, float]:
        return margin + at(x), size - margin - at(y)

    parts = [f'<svg width="{size}" height="{size}" role="img"><title>{html.escape(score.name)}</title>']
    ends = 10**low, 10**high
    for factor, style in ((1.0, "#42505e"), (1.1, "#c3ccd5"), (1 / 1.1, "#c3ccd5")):
        (x1, y1), (x2, y2) = xy(ends[0], ends[0] * factor), xy(ends[1], ends[1] * factor)
        parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{style}"/>')
    for tick in _ticks(*ends):
        x, y = xy(tick, tick)
        parts.append(f'<text x="{x:.1f}" y="{size - margin + 16}" text-anchor="middle">{tick:g}</text>')
        parts.append(f'<text x="{margin - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for measured, predicted, p in points:
        x, y = xy(measured, predicted)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#1769aa" fill-opacity=".5">{_hover(p)}</circle>')
    name = html.escape(f"{score.name}, {score.metric}: {score.rows} rows, median {score.median():.1%}")
    parts.append(f'<text x="{margin}" y="18">{name}</text>')
    parts.append(f'<text x="{size / 2}" y="{size - 8}" text-anchor="middle">measured [GiB]</text>')
    parts.append(
        f'<text x="12" y="{size / 2}" transform="rotate(-90 12 {size / 2})" text-anchor="middle">predicted</text>'
    )
    return "".join(parts) + "</svg>"


def _hover(p: Prediction) -> str:
    return f"<title>{html.escape(p.case.id)}: measured {p.case.memory_gib:.2f}, predicted {p.gib:.2f}</title>"


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten inside the range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
    return [tick for tick in every if low <= tick <= high]
