"""Published speeds as evidence on memory: a run whose speed is printed ran, so what it needs fits its GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.ledger import total
from planner.costs.memory.returnable import counted, of_live_memory
from planner.costs.memory.stage_memory import StageMemory, moments
from planner.report.blocks import Block, Grid, Heading, Text
from planner.report.json_text import JsonObject
from planner.units import GIB
from planner.validation.throughput.express import Estimate


@dataclass(frozen=True)
class Ran:
    """The runs of one engine file, all of which ran, as the memory model judges them."""

    engine: str
    runs: tuple[Estimate, ...]

    @cached_property
    def false_oom(self) -> tuple[Estimate, ...]:
        """Those said not to fit: live memory exceeds the usable memory of their GPU, the largest excess first."""
        return tuple(e for e in self._without_room if live_gib(e) > e.usable_gib)

    @cached_property
    def critical(self) -> tuple[Estimate, ...]:
        """Those said to start only if the allocator gives back some of what it is estimated to hold."""
        return tuple(e for e in self._without_room if live_gib(e) <= e.usable_gib)

    @cached_property
    def _without_room(self) -> list[Estimate]:
        return sorted((e for e in self.runs if not e.fits), key=lambda e: (-excess_gib(e), e.speed.id))

    @property
    def not_offered(self) -> int:
        """How many `solve` would not offer by default: they do not leave the engine's headroom."""
        return sum(not e.offered for e in self.runs)


def excess_gib(estimate: Estimate) -> float:
    """What the predicted peak exceeds usable memory by. [GiB]"""
    return estimate.peak_gib - estimate.usable_gib


def live_gib(estimate: Estimate) -> float:
    """The peak of what no allocator can give back, on the fullest stage. [GiB]"""
    layouts = estimate.layouts.take(np.array([estimate.row])).expand()
    stages = np.arange(len(estimate.layers))[None, :]
    layers, recomputed = estimate.layers[None, :], estimate.recomputed[None, :]
    (problem,) = of_live_memory(estimate.problem.alone).problems
    memory = StageMemory(problem, layouts, stages, layers, recomputed)
    most = 0.0
    for name in moments(problem):
        happens = (layers > 0) & ((recomputed > 0) | (name != "recomputation"))
        live = np.broadcast_to(total(counted(problem, memory.ledger(name))), layers.shape)
        most = max(most, float(np.where(happens, live, 0.0).max()) / GIB)
    return most


def ran(estimates: Sequence[Estimate]) -> list[Ran]:
    """One record an engine file, by its id."""
    found: dict[str, list[Estimate]] = {}
    for e in estimates:
        found.setdefault(e.problem.engine.id, []).append(e)
    return [Ran(engine, tuple(found[engine])) for engine in sorted(found)]


def ran_blocks(estimates: Sequence[Estimate], *, rows: bool = False) -> list[Block]:
    """Counts by engine; with `rows` every false out-of-memory too."""
    engines = ran(estimates)
    counts = [(len(r.runs), len(r.false_oom), len(r.critical), r.not_offered) for r in engines]
    lines = [(r.engine, *map(str, each)) for r, each in zip(engines, counts, strict=True)]
    lines.append(("all", *(str(sum(column)) for column in zip(*counts, strict=True))))
    header = ("engine", "runs", "said not to fit", "critical", "not offered")
    out: list[Block] = [
        Heading("Memory of these runs, all of which ran"),
        Grid(header, tuple(lines)),
        Text(
            "Not to fit: live memory is too much. Critical: it fits if the allocator gives back what it caches. "
            "Offered is what leaves headroom."
        ),
    ]
    if rows:
        listed = [_line(e) for r in engines for e in (*r.false_oom, *r.critical)]
        columns = ("id", "engine", "peak GiB", "usable", "excess", "live")
        out.append(Grid(columns, tuple(listed), left=frozenset({0, 1})))
    return out


def _line(e: Estimate) -> tuple[str, ...]:
    figures = (e.peak_gib, e.usable_gib, excess_gib(e), live_gib(e))
    return (e.speed.run.id, e.problem.engine.id, *(f"{value:.1f}" for value in figures))


def ran_document(estimates: Sequence[Estimate]) -> list[JsonObject]:
    """The same as data."""
    return [
        {
            "engine": r.engine,
            "runs": len(r.runs),
            "said_not_to_fit": len(r.false_oom),
            "critical": len(r.critical),
            "without_default_headroom": r.not_offered,
            "rows": [
                {
                    "id": e.speed.run.id,
                    "peak_gib": round(e.peak_gib, 2),
                    "live_gib": round(live_gib(e), 2),
                    "usable_gib": round(e.usable_gib, 2),
                }
                for e in (*r.false_oom, *r.critical)
            ],
        }
        for r in ran(estimates)
    ]
