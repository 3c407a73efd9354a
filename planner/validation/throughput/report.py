"""Scores of the time model as text, JSON, Markdown, and one HTML file with plots of predicted against measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from planner.inputs.document import Document
from planner.report import markdown, table
from planner.report.blocks import Block, Command, Grid, Heading, Headline, Scatter, Text
from planner.report.envelope import enveloped
from planner.report.html import render as page
from planner.report.json_text import dumps
from planner.validation.rl.bars import gain_bars, step_bars
from planner.validation.rl.phases import StepResult
from planner.validation.rl.phases_report import step_blocks, step_document
from planner.validation.rl.placement import PlacementResult
from planner.validation.rl.placement_report import placement_blocks, placement_document
from planner.validation.rl.report import rl_bar, rl_blocks, rl_document
from planner.validation.rl.steps import RlResult
from planner.validation.throughput.cases import CLASSES, Speed
from planner.validation.throughput.express import Estimate, UnexpressedSpeed
from planner.validation.throughput.left_out import LeftOutSpeeds
from planner.validation.throughput.left_out_report import left_out_blocks, left_out_document, percent
from planner.validation.throughput.ran import ran_blocks, ran_document
from planner.validation.throughput.score import Accuracy, GroupScore, SpeedBar, accuracy, bars, groups

BEATEN = {
    "share of best, top-1, mean of sources": "trivial rule 0.90; 0.74 on a wider set",
    "share of best, best of top-3": "trivial rule 0.956",
    "Spearman inside groups, median of source medians": "plain roofline 0.56",
    "tokens/s, dense bf16, median of source medians": "llm-analysis 25.6 %, SimuMax up to 13.5 %",
    "tokens/s, vTrain one node, mean error": "vTrain 8.4 %",
    "tokens/s, vTrain several nodes, mean error": "vTrain 14.7 %",
}


@dataclass(frozen=True)
class ThroughputResult:
    """All that a run of the validation found."""

    estimates: tuple[Estimate, ...]
    excluded: tuple[Speed, ...]
    unexpressed: tuple[UnexpressedSpeed, ...]
    left: LeftOutSpeeds | None = None
    """The same rows, none of whose constants has seen the row's group."""
    rl: RlResult | None = None
    placements: PlacementResult | None = None
    steps: StepResult | None = None

    @property
    def groups(self) -> list[GroupScore]:
        """Sweeps worth ranking."""
        return groups(self.estimates)

    @property
    def bars(self) -> list[SpeedBar]:
        """Promises and what was reached."""
        found = bars(self.estimates, self.groups)
        found += [rl_bar(self.rl)] if self.rl is not None else []
        found += step_bars(self.steps) if self.steps is not None else []
        return [*found, *gain_bars(self.placements)] if self.placements is not None else found

    @cached_property
    def left_out_bars(self) -> list[SpeedBar]:
        """What the same promises come to on left-out predictions; empty where none were asked for."""
        return bars(self.left.estimates, groups(self.left.estimates)) if self.left is not None else []

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


def _bar_value(bar: SpeedBar) -> str:
    return percent(bar.value) if "%" in bar.wanted else f"{bar.value:.3f}"


def blocks(result: ThroughputResult, *, rows: bool = False) -> list[Block]:
    """The report, before it is known how it is printed."""
    reached = sum(bar.reached for bar in result.bars if bar.rows)
    total = sum(1 for bar in result.bars if bar.rows)
    apart = {bar.name: _bar_value(bar) for bar in result.left_out_bars}
    out: list[Block] = [
        Headline(f"{reached} of {total} bars reached over {len(result.estimates)} published runs", reached == total),
        Heading("Bars"),
        Grid(
            ("what", "bar", "reached", "", *(("left out",) if apart else ()), "groups or rows", "to beat"),
            tuple(
                (
                    b.name,
                    b.wanted,
                    _bar_value(b),
                    "yes" if b.reached else "NO",
                    *((apart.get(b.name, "-"),) if apart else ()),
                    str(b.rows),
                    BEATEN.get(b.name, ""),
                )
                for b in result.bars
                if b.rows
            ),
            left=frozenset({0, 6 if apart else 5}),
        ),
        Heading("Error of tokens/s"),
        Grid(
            ("class", "source", "GPU", "size", "rows", "median", "p90", "bias"),
            tuple(
                (c, s, g, z, str(a.rows), percent(a.median), percent(a.p90), percent(a.bias, True))
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
    if result.estimates:
        out += ran_blocks(result.estimates, rows=rows)
    if result.rl is not None:
        out += rl_blocks(result.rl)
    if result.placements is not None:
        out += placement_blocks(result.placements)
    if result.steps is not None:
        out += step_blocks(result.steps)
    if result.left is not None:
        out += left_out_blocks(result.estimates, result.left)
    else:
        out.append(Text("Every figure on tokens/s is in-sample; with constants fitted again: --leave-out source."))
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


def _rows(result: ThroughputResult) -> Grid:
    columns = ("id", "model", "GPUs", "layout", "micro-batch", "measured", "predicted", "error")
    out = []
    for e in sorted(result.estimates, key=lambda e: e.speed.id):
        row = _row(e)
        text = " ".join(f"{name}{value}" for name, value in row["layout"].items() if value is not None)
        figures = (f"{e.speed.tokens_per_s_per_gpu or 0:.0f}", f"{e.tokens_per_s_per_gpu:.0f}", percent(e.error, True))
        out.append((row["id"], row["model"], str(row["num_gpus"]), text, str(row["micro_batch_size"]), *figures))
    return Grid(columns, tuple(out), left=frozenset({0, 1, 3}))


def render_text(result: ThroughputResult, *, rows: bool = False) -> str:
    """For a terminal."""
    return table.render(blocks(result, rows=rows))


def render_markdown(result: ThroughputResult, *, rows: bool = False) -> str:
    """For issues and notes."""
    return markdown.render(blocks(result, rows=rows))


def render_json(result: ThroughputResult, *, rows: bool = False, inputs: Sequence[Document] = ()) -> str:
    """For programs; figures that do not exist are null."""
    data: dict[str, Any] = {
        "bars": [asdict(bar) for bar in result.bars],
        "accuracy": [
            {"class": c, "source": s, "gpu": g, "size": z, **asdict(a)} for c, s, g, z, a in result.accuracies()
        ],
        "groups": [asdict(g) for g in result.groups],
        "not_scored": [{"id": s.id, "reason": s.excluded} for s in result.excluded]
        + [{"id": u.speed.id, "reason": u.reason} for u in result.unexpressed],
    }
    data["memory_of_runs_that_ran"] = ran_document(result.estimates)
    if result.left is not None:
        data["left_out"] = left_out_document(result.estimates, result.left)
        data["left_out"]["bars"] = [asdict(bar) for bar in result.left_out_bars]
    if result.rl is not None:
        data["rl"] = rl_document(result.rl)
    if result.placements is not None:
        data["rl_placements"] = placement_document(result.placements)
    if result.steps is not None:
        data["rl_steps"] = step_document(result.steps)
    if rows:
        data["rows"] = [_row(e) for e in sorted(result.estimates, key=lambda e: e.speed.id)]
    status = "reached" if result.ok else "not reached"
    catalog = {pair for e in result.estimates for pair in e.problem.provenance}
    return dumps(enveloped("validate throughput", status, _plain(data), asked=inputs, catalog=catalog))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def render_html(result: ThroughputResult, *, rows: bool = False) -> str:
    """One self-contained page: tables, and a plot of predicted against measured for each class."""
    headline, *rest = (block for block in blocks(result, rows=rows) if not isinstance(block, Command))
    return page([headline, *_scatters(result), *rest])


def _scatters(result: ThroughputResult) -> list[Block]:
    out: list[Block] = []
    for name, text in CLASSES.items():
        estimates = [e for e in result.estimates if e.speed.accuracy == name]
        points = tuple((e.speed.tokens_per_s_per_gpu or 1.0, e.tokens_per_s_per_gpu) for e in estimates)
        labels = tuple(
            f"{e.speed.id}: {measured:.0f} measured, {predicted:.0f} predicted"
            for e, (measured, predicted) in zip(estimates, points, strict=True)
        )
        if points:
            out.append(Scatter(text, "tokens/s/GPU", points, labels, band=0.25))
    return out
