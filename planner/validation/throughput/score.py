"""Errors, rank correlation and regret of the time model over published runs; every figure is a plain function here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.validation.throughput.cases import DENSE_SOURCES, SMALLEST_GROUP
from planner.validation.throughput.express import Estimate

TIE = 0.005
"""Predictions closer than this are one: the objective calls them equal too."""


@dataclass(frozen=True)
class Accuracy:
    """Error of tokens/s over some rows."""

    name: str
    rows: int
    median: float
    """Median of |predicted - measured| / measured."""
    p90: float
    bias: float
    """Median of (predicted - measured) / measured."""


@dataclass(frozen=True)
class GroupScore:
    """One sweep: rows that differ in their layout alone."""

    key: tuple[str, ...]
    rows: int
    spearman: float
    top1: float
    """Measured speed of the layout we would pick as a share of the best measured one; like `solve`, the pick is the
    fastest by our time model of those that leave the engine's headroom by our memory model."""
    top3: float
    """The best of the three that we rank first."""
    trivial: float
    """The same for: least TP*PP that fits by our memory model, then the largest micro-batch."""
    random: float
    """Expected share of a random layout that fits."""
    picked: str
    """Row id of our pick."""
    best: str

    @property
    def source(self) -> str:
        """Where the sweep comes from."""
        return self.key[0]

    @property
    def network(self) -> str:
        """good, slow, or - where no network was measured."""
        return self.key[-1]


@dataclass(frozen=True)
class SpeedBar:
    """A promise and what was reached."""

    name: str
    wanted: str
    value: float
    reached: bool
    rows: int


def accuracy(name: str, estimates: Sequence[Estimate]) -> Accuracy:
    """Median and 90th percentile of the absolute relative error."""
    errors = np.array([e.error for e in estimates])
    if not len(errors):
        return Accuracy(name, 0, float("nan"), float("nan"), float("nan"))
    size = np.abs(errors)
    return Accuracy(name, len(errors), float(np.median(size)), float(np.quantile(size, 0.9)), float(np.median(errors)))


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1, ties at their mean."""
    array = np.asarray(values, dtype=np.float64)
    order = np.argsort(array, kind="stable")
    out = np.empty(len(array))
    out[order] = np.arange(1, len(array) + 1)
    for value in np.unique(array):
        same = array == value
        out[same] = out[same].mean()
    return out


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank; nan where one side does not vary."""
    a, b = ranks(first), ranks(second)
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def group_score(key: tuple[str, ...], estimates: Sequence[Estimate]) -> GroupScore:
    """Choice quality inside one sweep."""
    rows = sorted(estimates, key=lambda e: e.speed.id)
    seen = [float(e.speed.tokens_per_s_per_gpu or 0.0) for e in rows]
    said = [e.tokens_per_s_per_gpu for e in rows]
    best = max(seen)
    order = sorted(range(len(rows)), key=lambda i: (not rows[i].offered, -said[i], rows[i].speed.id))
    feasible = [i for i in range(len(rows)) if rows[i].fits] or list(range(len(rows)))
    simple = trivial_pick([rows[i] for i in feasible])
    return GroupScore(
        key=key,
        rows=len(rows),
        spearman=spearman(said, seen),
        top1=seen[order[0]] / best,
        top3=max(seen[i] for i in order[:3]) / best,
        trivial=float(simple.speed.tokens_per_s_per_gpu or 0.0) / best,
        random=float(np.mean([seen[i] for i in feasible])) / best,
        picked=rows[order[0]].speed.id,
        best=rows[int(np.argmax(seen))].speed.id,
    )


def trivial_pick(estimates: Sequence[Estimate]) -> Estimate:
    """Least TP*PP, then the largest micro-batch, then the smallest TP, then the row id."""

    def key(e: Estimate) -> tuple[int, int, int, str]:
        lay = e.speed.run.layout
        return (lay["tp"] * lay["pp"], -(e.speed.run.micro_batch_size or 1), lay["tp"], e.speed.id)

    return min(estimates, key=key)


def groups(estimates: Iterable[Estimate]) -> list[GroupScore]:
    """All sweeps of at least SMALLEST_GROUP layouts, in the order of their keys."""
    found: dict[tuple[str, ...], dict[tuple[str, ...], list[Estimate]]] = {}
    for e in estimates:
        found.setdefault(e.speed.group, {}).setdefault(e.speed.same_layout, []).append(e)
    return [
        group_score(key, [one_row(rows) for rows in found[key].values()])
        for key in sorted(found)
        if len(found[key]) >= SMALLEST_GROUP
    ]


def one_row(rows: Sequence[Estimate]) -> Estimate:
    """One layout that several releases or repetitions ran: the first of them, with the medians of their speeds."""
    if len(rows) == 1:
        return rows[0]
    first = min(rows, key=lambda e: e.speed.id)
    seen = _median([float(e.speed.tokens_per_s_per_gpu or 0.0) for e in rows])
    said = _median([e.tokens_per_s_per_gpu for e in rows])
    return replace(first, speed=replace(first.speed, tokens_per_s_per_gpu=seen), tokens_per_s_per_gpu=said)


def by_source(
    values: Iterable[tuple[str, float]],
    take: Callable[[Sequence[float]], float],
    over: Callable[[Sequence[float]], float] = lambda each: float(np.mean(each)),
) -> float:
    """One figure a source, then their mean (or median): sources weigh equally."""
    found: dict[str, list[float]] = {}
    for source, value in values:
        if value == value:
            found.setdefault(source, []).append(value)
    return over([take(found[s]) for s in sorted(found)]) if found else float("nan")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def barred(scores: Sequence[GroupScore]) -> list[GroupScore]:
    """Sweeps that the bars count: those on a degraded network are reported apart."""
    return [g for g in scores if g.network not in ("slow", "faulty-nvlink")]


def bars(estimates: Sequence[Estimate], scores: Sequence[GroupScore]) -> list[SpeedBar]:
    """The promises of the time model and what was reached."""
    counted = barred(scores)

    def share(name: str) -> float:
        return by_source(((g.source, getattr(g, name)) for g in counted), _mean)

    def of(accuracy_class: str) -> list[Estimate]:
        return [e for e in estimates if e.speed.accuracy == accuracy_class]

    worst = min((g.top1 for g in counted), default=float("nan"))
    dense = of("dense-bf16")
    each = [accuracy(s, [e for e in dense if e.speed.source == s]) for s in DENSE_SOURCES]
    each = [a for a in each if a.rows]
    middle = _median([a.median for a in each]) if each else float("nan")
    tail = _median([a.p90 for a in each]) if each else float("nan")
    one, several = (accuracy(name, of(name)) for name in ("vtrain-1-node", "vtrain-several"))
    moe, later = (accuracy(name, of(name)) for name in ("moe-bf16", "moe-later"))
    eight = [e for e in of("dense-fp8") if e.problem.engine.id == "megatron-core"]
    hopper = accuracy("fp8", [e for e in eight if e.problem.gpu.id == "h100-sxm5-80gb"])
    racks = accuracy("fp8", [e for e in eight if e.problem.gpu.id in ("gb200-186gb", "gb300")])
    titan, adapters, amd = (accuracy(name, of(name)) for name in ("torchtitan", "adapters", "amd"))
    sharded = accuracy("zero3", of("zero3"))
    number = len(counted)
    top1, top3 = share("top1"), share("top3")
    rho = by_source(((g.source, g.spearman) for g in counted), _median, over=_median)
    return [
        SpeedBar("share of best, top-1, mean of sources", ">= 0.97", top1, top1 >= 0.97, number),
        SpeedBar("share of best, top-1, worst group", ">= 0.88", worst, worst >= 0.88, number),
        SpeedBar("share of best, best of top-3", ">= 0.99", top3, top3 >= 0.99, number),
        SpeedBar("Spearman inside groups, median of source medians", ">= 0.90", rho, rho >= 0.90, number),
        SpeedBar("tokens/s, dense bf16, median of source medians", "<= 8 %", middle, middle <= 0.08, len(dense)),
        SpeedBar("tokens/s, dense bf16, median of source p90", "<= 25 %", tail, tail <= 0.25, len(dense)),
        SpeedBar("tokens/s, vTrain one node, mean error", "<= 8.4 %", *_mape(of("vtrain-1-node"), 0.084), one.rows),
        SpeedBar(
            "tokens/s, vTrain several nodes, mean error", "<= 14.7 %", *_mape(of("vtrain-several"), 0.147), several.rows
        ),
        SpeedBar("tokens/s, experts bf16, median", "<= 10 %", moe.median, moe.median <= 0.10, moe.rows),
        SpeedBar("tokens/s, later rows of experts, median", "<= 15 %", later.median, later.median <= 0.15, later.rows),
        SpeedBar("tokens/s, Megatron dense fp8, H100", "<= 5 %", hopper.median, hopper.median <= 0.05, hopper.rows),
        SpeedBar("tokens/s, torchtitan, median", "<= 10 %", titan.median, titan.median <= 0.10, titan.rows),
        SpeedBar("tokens/s, DeepSpeed ZeRO-3, median", "<= 15 %", sharded.median, sharded.median <= 0.15, sharded.rows),
        SpeedBar("tokens/s, LoRA in fp8, median", "<= 15 %", adapters.median, adapters.median <= 0.15, adapters.rows),
        SpeedBar("tokens/s, AMD, median", "<= 15 %", amd.median, amd.median <= 0.15, amd.rows),
        SpeedBar(
            "tokens/s, Megatron dense fp8, GB200, GB300", "<= 7 %", racks.median, racks.median <= 0.07, racks.rows
        ),
    ]


def _mape(estimates: Sequence[Estimate], limit: float) -> tuple[float, bool]:
    """Mean absolute relative error of step time, as vTrain prints it."""
    if not estimates:
        return float("nan"), False
    value = float(np.mean([abs(1 / (1 + e.error) - 1) for e in estimates]))
    return value, value <= limit
