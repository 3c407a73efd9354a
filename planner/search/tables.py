"""Integer coefficients for the solver: demand rounded up, capacity rounded down, every linear range checked.

Memory is in KiB or a few of them, time in a unit chosen for the instance (planner/rounding.py). The tables know nothing
of GPUs or engines; the solver reads only them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from operator import mul

import numpy as np

from planner.costs.coefficients import ONLY_WHERE_RECOMPUTED, RolloutTable, RowCosts
from planner.errors import InternalError
from planner.problem.layouts import Floats, Ints, Layouts, Rollouts
from planner.problem.problem import Question
from planner.problem.stage_choices import (
    even_layers,
    even_middle,
    is_free,
    layer_step,
    named_levels,
    prefers_even,
    recomputation,
    recompute_kind,
    recompute_levels,
)
from planner.search.deadline import NO_DEADLINE, Deadline
from planner.search.grid import Rounded, slowest_near_tie

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
    only_where_recomputed: bool = False
    """Holds only where some layer of the stage is recomputed."""

    def at(self, layers: int, recomputed: int) -> int:
        """The value for these counts."""
        if self.only_where_recomputed and not recomputed:
            return 0
        return self.layer * layers + self.recomputed * recomputed + self.end


@dataclass(frozen=True)
class Visit:
    """Time of one visit: `top` times the slowest stage is already inside `stages`, the rest is the sum over stages."""

    name: str
    stages: tuple[Line, ...]
    sum_layer: tuple[int, ...]
    """Share of the sum, of one layer of each stage; the stages agree unless they lie on two kinds of machines."""
    sum_recomputed: tuple[int, ...]
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
    """A free stage has at least so many layers."""
    layer_step: int
    """Layers of a free stage come in multiples of this."""
    first_layers: int
    """Least layers of the first stage."""
    fixed_layers: tuple[int, ...] | None
    """Layers of each stage where they are not free."""
    levels: tuple[int, ...]
    """Numbers of recomputed layers that the scenario names; with `whole`, those of which a stage may recompute all."""
    whole_levels: tuple[int, ...] | None
    """Numbers of layers of which a stage may recompute all beside `levels`, where its chunks may differ."""
    every_layer: bool
    """All layers are recomputed, whatever `levels` says."""
    memory: tuple[tuple[Line, ...], ...]
    """For each stage its lines; every one must stay within capacity less headroom."""
    visits: tuple[Visit, ...]
    least_time: int
    """No split of this row takes less, without rollout, in time units: what the closed form proves."""
    simplicity: int
    """Without what uneven stages add."""
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
            spent += sum(map(mul, visit.sum_layer, layers)) + sum(map(mul, visit.sum_recomputed, recomputed))
            spent += visit.sum_end
        return spent


@dataclass(frozen=True)
class RolloutChoice:
    """One rollout choice."""

    index: int
    key: int
    memory: int
    time: int
    """Added to the time of the training."""
    least: int
    """No step beside this choice is shorter."""
    rank: int


@dataclass(frozen=True)
class Tables:
    """Everything the solver may know."""

    rows: tuple[Row, ...]
    choices: tuple[RolloutChoice, ...]
    """Empty where there is no rollout engine."""
    capacity: int
    """Usable memory in memory units."""
    headroom: int
    """Memory units that must stay free."""
    headroom_step: int
    """What is free beyond that is compared in whole steps of so many memory units."""
    total_layers: int
    even_middle: bool
    """Only the first and the last stage may hold another number of layers than the rest."""
    uniform_recompute: bool
    """One number of recomputed layers for all stages (a stage with fewer layers recomputes all of its own)."""
    recompute: str
    """`levels`: any number that a row's levels name; `whole`: no layer of a stage or every one."""
    max_layers: int
    """Most layers of a stage of any row."""
    time_limit: int
    """No optimal step takes longer, in time units."""
    near_tie: float
    prefers_even: bool
    """Of near ties, those with as many layers on each stage come first."""
    memory_unit_bytes: float
    time_unit_seconds: float

    def near(self, least: int) -> int:
        """Longest step in time units whose throughput is within the near-tie share of the fastest one's."""
        return math.floor(slowest_near_tie(least, self.near_tie))


def row_ranks(costs: RowCosts) -> Ints:
    """Place of each row in the order of the smallest tuple."""
    lay = costs.layouts
    order = np.lexsort(
        (
            lay.variant,
            lay.zero_stage,
            lay.expert_tensor_parallel,
            lay.num_gpus,
            lay.micro_batch_size,
            lay.max_tokens,
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
    """Place of each rollout choice: smaller tensor parallelism, larger memory fraction, more requests, fewer GPUs."""
    c = table.choices
    ranks = np.empty(len(c), dtype=np.int64)
    order = np.lexsort((c.num_gpus, -c.max_concurrency, -c.gpu_memory_utilization, c.tensor_parallel))
    ranks[order] = np.arange(len(c))
    return ranks


def row_keys(layouts: Layouts) -> Ints:
    """One number for the variant, training GPUs and wishes that a row and a rollout choice must share."""
    return np.asarray((layouts.variant * 2**24 + layouts.num_gpus) * 2**24 + layouts.wish)


def choice_keys(choices: Rollouts) -> Ints:
    """The same number of each rollout choice."""
    return np.asarray((choices.variant * 2**24 + choices.training_gpus) * 2**24 + choices.wish)


class RangeTooWide(InternalError):
    """A linear range reaches SAFE_RANGE whatever the unit of time; a coarser unit of memory may help."""


class TooLate(Exception):
    """The time for tables is up."""


FEW_ROWS = 20
"""Tables of so many rows are built whatever the time."""
TABULATING = 0.85
"""Share of the time limit after which no table is worth building: a model of it is still to be built, and solved."""


def build_tables(
    question: Question,
    rounded: Rounded,
    rows: Ints,
    bounds: Floats,
    choices: Ints,
    longest_seconds: float,
    deadline: Deadline = NO_DEADLINE,
) -> tuple[Tables, Rounded]:
    """Tables of these rows and rollout choices, and the grid they are on; no optimal step is longer than given.

    `bounds` holds for each row of the space the seconds that no split of it undercuts.

    Raises RangeTooWide when a linear range reaches SAFE_RANGE, and TooLate where many rows take too long.
    """
    time_unit = longest_seconds / TIME_RANGE
    while True:
        grid = replace(rounded, time_unit_seconds=time_unit)
        built = _tables(question, grid, rows, bounds, choices, longest_seconds, deadline)
        widest = widest_range(built)
        if widest < SAFE_RANGE:
            return built, grid
        if time_unit > longest_seconds / 2**20 or _widest_memory(built) >= SAFE_RANGE:
            raise RangeTooWide(f"a linear range of {widest} reaches 2^33 even with coarse units")
        time_unit *= 2


def _tables(
    question: Question,
    rounded: Rounded,
    rows: Ints,
    bounds: Floats,
    choices: Ints,
    longest_seconds: float,
    deadline: Deadline,
) -> Tables:
    costs, spec = rounded.costs, question.scenario.layout
    lay, total_layers = costs.layouts, question.architecture.num_hidden_layers
    fixed = None if is_free(question.first) else even_layers(question.first, lay, costs.stages)
    ranks, shared = row_ranks(costs), row_keys(lay)
    dense = question.parameters.num_dense_layers if question.architecture.is_moe else 0
    kind = recomputation(question.first)
    levels: dict[tuple[int, int, int], tuple[int, ...]] = {}
    built: list[Row] = []
    for row in rows.tolist():
        if len(built) >= FEW_ROWS and deadline.past(TABULATING):
            raise TooLate
        stages = int(lay.pipeline_parallel[row])
        layers = None if fixed is None else tuple(int(n) for n in fixed[row, :stages])
        most = total_layers - (stages - 1) if layers is None else max(layers)
        variant, chunks = int(lay.variant[row]), int(lay.virtual_pipeline[row])
        mine = question.problems[variant]
        step = layer_step(mine, chunks)
        if (variant, most, chunks) not in levels:
            named = recompute_levels if kind == "levels" else named_levels
            levels[variant, most, chunks] = tuple(named(mine, most, chunks))
        apart = kind == "levels" and layers is None and step < chunks
        offered = levels[variant, most, chunks]
        built.append(
            Row(
                index=row,
                key=int(shared[row]),
                stages=stages,
                chunks=chunks,
                layer_step=step,
                first_layers=max(1, dense),
                fixed_layers=layers,
                levels=tuple(level for level in offered if level % chunks == 0) if apart else offered,
                whole_levels=named_levels(mine, most, chunks) if apart else None,
                every_layer=recompute_kind(mine) == "all",
                memory=tuple(_memory_lines(rounded, row, stage) for stage in range(stages)),
                visits=_visits(rounded, row, stages),
                least_time=math.floor(float(bounds[row]) / rounded.time_unit_seconds * (1 - 1e-9)),
                simplicity=int(costs.simplicity[row]),
                rank=int(ranks[row]),
            )
        )
    return Tables(
        rows=tuple(built),
        choices=_choices(rounded, choices),
        capacity=rounded.capacity,
        headroom=rounded.headroom,
        headroom_step=rounded.headroom_step,
        total_layers=total_layers,
        even_middle=even_middle(question.first),
        uniform_recompute=spec.recompute == "uniform",
        recompute=kind,
        max_layers=max(
            (max(r.fixed_layers) if r.fixed_layers else total_layers - r.stages + 1 for r in built), default=0
        ),
        time_limit=math.ceil(longest_seconds / rounded.time_unit_seconds) + 4 * (4 * total_layers + 4),
        near_tie=question.scenario.search.near_tie,
        prefers_even=prefers_even(question.first),
        memory_unit_bytes=rounded.memory_unit_bytes,
        time_unit_seconds=rounded.time_unit_seconds,
    )


def _choices(rounded: Rounded, choices: Ints) -> tuple[RolloutChoice, ...]:
    if rounded.rollouts is None:
        return ()
    table = rounded.rollouts.choices
    order, of_key = choice_ranks(rounded.rollouts), choice_keys(table)
    columns = (of_key, rounded.choice_memory, rounded.choice_time, rounded.choice_least, order)
    return tuple(RolloutChoice(j, *(int(column[j]) for column in columns)) for j in choices.tolist())


def _memory_lines(rounded: Rounded, row: int, stage: int) -> tuple[Line, ...]:
    """Lines of one stage, without those that another line never lets bind."""
    lines: set[Line] = set()
    conditional: set[Line] = set()
    for name, c in rounded.memory.items():
        line = Line(int(c.layer[row, stage]), int(c.recomputed[row, stage]), int(c.end[row, stage]))
        (conditional if name in ONLY_WHERE_RECOMPUTED else lines).add(line)
    always = tuple(lines)
    for line in conditional:
        # With one layer and more, and nothing recomputed, some other line is at least as high: no condition needed.
        free = any(o.layer >= line.layer and o.layer + o.end >= line.layer + line.end for o in always)
        lines.add(line if free else replace(line, only_where_recomputed=True))
    ordered = sorted(lines, key=lambda line: (line.layer, line.recomputed, line.end, line.only_where_recomputed))
    return tuple(line for line in ordered if not any(_covers(other, line) for other in ordered))


def _covers(other: Line, line: Line) -> bool:
    """Where the other line holds, this one does."""
    if other == line or (other.only_where_recomputed and not line.only_where_recomputed):
        return False
    same = (other.layer, other.recomputed, other.end) == (line.layer, line.recomputed, line.end)
    return same or (other.layer >= line.layer and other.recomputed >= line.recomputed and other.end >= line.end)


def _visits(rounded: Rounded, row: int, stages: int) -> tuple[Visit, ...]:
    out = []
    for name, visit in rounded.time.items():
        c = visit.stages
        counts = zip(c.layer[row].tolist(), c.recomputed[row].tolist(), c.end[row].tolist(), strict=True)
        out.append(
            Visit(
                name=name,
                stages=tuple(Line(*line) for line in counts)[:stages],
                sum_layer=tuple(visit.sum_layer[row, :stages].tolist()),
                sum_recomputed=tuple(visit.sum_recomputed[row, :stages].tolist()),
                sum_end=int(visit.sum_end[row]),
            )
        )
    return tuple(out)


def _widest_memory(tables: Tables) -> int:
    """The largest sum of |coefficient| * (upper - lower) over the memory constraints."""
    widest = tables.capacity
    for row in tables.rows:
        layers = 0 if row.fixed_layers is not None else tables.max_layers
        for lines in row.memory:
            for line in lines:
                reach = abs(line.layer) * layers + abs(line.recomputed) * tables.max_layers
                widest = max(widest, reach + tables.capacity - tables.headroom)
    return widest


def widest_range(tables: Tables) -> int:
    """The largest sum of |coefficient| * (upper - lower) over all linear constraints that the solver will be given."""
    most, widest = tables.max_layers, _widest_memory(tables)
    for row in tables.rows:
        layers = 0 if row.fixed_layers is not None else most
        for visit in row.visits:
            for line in visit.stages:
                reach = abs(line.layer) * layers + abs(line.recomputed) * most
                widest = max(widest, reach + tables.time_limit)
        shared = sum(max(visit.sum_recomputed) for visit in row.visits) * tables.total_layers
        if any(len(set(visit.sum_layer)) > 1 for visit in row.visits):
            shared += sum(max(visit.sum_layer) for visit in row.visits) * tables.total_layers
        widest = max(widest, shared + (len(row.visits) + 2) * tables.time_limit)
    return max(widest, len(tables.rows) ** 2, len(tables.choices) ** 2)
