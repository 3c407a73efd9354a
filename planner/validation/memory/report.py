"""Scores as text, JSON, Markdown, and one HTML file with scatter plots of predicted against measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from planner.inputs.document import Document
from planner.report import table
from planner.report.blocks import Block, Grid, Heading, Headline, Scatter, Text
from planner.report.envelope import enveloped
from planner.report.html import render as page
from planner.report.json_text import dumps
from planner.validation.memory.cases import CLASSES
from planner.validation.memory.later_look import later_data, later_tables
from planner.validation.memory.left_out_report import (
    LeftOutReport,
    Table,
    coverages,
    developments,
    left_out_data,
    percent,
    refits,
    reliabilities,
)
from planner.validation.memory.score import (
    HARD_ACCURACY,
    LATER_BARS,
    OOM_AMONG_SAFE,
    SAFE_SUCCESSES,
    MemoryResult,
    Score,
)


def _error(value: float, unit: str, sign: bool = False) -> str:
    if unit == "MiB":
        return f"{value:+.0f} MiB" if sign else f"{value:.0f} MiB"
    return percent(value, sign)


def tables(
    result: MemoryResult,
    left: LeftOutReport | None = None,
    *,
    rows: bool = False,
    worst: bool = False,
    detail: bool = True,
    folder: Path | None = None,
) -> list[Table]:
    """The tables of a report, in order; without `detail` those with a bar alone.

    `folder` holds the rows' first look.
    """
    out = [_bars(result)]
    if (fit := _fit(result)) is not None:
        out.append(fit)
    out.append(developments(result, left))
    if folder is not None:
        out += later_tables(result, folder)
    if left is not None:
        out += [coverages(left), reliabilities(result, left)]
        if detail:
            out.append(refits(left))
    if detail:
        out += _details(result)
    if worst:
        out += [_ledger(score) for score in result.classes()]
    if rows:
        out.append(_rows(result))
    return [each for each in out if each[2]]


def _details(result: MemoryResult) -> list[Table]:
    """Scores of every group, and what became of the rows that have none."""
    missing = Counter((u.case.scored_in, u.reason) for u in result.unexpressed)
    return [
        _scores("By class and metric", result.classes()),
        _scores("By source, engine and metric", result.sources()),
        _reasons("Reported, not scored", Counter((c.scored_in, c.excluded or "") for c in result.excluded)),
        _reasons("Not expressed as a scenario", missing),
    ]


def ending(result: MemoryResult, detail: bool) -> str:
    """What the tables leave out, and how to see it."""
    missing, excluded = len(result.unexpressed), len(result.excluded)
    said = f"{len(result.scored)} rows scored, {excluded} reported only, {missing} not expressed"
    return (
        f"{said}. " + ("" if detail else "Groups, refits and reasons: --detail. ") + "Worst rows with ledgers: --worst"
    )


def _bars(result: MemoryResult) -> Table:
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


def _fit(result: MemoryResult) -> Table | None:
    fit = result.fit()
    if fit is None:
        return None
    lost = [u.case for u in result.unexpressed if u.case.metric == "fit_oom"]
    ran_out = sum(case.outcome == "oom" for case in lost)
    rows = [
        ["hard rows called right", str(len(fit.hard)), percent(fit.hard_accuracy), f">= {HARD_ACCURACY:.0%}"],
        ["out of memory among those called safe", "", f"{fit.oom_among_safe:.2%}", f"<= {OOM_AMONG_SAFE:.0%}"],
        ["successes called safe", "", percent(fit.safe_successes), f">= {SAFE_SUCCESSES:.0%}"],
        ["all rows called right", str(len(fit.predictions)), percent(fit.accuracy), "none"],
        ["lost: not expressed as a scenario", str(len(lost)), f"{ran_out} of them ran out", "none"],
    ]
    good = (
        fit.hard_accuracy >= HARD_ACCURACY,
        fit.oom_among_safe <= OOM_AMONG_SAFE,
        fit.safe_successes >= SAFE_SUCCESSES,
    )
    marks = ["yes" if ok else "NO" for ok in good] + ["", ""]
    return (
        "Fit or out of memory (nanotron)",
        ["", "rows", "share", "bar", "reached"],
        [[*row, mark] for row, mark in zip(rows, marks, strict=True)],
    )


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
                percent(score.median()),
                percent(score.p90()),
                percent(score.bias(), True),
                f"{score.median('MiB'):.0f}",
                f"{bad.case.id} ({percent(bad.error, True)})",
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


def _rows(result: MemoryResult) -> Table:
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
                percent(p.error, True),
                str(p.stage),
                p.moment,
                p.case.excluded or "",
            ]
        )
    return "Rows", header, rows


def _reasons(title: str, counts: Counter[tuple[str, str]]) -> Table:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return title, ["class", "reason", "rows"], [[name, why, str(count)] for (name, why), count in ordered]


def render_text(report: Sequence[Table], ending: str) -> str:
    """Columns for a terminal, and what they leave out."""
    return table.render([*_blocks(report), Text(ending)])


def _blocks(report: Sequence[Table]) -> list[Block]:
    blocks: list[Block] = []
    for title, header, rows in report:
        words = [place for place in range(len(header)) if not any(_is_number(row[place]) for row in rows)]
        blocks += [Heading(title), Grid(tuple(header), tuple(map(tuple, rows)), left=frozenset({0, *words}))]
    return blocks


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


def as_data(
    result: MemoryResult, left: LeftOutReport | None = None, *, rows: bool = False, folder: Path | None = None
) -> dict[str, Any]:
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
                "stack": stack.name,
                "dev_1": None if stack.first is None else _score_data(stack.first),
                "dev_2": None if stack.second is None else _score_data(stack.second),
                "dev_3": None if stack.third is None else _score_data(stack.third),
                "dev_4": None if stack.fourth is None else _score_data(stack.fourth),
                "dev_5": None if stack.fifth is None else _score_data(stack.fifth),
                "dev_6": None if stack.sixth is None else _score_data(stack.sixth),
                "dev_2_bar": LATER_BARS.get(stack.name),
                "reached": result.later_ok.get(stack.name),
            }
            for stack in result.stacks()
        ],
        "later": [] if folder is None else later_data(result, folder),
        "left_out": None if left is None else left_out_data(result, left),
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


def render_json(
    result: MemoryResult,
    left: LeftOutReport | None = None,
    *,
    rows: bool = False,
    inputs: Sequence[Document] = (),
    folder: Path | None = None,
) -> str:
    """The report as JSON, with receipts of the published rows and of the catalogs."""
    status = "reached" if result.ok and (left is None or left.ok) else "not reached"
    catalog = {pair for p in result.predictions for pair in p.group.problem.provenance}
    return dumps(
        enveloped(
            "validate memory", status, as_data(result, left, rows=rows, folder=folder), asked=inputs, catalog=catalog
        )
    )


def render_html(result: MemoryResult, report: Sequence[Table]) -> str:
    """One self-contained page: a plot a class, then every table."""
    blocks: list[Block] = [Headline("Memory: predicted and measured", good=result.ok)]
    blocks += [_scatter(score) for score in result.classes()]
    return page([*blocks, *_blocks(report)])


def _scatter(score: Score) -> Scatter:
    return Scatter(
        f"{score.name}, {score.metric}: {score.rows} rows, median {score.median():.1%}",
        "GiB",
        tuple((p.case.memory_gib or 1.0, max(p.gib, 1e-3)) for p in score.predictions),
        tuple(f"{p.case.id}: measured {p.case.memory_gib:.2f}, predicted {p.gib:.2f}" for p in score.predictions),
        band=0.1,
    )
