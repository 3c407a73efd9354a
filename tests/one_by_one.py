"""Every plan of a small question, costed alone from its ledgers, and the order of goals written down a second time.

No array of costs that the search or its enumeration reads is read here: a plan is made as `planner estimate` makes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from planner.problem.problem import Problem, Question
from planner.search.plan import Plan, make_plan
from planner.search.space import Space
from planner.units import GIB, MIB

MEGATRON = ("megatron-core", "megatron-core-replicated", "slime", "nemo-rl", "verl-megatron")


def splits(total: int, stages: int, chunks: int, megatron: bool) -> Iterator[tuple[int, ...]]:
    """Megatron is told the layers of every chunk; elsewhere the chunks of a stage are alike."""
    most = total - (stages - 1) * chunks
    for cuts in itertools.product(range(chunks, most + 1, 1 if megatron else chunks), repeat=stages):
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
    """Each point costed alone."""
    for row, layers, recomputed, choice in points(question, space):
        yield make_plan(question, space.layouts, row, layers, recomputed, space.rollouts, choice)


def points(question: Question, space: Space) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...], int | None]]:
    """(row, layers, recomputed layers, rollout choice) of every plan there is."""
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
        if spec == "even" or (spec == "auto" and not megatron):
            options = iter([(total // stages,) * stages])
        elif isinstance(spec, list):
            options = iter([tuple(spec)])
        for layers in options:
            if layers[0] < dense:
                continue
            for recomputed in recomputations(question.problems[layout["variant"]], layers, chunks):
                yield from ((row, layers, recomputed, choice) for choice in choices)


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
