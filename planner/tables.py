"""Integer coefficients for the solver: demand rounded up, capacity rounded down, every linear range checked.

Memory is in KiB (or a power of two of it, where ranges ask for it), time in a unit chosen for the instance. The tables
know nothing of GPUs or engines; the solver reads only them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.errors import InternalError
from planner.evaluate import RolloutTable, RowCosts, capacity_bytes, even_layers, recompute_kind, recompute_levels
from planner.layouts import Ints
from planner.problem import Problem
from planner.units import GIB, KIB

SAFE_RANGE = 2**33
"""Above this OR-Tools 9.15 proves wrong optima; a table that reaches it is an error of ours."""
TIME_RANGE = 2**30
"""Steps are scaled to about this many time units."""


@dataclass(frozen=True)
class Line:
    """layer * n + recomputed * r + end, integers, for one stage."""

    layer: int
    recomputed: int
    end: int

    def at(self, layers: int, recomputed: int) -> int:
        """The value for these counts."""
        return self.layer * layers + self.recomputed * recomputed + self.end


@dataclass(frozen=True)
class Visit:
    """Time of one visit: `top` times the slowest stage is already inside `stages`, the rest is the sum over stages."""

    name: str
    stages: tuple[Line, ...]
    sum_layer: int
    sum_recomputed: int
    sum_end: int


@dataclass(frozen=True)
class Row:
    """One training layout."""

    index: int
    """Its place in the space's columns."""
    key: int
    """Rollout choices with the same key may be combined with it (same GPUs and wishes)."""
    stages: int
    chunks: int
    """Layers of a stage come in multiples of this."""
    first_layers: int
    """Least layers of the first stage."""
    fixed_layers: tuple[int, ...] | None
    """Layers of each stage where they are not free."""
    levels: tuple[int, ...]
    """Allowed numbers of recomputed layers, where `recompute` is `levels`."""
    memory: tuple[tuple[Line, ...], ...]
    """For each stage its lines; every one must stay within capacity less headroom."""
    visits: tuple[Visit, ...]
    simplicity: int
    rank: int
    """Place in the order of the smallest tuple (tp, pp, cp, ep, dp, vp, mbs, rest)."""

    def peak(self, layers: tuple[int, ...], recomputed: tuple[int, ...]) -> int:
        """Memory units of the fullest stage and moment."""
        counts = zip(self.memory, layers, recomputed, strict=True)
        return max(line.at(n, r) for lines, n, r in counts for line in lines)

    def time(self, layers: tuple[int, ...], recomputed: tuple[int, ...]) -> int:
        """Time units of the step, without rollout."""
        spent = 0
        for visit in self.visits:
            spent += max(line.at(n, r) for line, n, r in zip(visit.stages, layers, recomputed, strict=True))
            spent += visit.sum_layer * sum(layers) + visit.sum_recomputed * sum(recomputed) + visit.sum_end
        return spent


@dataclass(frozen=True)
class Choice:
    """One rollout choice."""

    index: int
    key: int
    memory: int
    time: int
    rank: int


@dataclass(frozen=True)
class Tables:
    """Everything the solver may know."""

    rows: tuple[Row, ...]
    choices: tuple[Choice, ...]
    """Empty where there is no rollout engine."""
    capacity: int
    """Usable memory in memory units."""
    headroom: int
    """Memory units that must stay free."""
    total_layers: int
    uniform_recompute: bool
    """One number of recomputed layers for all stages (a stage with fewer layers recomputes all of its own)."""
    recompute: str
    """`levels`: any of a row's levels; `all`: every layer; `none_or_all`: no layer of a stage or every one."""
    max_layers: int
    time_limit: int
    """No optimal step takes longer, in time units."""
    near_tie: float
    memory_unit_bytes: float
    time_unit_seconds: float


def row_ranks(costs: RowCosts) -> Ints:
    """Place of each row in the order of the smallest tuple."""
    lay = costs.layouts
    order = np.lexsort(
        (
            lay.zero_stage,
            lay.expert_tensor_parallel,
            lay.num_gpus,
            lay.micro_batch_size,
            lay.virtual_pipeline,
            lay.data_parallel,
            lay.expert_parallel,
            lay.context_parallel,
            lay.pipeline_parallel,
            lay.tensor_parallel,
        )
    )
    ranks = np.empty(len(lay), dtype=np.int64)
    ranks[order] = np.arange(len(lay))
    return ranks


def choice_ranks(table: RolloutTable) -> Ints:
    """Place of each rollout choice: smaller tensor parallelism, then the smaller memory fraction."""
    c = table.choices
    ranks = np.empty(len(c), dtype=np.int64)
    ranks[np.lexsort((c.gpu_memory_utilization, c.tensor_parallel))] = np.arange(len(c))
    return ranks


def keys(num_gpus: Ints, wish: Ints) -> Ints:
    """One number for the GPUs and wishes that a row and a rollout choice must share."""
    return num_gpus * 4096 + wish


def build_tables(
    problem: Problem, costs: RowCosts, rollouts: RolloutTable | None, rows: Ints, choices: Ints, longest_seconds: float
) -> Tables:
    """Tables of these rows and rollout choices; no optimal step is longer than `longest_seconds`.

    Raises InternalError when a linear range reaches SAFE_RANGE.
    """
    scenario = problem.scenario
    free = scenario.layout.layers_per_stage == "free"
    time_unit = longest_seconds / TIME_RANGE
    while True:
        units = (time_unit, 1.0 * KIB)
        built = _tables(problem, costs, rollouts, rows, choices, longest_seconds, units, free)
        widest = widest_range(built)
        if widest < SAFE_RANGE:
            return built
        if time_unit > longest_seconds / 2**20:
            raise InternalError(f"a linear range of {widest} reaches 2^33 even with coarse units")
        time_unit *= 2


def _up(value: float) -> int:
    return math.ceil(value)


def _tables(
    problem: Problem,
    costs: RowCosts,
    rollouts: RolloutTable | None,
    rows: Ints,
    choices: Ints,
    longest_seconds: float,
    units: tuple[float, float],
    free: bool,
) -> Tables:
    lay, (time_unit, memory_unit) = costs.layouts, units
    total_layers = problem.architecture.num_hidden_layers
    fixed = None if free else even_layers(problem, lay, costs.stages)
    ranks = row_ranks(costs)
    row_keys = keys(lay.num_gpus, lay.wish)
    dense = problem.parameters.num_dense_layers if problem.architecture.is_moe else 0
    built = []
    for row in rows.tolist():
        stages = int(lay.pipeline_parallel[row])
        layers = None if fixed is None else tuple(int(n) for n in fixed[row, :stages])
        most = total_layers - (stages - 1) if layers is None else max(layers)
        built.append(
            Row(
                index=row,
                key=int(row_keys[row]),
                stages=stages,
                chunks=int(lay.virtual_pipeline[row]),
                first_layers=max(1, dense),
                fixed_layers=layers,
                levels=tuple(recompute_levels(problem, most)),
                memory=tuple(_memory_lines(costs, row, stage, memory_unit) for stage in range(stages)),
                visits=_visits(costs, row, stages, time_unit),
                simplicity=int(costs.simplicity[row]),
                rank=int(ranks[row]),
            )
        )
    table = _choices(rollouts, choices, units) if rollouts is not None else ()
    most_layers = max((max(r.fixed_layers) for r in built if r.fixed_layers), default=0)
    if free:
        most_layers = total_layers - min((r.stages for r in built), default=1) + 1
    return Tables(
        rows=tuple(built),
        choices=table,
        capacity=math.floor(capacity_bytes(problem) / memory_unit),
        headroom=math.ceil(problem.headroom_gib * GIB / memory_unit),
        total_layers=total_layers,
        uniform_recompute=problem.scenario.layout.recompute == "uniform",
        recompute=recompute_kind(problem),
        max_layers=most_layers,
        time_limit=math.ceil(longest_seconds / time_unit * (1 + 1e-6)) + 4096,
        near_tie=problem.scenario.search.near_tie,
        memory_unit_bytes=memory_unit,
        time_unit_seconds=time_unit,
    )


def _choices(rollouts: RolloutTable, choices: Ints, units: tuple[float, float]) -> tuple[Choice, ...]:
    order = choice_ranks(rollouts)
    time_unit, memory_unit = units
    return tuple(
        Choice(
            index=j,
            key=int(keys(rollouts.choices.num_gpus[j], rollouts.choices.wish[j])),
            memory=_up(float(rollouts.peak_bytes[j]) / memory_unit),
            time=_up(float(rollouts.seconds[j]) / time_unit),
            rank=int(order[j]),
        )
        for j in choices.tolist()
    )


def _memory_lines(costs: RowCosts, row: int, stage: int, unit: float) -> tuple[Line, ...]:
    """Lines of one stage, without those that another line never lets bind."""
    lines = {
        Line(
            _up(float(c.layer[row, stage]) / unit),
            _up(float(c.recomputed[row, stage]) / unit),
            _up(float(c.end[row, stage]) / unit),
        )
        for c in costs.memory.values()
    }
    ordered = sorted(lines, key=lambda line: (line.layer, line.recomputed, line.end))
    return tuple(
        line
        for line in ordered
        if not any(
            other != line
            and other.layer >= line.layer
            and other.recomputed >= line.recomputed
            and other.end >= line.end
            for other in ordered
        )
    )


def _visits(costs: RowCosts, row: int, stages: int, unit: float) -> tuple[Visit, ...]:
    out = []
    for name, (c, heavy, light) in costs.time.items():
        top, rest = float(heavy[row]) / unit, float(light[row]) / unit
        out.append(
            Visit(
                name=name,
                stages=tuple(
                    Line(
                        _up(top * float(c.layer[row, s])),
                        _up(top * float(c.recomputed[row, s])),
                        _up(top * float(c.end[row, s])),
                    )
                    for s in range(stages)
                ),
                sum_layer=_up(rest * float(c.layer[row, 0])),
                sum_recomputed=_up(rest * float(c.recomputed[row, 0])),
                sum_end=_up(rest * float(c.end[row, :stages].sum())),
            )
        )
    return tuple(out)


def widest_range(tables: Tables) -> int:
    """The largest |coefficient| * (upper - lower) sum over all linear constraints the solver will be given."""
    most, widest = tables.max_layers, tables.capacity + tables.headroom
    for row in tables.rows:
        for stage in range(row.stages):
            layers = 0 if row.fixed_layers is not None else most
            levels = max(row.fixed_layers) if row.fixed_layers is not None else most
            for line in row.memory[stage]:
                widest = max(widest, abs(line.layer) * layers + abs(line.recomputed) * levels + tables.capacity)
            for visit in row.visits:
                line = visit.stages[stage]
                widest = max(widest, line.layer * layers + line.recomputed * levels + tables.time_limit)
        for visit in row.visits:
            total = visit.sum_layer * tables.total_layers + visit.sum_recomputed * tables.total_layers
            widest = max(widest, total + 4 * tables.time_limit)
    return widest
