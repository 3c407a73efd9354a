"""The solver against exhaustive enumeration, and both against an order of goals written down a second time here."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from random_problems import MODEL, Case, random_case, random_model

from planner.costs.coefficients import RowCosts
from planner.errors import InternalError
from planner.inputs.document import load, with_overrides
from planner.problem.problem import Problem, Question
from planner.problem.resolve import question_of
from planner.search.enumerate import count_points
from planner.search.grid import MEMORY_UNITS, STAGE_SLACK_BYTES, Rounded
from planner.search.plan import Plan, make_plan
from planner.search.search import Outcome, search
from planner.search.space import Space, build_space
from planner.units import GIB, MIB

SEEDS = 100
MEGATRON = ("megatron-core", "megatron-core-replicated", "slime")
BESIDE = ("engine_options", "layout.recompute_group")
SEVERAL = range(SEEDS // 10)
"""Tenths of the seeds: one test each, so that a failure names few problems."""


@cache
def problem_of_seed(seed: int, most_points: int = 3000) -> Case:
    return random_case(seed, most_points=most_points)


def equals_enumeration(case: Case) -> Outcome:
    """The answer, of which the search itself has seen that every point of the space, in floats, leads to the same.

    The enumeration reads the costs that the search has worked out: they are costed once.
    """
    try:
        outcome = search(case.question(), check_points=10**9)
    except InternalError as error:
        raise AssertionError(f"{error}\n{case.text}") from error
    assert outcome.status == ("infeasible" if outcome.plan is None else "optimal"), case.text
    assert outcome.proof.enumerated == outcome.proof.points, case.text
    assert not outcome.proof.decided_by_rounding, f"{case.text}\n{outcome.plan}"
    return outcome


@pytest.mark.parametrize("tenth", SEVERAL)
def test_solver_equals_float_enumeration(tenth: int) -> None:
    for seed in range(tenth * 10, tenth * 10 + 10):
        equals_enumeration(problem_of_seed(seed))


def test_corpus_covers_every_kind_of_decision() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        case = problem_of_seed(seed)
        question, layout = case.question(), case.scenario["layout"]
        spec, variants = question.scenario, question.problems
        seen[str(spec.task)] += 1
        seen["experts" if case.model.get("num_experts") else "dense"] += 1
        seen["leading dense layers"] += bool(case.model.get("first_k_dense_replace"))
        seen[f"layers {layout['layers_per_stage'] if isinstance(layout['layers_per_stage'], str) else 'listed'}"] += 1
        seen[f"recompute {spec.layout.recompute}"] += 1
        seen[f"method {spec.layout.recompute_method}"] += 1
        seen["recomputed all"] += spec.layout.recomputed_layers == "all"
        seen["wish"] += len(question.wishes) > 1
        seen["several node counts"] += len(question.first.num_gpus) > 1
        seen["virtual pipeline"] += spec.layout.virtual_pipeline != 1
        seen["offload"] += bool(spec.layout.optimizer_offload)
        opened = {path for variant in variants for path, _ in variant.settings}
        for path in opened - {path for path in opened if path.startswith(BESIDE)}:
            seen[f"open {path}"] += 1
        seen["open options or groups of recomputed layers"] += any(path.startswith(BESIDE) for path in opened)
        seen["GPUs that only generate"] += any(not variant.colocated for variant in variants)
        seen["adapter"] += spec.adapter is not None
        seen["no near tie"] += spec.search.near_tie == 0
    least = {kind: number for kind, number in seen.items() if number < 2}
    assert not least, f"too few problems of some kinds: {least}"
    assert len(seen) == 35


def test_samples_are_packed_only_where_ranks_share_the_batch() -> None:
    """64 samples on 12 GPUs: slime's Megatron refuses three ranks, although each could pack its share."""
    outcome = search(random_case(401700, most_points=20_000).question(), check_points=10**9)
    assert outcome.plan is not None
    assert outcome.plan.layout["global_batch_size"] % outcome.plan.layout["data_parallel"] == 0


def test_listed_ends_with_fewer_layers_than_chunks_are_not_taken_for_too_small() -> None:
    """Two stages of one layer and two chunks each, embedding and loss alone: the faster plan once was pruned."""
    case = random_case(400143, most_points=20_000)
    in_chunks = {**case.scenario, "layout": {**case.scenario["layout"], "virtual_pipeline": 2}}
    outcome = search(replace(case, scenario=in_chunks).question(), check_points=10**9)
    assert outcome.plan is not None
    assert outcome.plan.layers == (1, 1)


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_integers_are_never_below_floats_and_close_above(seed: int) -> None:
    questions = (problem_of_seed(at).question() for at in itertools.count(seed))
    question, space = next((p, s) for p in questions if len((s := build_space(p)).layouts))
    costs = RowCosts(question, space.layouts)
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(space.layouts), 200)
    stages = space.layouts.pipeline_parallel[rows][:, None]
    exists = np.arange(costs.stages)[None, :] < stages
    layers = rng.integers(1, question.architecture.num_hidden_layers + 1, exists.shape) * exists
    recomputed = rng.integers(0, layers + 1)
    for unit in MEMORY_UNITS:
        above = Rounded(costs, None, 1.0, unit).peak(rows, layers, recomputed) * unit
        above = above - costs.peak_bytes(rows, layers, recomputed)
        assert above.min() >= -1e-3
        assert above.max() <= STAGE_SLACK_BYTES
        # one item, one layer: every coefficient by itself
    for name, c in costs.memory.items():
        whole = Rounded(costs, None, 1.0, MEMORY_UNITS[0]).memory[name]
        for exact, rounded in ((c.layer, whole.layer), (c.recomputed, whole.recomputed), (c.end, whole.end)):
            excess = rounded * MEMORY_UNITS[0] - exact
            assert excess.min() >= 0
            assert excess.max() < MIB


# The order of goals once more, from the architecture page alone: plans are costed one by one from the ledgers.


def splits(total: int, stages: int, chunks: int, megatron: bool) -> Iterator[tuple[int, ...]]:
    """Megatron is told the layers of every chunk; elsewhere the chunks of a stage are alike."""
    for cuts in itertools.product(range(chunks, total + 1, 1 if megatron else chunks), repeat=stages):
        if sum(cuts) == total:
            yield cuts


def recomputations(problem: Problem, layers: tuple[int, ...], chunks: int) -> Iterator[tuple[int, ...]]:
    spec, offered = problem.scenario.layout, problem.engine.recompute
    alone = bool(spec.recompute_modules)  # Megatron: modules, or whole layers
    whole_stages = not offered.partial or spec.recompute_method == "uniform"
    named = spec.recomputed_layers

    def allowed(number: int, of: int) -> bool:
        if named == "all":
            return number == of
        if isinstance(named, list):
            inside = number in named
        elif isinstance(named, int):
            inside = number == named
        elif named == "any":
            inside = True
        else:
            inside = (named.min or 0) <= number <= (named.max or of)
        if (alone and number) or (offered.per_chunk and not whole_stages and number % chunks and number != of):
            return False
        return inside and (number in (0, of) or not whole_stages)

    if spec.recompute == "per_stage" or named == "all":
        yield from (
            counts
            for counts in itertools.product(*(range(n + 1) for n in layers))
            if all(allowed(r, n) for r, n in zip(counts, layers, strict=True))
        )
        return
    for level in range(max(layers) + 1):
        if allowed(level, max(layers)):
            yield tuple(min(level, n) for n in layers)


def plans(question: Question, space: Space) -> Iterator[Plan]:
    total, spec = question.architecture.num_hidden_layers, question.scenario.layout.layers_per_stage
    dense = question.architecture.first_k_dense_replace if question.architecture.is_moe else 0
    choices: list[int | None] = [None]
    for row in range(len(space.layouts)):
        layout = space.layouts.row(row)
        stages, chunks = layout["pipeline_parallel"], layout["virtual_pipeline"]
        if space.rollouts is not None:
            of = (space.rollouts.training_gpus == layout["num_gpus"]) & (space.rollouts.wish == layout["wish"])
            of &= space.rollouts.variant == layout["variant"]
            choices = [int(j) for j in np.flatnonzero(of)]
        megatron = question.first.engine.id in MEGATRON
        options = splits(total, stages, chunks, megatron)
        if spec == "even" or (spec == "auto" and not megatron and question.first.engine.id != "torchtitan"):
            options = iter([(total // stages,) * stages])
        elif isinstance(spec, list):
            options = iter([tuple(spec)])
        for layers in options:
            if layers[0] < dense:
                continue
            for recomputed in recomputations(question.problems[layout["variant"]], layers, chunks):
                for choice in choices:
                    yield make_plan(question, space.layouts, row, layers, recomputed, space.rollouts, choice)


def simplicity(plan: Plan) -> int:
    layout = plan.layout
    axes = ("tensor_parallel", "pipeline_parallel", "data_parallel", "context_parallel", "expert_parallel")
    extras = (layout["context_parallel"] > 1, layout["virtual_pipeline"] > 1, len(set(plan.layers)) > 1)
    spec = plan.problem.scenario.layout
    more = (spec.optimizer_offload, spec.activation_offload, spec.recompute_modules, spec.schedule == "zb-h1")
    return sum(layout[axis] > 1 for axis in axes) + sum(extras) + sum(map(bool, more))


def spare_gib(plan: Plan) -> float:
    """The least that any phase leaves of what its machines may hold."""
    problem, stages = plan.problem, plan.layout["pipeline_parallel"]
    first = stages if problem.later is None else stages * problem.first_gpus // plan.layout["num_gpus"]

    def limit(stage: int | None) -> float:
        there = problem.generating if stage is None else problem if stage < first else problem.later or problem
        return there.usable_gib - there.headroom_gib

    return min(limit(phase.stage) - phase.total_gib for phase in plan.memory)


def key(plan: Plan) -> tuple[object, ...]:
    """Headroom in steps of 16 MiB, simplicity, and the smallest tuple."""
    lay = plan.layout
    axes = ("tensor_parallel", "pipeline_parallel", "context_parallel", "expert_parallel", "data_parallel")
    order = (*(lay[axis] for axis in axes), lay["virtual_pipeline"], lay["micro_batch_size"])
    rest = (lay["expert_tensor_parallel"], lay["zero_stage"], lay["variant"], plan.recomputed, plan.layers)
    rollout: tuple[float, ...] = ()
    if plan.rollout is not None:
        r = plan.rollout
        rollout = (r.tensor_parallel, -r.gpu_memory_utilization, -(r.max_concurrency or 10**6), r.num_gpus)
    return (-int(spare_gib(plan) * GIB // (16 * MIB)), simplicity(plan), order, rest, rollout)


def best_plan(question: Question, every: Sequence[Plan]) -> Plan | None:
    fit = [plan for plan in every if spare_gib(plan) >= 0]
    if not fit:
        return None
    granted = min(plan.layout["wish"] for plan in fit)
    fit = [plan for plan in fit if plan.layout["wish"] == granted]
    fastest = max(plan.samples_per_second for plan in fit)
    near = [p for p in fit if p.samples_per_second >= fastest * (1 - question.scenario.search.near_tie) * (1 - 1e-12)]
    even = [plan for plan in near if len(set(plan.layers)) == 1]
    wanted = question.scenario.layout.layers_per_stage == "auto" and even
    return min(even if wanted else near, key=key)


@pytest.mark.parametrize("seed", range(500, 514))
def test_plan_is_first_in_an_independent_order_of_goals(seed: int) -> None:
    case = random_case(seed, most_points=120)
    outcome = search(case.question(), check_points=0)
    every = list(plans(outcome.question, build_space(outcome.question)))
    assert len(every) == outcome.proof.points, case.text
    mine, found = best_plan(outcome.question, every), outcome.plan
    assert (mine is None) == (found is None), case.text
    if mine is not None and found is not None:
        assert (mine.layout, mine.layers, mine.recomputed) == (found.layout, found.layers, found.recomputed), case.text
        assert mine.rollout == found.rollout, case.text


def test_wishes_are_given_up_by_the_playbook() -> None:
    """Fewest given up first; among equals the wish that stands first in the playbook goes first."""
    for seed in range(40):
        question = problem_of_seed(seed).question()
        given = [wish.given_up for wish in question.wishes]
        assert given[0] == ()
        assert [len(names) for names in given] == sorted(len(names) for names in given)
        playbook = question.scenario.playbook or []
        single = [names[0] for names in given if len(names) == 1]
        places = [playbook.index(name) for name in dict.fromkeys(single) if name in playbook]
        assert places == sorted(places)


def test_rounding_that_excludes_a_layout_is_counted_and_said() -> None:
    """Capacity is set to a layout's float peak: it fits in floats, not in integers, and the proof says so."""
    case = Case(
        0,
        {
            "name": "edge",
            "task": "pretrain",
            "model": MODEL,
            "engine": "transformers",
            "cluster": {"node": "hgx-h100-8", "num_gpus": 1, "usable_gib": 70.0},
            "limits": {"headroom_gib": 0.0, "reserved_cliff": False},
            "batch": {"global_batch_size": 1, "sequence_length": 1024, "micro_batch_size": 1},
            "layout": {"recomputed_layers": 0},
        },
        random_model(random.Random(0), large=False)
        | {"num_hidden_layers": 3, "vocab_size": 50257, "intermediate_size": 2731},
        1,
    )
    plan = search(case.question()).plan
    assert plan is not None
    live = plan.usable_gib - plan.live_room_gib
    case.scenario["cluster"]["usable_gib"] = live + 1 / GIB
    outcome = search(case.question())
    assert (outcome.status, outcome.proof.rounding_only) == ("infeasible", 1)
    assert outcome.proof.decided_by_rounding
    case.scenario["cluster"]["usable_gib"] = live + STAGE_SLACK_BYTES / GIB
    assert search(case.question()).status == "optimal"


SCENARIOS = sorted(path for path in Path("scenarios").glob("*.yaml") if not path.name.startswith("budget"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_shipped_scenarios_equal_enumeration(path: Path) -> None:
    """All points of each scenario; of one with more than a million, all with even stages."""
    document = load(str(path))
    space = build_space(question_of(document))
    if count_points(question_of(document), RowCosts(question_of(document), space.layouts), None) > 10**6:
        document = with_overrides(document, ["layout.layers_per_stage=even", "layout.recompute=uniform"])
    outcome = search(question_of(document), check_points=10**7)
    assert outcome.status in ("optimal", "infeasible")
    assert outcome.proof.enumerated == outcome.proof.points > 0
    assert not outcome.proof.decided_by_rounding


@pytest.mark.parametrize("tenth", range(3))
def test_wide_bands_pruned_by_headroom_equal_float_enumeration(tenth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans within 19 % of the fastest, and no row spared because there are few."""
    monkeypatch.setattr("planner.search.bounds.headroom.MANY", 0)
    for seed in range(700 + tenth * 10, 700 + tenth * 10 + 10):
        case = random_case(seed, most_points=3000)
        case.scenario["search"]["near_tie"] = 0.19
        equals_enumeration(case)


@pytest.mark.parametrize("seed", [5344, 5365])
def test_of_rows_that_wait_for_the_same_rollout_those_that_cannot_win_are_dropped(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All as fast as the rollout lets them: only headroom tells them apart, and the plan is that of enumeration."""
    monkeypatch.setattr("planner.search.bounds.headroom.MANY", 0)
    case = random_case(seed, most_points=6000)
    case.scenario["search"]["near_tie"] = 0.19
    outcome = equals_enumeration(case)
    monkeypatch.setattr("planner.search.prune.RolloutPairs.waiting", lambda *_: None)
    assert search(case.question(), check_points=0).proof.solver_rows > outcome.proof.solver_rows
