"""The proof that refuses a broken solver, safe ranges of every linear constraint, and each constraint group alone."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ortools.sat.python import cp_model

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.errors import InternalError
from planner.inputs.document import load, parse_document
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.search.grid import MEMORY_UNITS, Rounded
from planner.search.prune import prune, row_bounds
from planner.search.search import search
from planner.search.solver import constraints
from planner.search.solver.model import Model, declare
from planner.search.solver.objective import PACK, first_goals, last_goals
from planner.search.solver.selftest import TRUTH, proved_minimum, refuse_broken_solver
from planner.search.solver.solve import solve
from planner.search.space import build_space
from planner.search.tables import (
    SAFE_RANGE,
    Line,
    RangeTooWide,
    RolloutChoice,
    Row,
    Tables,
    Visit,
    build_tables,
    widest_range,
)

SCENARIOS = sorted(path for path in Path("scenarios").glob("*.yaml") if not path.name.startswith("budget"))
FREE = ("layout.layers_per_stage=free", "layout.recompute=per_stage")
NARROW = ("layout.tensor_parallel=[4, 8]", "layout.context_parallel=1")
"""Fewer layouts, where the solver's answer is what is asked about."""


def test_installed_solver_passes_the_proof() -> None:
    refuse_broken_solver(cp_model)
    assert proved_minimum(cp_model) == TRUTH


def test_an_interrupt_still_reaches_us_after_the_proof() -> None:
    """The solver's own handler, once set, leaves none behind: the command would die without a word.

    Python's handler is set here: under a shell's `&` or nohup a process starts with interrupts ignored, and has none.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        refuse_broken_solver(cp_model)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("wrong", [19_196_559_360, TRUTH - 1, TRUTH + 1, 0])
def test_solver_that_proves_a_wrong_minimum_is_refused(wrong: int) -> None:
    """OR-Tools 9.15 proves 19,196,559,360 where 17,219,174,400 is the least."""

    class Broken(cp_model.CpSolver):
        @property
        def objective_value(self) -> float:
            return float(wrong)

    stub = SimpleNamespace(CpModel=cp_model.CpModel, CpSolver=Broken)
    with pytest.raises(InternalError, match="install a release that passes"):
        refuse_broken_solver(stub)


def test_refused_solver_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.search.solver.selftest.TRUTH", TRUTH + 1)
    with pytest.raises(InternalError, match="OR-Tools proves"):
        solve(three_rows(), time_limit_s=5, seed=0, workers=1)


def tables_of(question: Question) -> Tables | None:
    space = build_space(question)
    costs = RowCosts(question, space.layouts)
    rollouts = RolloutTable(question, space.rollouts) if space.rollouts is not None else None
    for unit in MEMORY_UNITS:
        rounded = Rounded(costs, rollouts, 1.0, unit)
        bounds = row_bounds(question, rounded)
        left = prune(question, costs, rollouts, bounds, frozenset())
        if left.wish is None:
            return None
        try:
            return build_tables(question, rounded, left.rows, bounds.bound, left.choices, left.longest_seconds)[0]
        except RangeTooWide:
            continue
    raise AssertionError("no unit of memory keeps the ranges safe")


def ranges(model: Model) -> int:
    """The widest sum of |coefficient| * (upper - lower) of what CP-SAT is really given, objective included."""
    proto = model.cp.proto
    reach = [v.domain[-1] - v.domain[0] for v in proto.variables]
    linear = [c.linear for c in proto.constraints if c.HasField("linear")]
    widest = max(sum(abs(k) * reach[v] for v, k in zip(row.vars, row.coeffs, strict=True)) for row in linear)
    goal = proto.objective
    return max(widest, sum(abs(k) * reach[v] for v, k in zip(goal.vars, goal.coeffs, strict=True)))


def built(tables: Tables) -> tuple[Model, list[Any]]:
    model = declare(cp_model, tables)
    for group in constraints.GROUPS:
        group(model)
    return model, [*first_goals(model), *last_goals(model)]


DEEPSEEK = ("model=deepseek-v3", "cluster.num_gpus=1024")
LARGE = (
    ("scenarios/llama405b_16384xh100.yaml", ("cluster.num_gpus=131072", "batch.global_batch_size=16384", *FREE)),
    ("scenarios/llama405b_16384xh100.yaml", ("search.near_tie=0.19", "layout.tensor_parallel=8", *FREE)),
    ("scenarios/gpt3_175b_1024xa100.yaml", ("search.near_tie=0.1", "layout.tensor_parallel=8", *FREE)),
    ("scenarios/mixtral8x7b_64xh100.yaml", (*DEEPSEEK, "layout.tensor_parallel=8", *FREE)),
    ("scenarios/mixtral8x7b_64xh100.yaml", (*DEEPSEEK, "layout.tensor_parallel=1", *FREE)),
    ("scenarios/qwen7b_rl.yaml", ("cluster.max_gpus=32", "layout.tensor_parallel=4", FREE[0])),
)
"""With degrees that leave ranges as wide as any others do, 2^31.8 to 2^32.9: the rest only takes longer to bound."""


@pytest.mark.parametrize(
    ("path", "overrides"),
    [pytest.param(str(path), (), id=path.stem) for path in SCENARIOS]
    + [pytest.param(path, changes, id=f"large-{place}") for place, (path, changes) in enumerate(LARGE)],
)
def test_every_linear_range_is_safe(path: str, overrides: tuple[str, ...]) -> None:
    question = question_of(load(path, overrides))
    tables = tables_of(question)
    if tables is None:
        outcome = search(question)
        nothing = outcome.status == "infeasible" or outcome.usual_headroom_gib is not None
        assert nothing, "nothing is left for the solver where nothing fits, and only there"
        tables = tables_of(outcome.question)
        if tables is None:
            return
    model, ordered = built(tables)
    assert ranges(model) <= widest_range(tables) < SAFE_RANGE
    for goal in ordered[1:]:
        model.cp.minimize(goal.expression)
        assert ranges(model) <= max(widest_range(tables), PACK)


def test_too_wide_a_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    question = question_of(load("scenarios/llama70b_64xh100.yaml", ["layout.tensor_parallel=8"]))
    monkeypatch.setattr("planner.search.tables.SAFE_RANGE", 2**20)
    with pytest.raises(RangeTooWide, match="2\\^33"):
        search(question)


def three_rows(**changes: Any) -> Tables:
    """Eight layers on two stages, on one stage, and on three; the second stage of the first row must recompute."""

    def row(index: int, stages: int, layer: int, **more: Any) -> Row:
        line = Line(layer=10, recomputed=-6, end=5)
        visit = Visit("train", (Line(layer, 20, 3),) * stages, (1,) * stages, (1,) * stages, 2)
        fixed: dict[str, Any] = {
            "index": index, "key": 7, "stages": stages, "chunks": 1, "first_layers": 1, "fixed_layers": None,
            "layer_step": 1, "levels": tuple(range(9)), "whole_levels": None, "every_layer": False,
            "memory": ((line,),) * stages, "visits": (visit,), "least_time": 0,
            "simplicity": stages, "rank": index,
        }  # fmt: skip
        return Row(**(fixed | more))

    tables = Tables(
        rows=(row(0, 2, 100), row(1, 1, 60), row(2, 3, 90)),
        choices=(),
        capacity=60,
        headroom=4,
        headroom_step=1,
        total_layers=8,
        even_middle=False,
        uniform_recompute=False,
        recompute="levels",
        max_layers=8,
        time_limit=4000,
        near_tie=0.0,
        prefers_even=False,
        memory_unit_bytes=1024.0,
        time_unit_seconds=1.0,
    )
    return replace(tables, **changes)


def solved(groups: list[Callable[[Model], None]], tables: Tables, force: Callable[[Model], None] | None = None) -> Any:
    """(status, model, solver) with only these groups; `force` adds what the test asks about."""
    model = declare(cp_model, tables)
    for group in groups:
        group(model)
    if force is not None:
        force(model)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    return solver.status_name(solver.solve(model.cp)), model, solver


def holds(groups: list[Callable[[Model], None]], tables: Tables, force: Callable[[Model], None]) -> bool:
    return bool(solved(groups, tables, force)[0] in ("OPTIMAL", "FEASIBLE"))


def at(layers: tuple[int, ...], recomputed: tuple[int, ...] = (), row: int | None = None) -> Callable[[Model], None]:
    def force(model: Model) -> None:
        for variable, value in zip(model.layers, layers, strict=False):
            model.cp.add(variable == value)
        for variable, value in zip(model.recomputed, recomputed, strict=False):
            model.cp.add(variable == value)
        if row is not None:
            model.cp.add(model.picked[row] == 1)

    return force


def test_choose_one_row() -> None:
    _, model, solver = solved([constraints.choose_one_row], three_rows())
    assert sum(solver.value(pick) for pick in model.picked) == 1
    both = holds([constraints.choose_one_row], three_rows(), lambda m: m.cp.add(m.picked[0] + m.picked[1] == 2))
    assert not both


def test_link_rollouts() -> None:
    choices = (RolloutChoice(0, 7, 10, 5, 0, 0), RolloutChoice(1, 8, 10, 5, 0, 1))
    groups = [constraints.choose_one_row, constraints.link_rollouts]
    tables = three_rows(choices=choices)
    assert holds(groups, tables, lambda m: m.cp.add(m.chosen[0] == 1))
    assert not holds(groups, tables, lambda m: m.cp.add(m.chosen[1] == 1)), "no row has that choice's GPUs and wishes"


def test_split_layers() -> None:
    groups = [constraints.choose_one_row, constraints.split_layers]
    assert holds(groups, three_rows(), at((3, 5, 0), row=0))
    assert not holds(groups, three_rows(), at((3, 4, 0), row=0)), "seven layers are not eight"
    assert not holds(groups, three_rows(), at((3, 4, 1), row=0)), "two stages have no third one"
    assert not holds(groups, three_rows(), at((8, 0, 0), row=0)), "no stage is empty"
    rows = three_rows().rows
    dense = three_rows(rows=(replace(rows[0], first_layers=3), *rows[1:]))
    assert not holds(groups, dense, at((2, 6, 0), row=0)), "leading dense layers stay on the first stage"
    chunks = three_rows(rows=(replace(rows[0], chunks=2, layer_step=2), *rows[1:]))
    assert holds(groups, chunks, at((2, 6, 0), row=0))
    assert not holds(groups, chunks, at((3, 5, 0), row=0)), "chunks are whole"
    listed = three_rows(rows=(replace(rows[0], fixed_layers=(3, 5)), *rows[1:]))
    assert not holds(groups, listed, at((4, 4, 0), row=0))


def test_mark_uneven() -> None:
    groups = [constraints.choose_one_row, constraints.split_layers, constraints.mark_uneven]

    def even(layers: tuple[int, ...]) -> Callable[[Model], None]:
        return lambda m: (at(layers, row=0)(m), m.cp.add(m.uneven == 0))[0]

    assert holds(groups, three_rows(), even((4, 4, 0)))
    assert not holds(groups, three_rows(), even((3, 5, 0)))
    rows = three_rows().rows
    listed = three_rows(rows=(replace(rows[0], fixed_layers=(3, 5)),))
    assert not holds(groups, listed, even((3, 5, 0)))


EVERY = (-1,)
"""Stands for a row of which every layer is recomputed."""


@pytest.mark.parametrize(
    ("changes", "levels", "allowed", "refused"),
    [
        ({}, None, [(0, 0), (3, 5), (1, 4)], [(4, 0)]),
        ({}, (0, 2), [(2, 0), (2, 2)], [(1, 0)]),
        ({"uniform_recompute": True}, None, [(3, 4), (2, 2), (3, 5)], [(1, 2), (2, 3)]),
        ({"uniform_recompute": True}, (0, 4), [(3, 4), (0, 0)], [(2, 2), (3, 5)]),
        ({}, EVERY, [(3, 5)], [(0, 0), (3, 4)]),
        ({"recompute": "whole"}, None, [(0, 5), (3, 0), (3, 5), (0, 0)], [(1, 0), (3, 4)]),
        ({"recompute": "whole"}, (0, 3), [(3, 0), (0, 0)], [(0, 5), (3, 5)]),
        ({"recompute": "whole"}, (3, 5), [(3, 5)], [(0, 5), (0, 0)]),
        ({"recompute": "whole", "uniform_recompute": True}, None, [(3, 5), (0, 0)], [(3, 0), (0, 5)]),
        ({"recompute": "whole", "uniform_recompute": True}, (0, 3), [(0, 0)], [(3, 5)]),
    ],
)
def test_bound_recomputation(
    changes: dict[str, Any], levels: tuple[int, ...] | None, allowed: list[Any], refused: list[Any]
) -> None:
    groups = [constraints.choose_one_row, constraints.split_layers, constraints.bound_recomputation]
    tables = three_rows(**changes)
    if levels == EVERY:
        tables = replace(tables, rows=(replace(tables.rows[0], every_layer=True),))
    elif levels is not None:
        tables = replace(tables, rows=(replace(tables.rows[0], levels=levels),))
    for counts in allowed:
        assert holds(groups, tables, at((3, 5, 0), counts, row=0)), counts
    for counts in refused:
        assert not holds(groups, tables, at((3, 5, 0), counts, row=0)), counts


def test_keep_headroom() -> None:
    """10 n - 6 r + 5 + headroom <= 60 on each stage."""
    groups = [constraints.choose_one_row, constraints.split_layers, constraints.keep_headroom]
    assert holds(groups, three_rows(), at((3, 5, 0), (0, 0), row=0))
    assert not holds(groups, three_rows(), at((2, 6, 0), (0, 1), row=0)), "65 - 6 + 4 is more than 60"
    assert holds(groups, three_rows(), at((2, 6, 0), (0, 2), row=0)), "65 - 12 + 4 is not"
    least = lambda m: (at((2, 6, 0), (0, 2), row=0)(m), m.cp.add(m.headroom >= 8))[0]  # noqa: E731
    assert not holds(groups, three_rows(), least), "53 used of 60 leaves 7"
    awake = three_rows(choices=(RolloutChoice(0, 7, 58, 5, 0, 0),))
    assert not holds(groups, awake, lambda m: m.cp.add(m.chosen[0] == 1)), "the rollout engine leaves 2 of 4"


def test_keep_headroom_only_where_recomputed() -> None:
    line = Line(layer=0, recomputed=0, end=59, only_where_recomputed=True)
    rows = three_rows().rows
    tables = three_rows(rows=(replace(rows[0], memory=((line,), (line,))),))
    groups = [constraints.choose_one_row, constraints.split_layers, constraints.keep_headroom]
    assert holds(groups, tables, at((4, 4, 0), (0, 0), row=0))
    assert not holds(groups, tables, at((4, 4, 0), (0, 1), row=0))


@pytest.mark.parametrize("group", [constraints.time_the_step, constraints.bound_the_step])
def test_time_of_the_step(group: Callable[[Model], None]) -> None:
    """Slowest stage 100 * 5 + 20 * 2 + 3 = 543, shares 8 + 2 + 2: 555; with a rollout of 45: 600."""
    rows = three_rows().rows
    tables = three_rows(rows=(replace(rows[0], least_time=555), *rows[1:]), choices=(RolloutChoice(0, 7, 1, 45, 0, 0),))
    everything = [constraints.choose_one_row, constraints.split_layers, constraints.bound_recomputation]
    groups = [*everything, constraints.time_the_step, group]
    for least, possible in ((600, True), (599, False)):
        force = lambda m, most=least: (at((3, 5, 0), (0, 2), row=0)(m), m.cp.add(m.time <= most))[0]  # noqa: E731
        assert holds(groups, tables, force) is possible
    assert rows[0].time((3, 5), (0, 2)) == 555


def test_three_rows_are_solved_in_the_order_of_goals() -> None:
    """By hand: three stages with 2, 3, 3 layers need no recomputation and are fastest; the order decides the rest."""
    answer = solve(three_rows(), time_limit_s=10, seed=0, workers=1)
    best = min(
        (row.time(n, r), -(60 - row.peak(n, r)), row.simplicity + (len(set(n)) > 1), row.rank, r, n)
        for row in three_rows().rows
        for n in points(row.stages, 8)
        for r in within(n)
        if row.peak(n, r) <= 56
    )
    assert answer.status == "optimal"
    assert (answer.time, answer.headroom) == (best[0], -best[1])
    assert (answer.row, answer.recomputed, answer.layers) == best[3:]


def points(stages: int, total: int) -> list[tuple[int, ...]]:
    if stages == 1:
        return [(total,)]
    return [(n, *rest) for n in range(1, total - stages + 2) for rest in points(stages - 1, total - n)]


def within(layers: tuple[int, ...]) -> list[tuple[int, ...]]:
    if not layers:
        return [()]
    return [(r, *rest) for r in range(layers[0] + 1) for rest in within(layers[1:])]


@pytest.mark.parametrize("limit", [1e-9, 1e-3])
def test_no_time_never_says_optimal_without_proof(limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver cut short says feasible with a gap, or unknown; what was not reached is never called optimal."""

    class Short(cp_model.CpSolver):
        def solve(self, model: Any, callback: Any = None) -> Any:
            self.parameters.max_time_in_seconds = limit
            return super().solve(model, callback)

    monkeypatch.setattr(cp_model, "CpSolver", Short)
    monkeypatch.setattr("planner.search.solver.solve.refuse_broken_solver", lambda _: None)
    changes = ("search.near_tie=0.15", "limits.headroom_gib=30", *FREE, *NARROW)
    outcome = search(question_of(load("scenarios/llama70b_64xh100.yaml", changes)), check_points=0)
    assert outcome.status in ("feasible", "unknown")
    assert (outcome.plan is None) == (outcome.status == "unknown")
    if outcome.plan is not None:
        assert outcome.proof.gap is not None
        assert outcome.proof.gap >= 0
        assert outcome.proof.bound_seconds is not None
        assert outcome.proof.bound_seconds <= outcome.plan.step_seconds


def test_proved_throughput_with_open_ties_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time runs out after the first goal: the gap is about throughput alone, and the report says what is open."""
    from planner.report.summary import proof_blocks
    from planner.search.search import how_proved
    from planner.search.solver.solve import _Run

    monkeypatch.setattr(_Run, "spent", property(lambda run: run.seconds if "time" in run.least else 0.0))
    changes = ("search.near_tie=0.15", "limits.headroom_gib=30", *NARROW)
    outcome = search(question_of(load("scenarios/llama70b_64xh100.yaml", changes)), check_points=0)
    assert (outcome.status, outcome.proof.throughput_proved, outcome.proof.gap) == ("feasible", True, 0.0)
    assert how_proved(outcome) == "throughput proved, ties not settled"
    assert any("ties not settled" in getattr(block, "text", "") for block in proof_blocks(outcome))
    assert outcome.plan is not None
    assert outcome.proof.bound_seconds is not None
    assert outcome.plan.step_seconds * (1 - 0.15) <= outcome.proof.bound_seconds * (1 + 1e-5)


SMALL = """
name: hard cases
task: pretrain
model: {model}
engine: megatron-core
cluster: {{node: hgx-h100-8, num_gpus: {gpus}}}
batch: {{global_batch_size: {batch}, sequence_length: 4096}}
"""


def outcome_of(model: str, gpus: int, batch: int, *changes: str) -> Any:
    document = parse_document(SMALL.format(model=model, gpus=gpus, batch=batch), "hard.yaml")
    from planner.inputs.document import with_overrides

    return search(question_of(with_overrides(document, changes)), check_points=60_000)


PINNED = ("layout.tensor_parallel=8", "layout.context_parallel=1", "batch.micro_batch_size=1")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("virtual pipeline with free stages", ("layout.layers_per_stage=free", "layout.virtual_pipeline=2")),
        ("listed uneven stages", ("layout.layers_per_stage=[9, 11]", "layout.pipeline_parallel=2")),
        ("all layers recomputed, free stages", ("layout.layers_per_stage=free", "layout.recomputed_layers=all")),
        ("uniform method, free stages", ("layout.layers_per_stage=free", "layout.recompute_method=uniform")),
        ("per stage, even", ("layout.recompute=per_stage",)),
        ("no near tie", ("layout.layers_per_stage=free", "search.near_tie=0")),
    ],
)
def test_decisions_of_every_kind_are_proven(name: str, changes: tuple[str, ...], tmp_path: Path) -> None:
    """Twenty layers of Llama-3.1-70B on 16 GPUs, pipeline of 2: enumerated at run time, the plan as asked for."""
    model = tmp_path / "small.yaml"
    shape = Path("catalogs/models/llama3.1-70b.yaml").read_text()
    kept = [line for line in shape.splitlines() if not line.startswith(("parameters:", "  ", "notes:"))]
    text = "\n".join(kept).replace("num_hidden_layers: 80", "num_hidden_layers: 20")
    model.write_text(text + '\n  - {ref: "cut to 20 layers by a test", date: "2026-11-21"}\n')
    changes = (*PINNED, "layout.pipeline_parallel=2", "layout.recompute=uniform", *changes)
    outcome = outcome_of(str(model), 16, 8, *changes)
    assert outcome.status == "optimal", name
    assert outcome.proof.enumerated == outcome.proof.points > 0
    plan = outcome.plan
    assert sum(plan.layers) == 20
    if "recomputed_layers=all" in changes[-1]:
        assert plan.recomputed == plan.layers
    if "uniform method" in name:
        assert plan.recomputed in ((0, 0), plan.layers)
    if "listed" in name:
        assert plan.layers == (9, 11)
    if "virtual" in name:
        assert plan.layout["virtual_pipeline"] == 2
        assert all(n >= 2 for n in plan.layers)  # each chunk holds one; they need not be equal


def test_leading_dense_layers_stay_on_the_first_stage() -> None:
    """DeepSeek-V3 has three; a listed first stage of two is refused by the rule, free stages give it three or more."""
    changes = (*PINNED, "layout.pipeline_parallel=16", "layout.expert_parallel=8", "layout.expert_tensor_parallel=1")
    free = outcome_of("deepseek-v3", 1024, 256, *changes, *FREE)
    assert free.status == "optimal"
    assert free.plan.layers[0] >= 3
    listed = "layout.layers_per_stage=[" + ", ".join(["2", "7"] + ["4"] * 10 + ["3"] * 4) + "]"
    refused = outcome_of("deepseek-v3", 1024, 256, *changes, listed)
    assert refused.status == "infeasible"
    assert "leading_dense_layers" in {removed.rule for removed in refused.proof.removed}


def test_wishes_that_nothing_grants_are_infeasible() -> None:
    changes = ("batch.sequence_length={want: 65536, allow: [65536, 32768]}", "layout.context_parallel=1")
    pinned = ("layout.tensor_parallel=1", "layout.pipeline_parallel=1", "layout.recomputed_layers=0")
    outcome = outcome_of("llama3.1-8b", 8, 8, *changes, *pinned)
    assert (outcome.status, outcome.plan, outcome.proof.bound_seconds) == ("infeasible", None, None)
