"""Rules of the search against the engines' own checks, written down apart: neither lets through what the other refuses.

Thousands of random layouts; a rule of ours that is stricter than the engine must be one of those named here, each of
which the report names as a limit of the scenario or of the planner.
"""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest
from random_problems import random_case

from planner.problem.problem import Problem
from planner.problem.stage_choices import is_free, layer_step, recompute_kind, recompute_levels
from planner.search.plan import make_plan
from planner.search.space import all_rows, build_space, rules_of
from planner.search.witness.witness import broken, refuse_unlaunchable

OURS = {
    "data_parallel_supported",
    "data_parallel_chosen",
    "rank_order_keeps_stages",
    "tensor_parallel_inside_domain",
    "expert_tensor_inside_domain",
    "sequence_parallel_chosen",
    "leading_dense_layers",
    "enough_layers",
    "schedule_chosen",
    "stages_fill_pools",
    "recomputed_layers_exist",
    "host_memory",
    "samples_divide_gpus",
    "groups_need_samples",
    "host_optimizer_has_kernel",
    "experts_cut_as_tensor",
    "expert_parallel_supported",
}
"""Rules of the scenario, of the planner's own limits, or of launchers above the training engine (accelerate exchanges
an optimizer on the host without a word: tests/engines/test_optimizers_of_deepspeed.py)."""
EACH = 40
"""Layouts drawn of each random problem."""


@cache
def problems(tenth: int) -> tuple[Problem, ...]:
    cases = (random_case(seed, most_points=3000).question() for seed in range(tenth * 10, tenth * 10 + 10))
    return tuple(variant for question in cases for variant in question.problems[:4])


def random_split(rng: random.Random, problem: Problem, stages: int, chunks: int) -> tuple[int, ...] | None:
    """Layers of stages that the search could choose; None where there is no such split."""
    total, spec = problem.architecture.num_hidden_layers, problem.scenario.layout.layers_per_stage
    if isinstance(spec, list):
        return tuple(spec) if len(spec) == stages else None
    if not is_free(problem):
        return (total // stages,) * stages if total % (stages * chunks) == 0 else None
    step = layer_step(problem, chunks)
    if total % step or total < stages * chunks:
        return None
    left = (total - stages * chunks) // step
    cuts = sorted(rng.randint(0, left) for _ in range(stages - 1))
    more = [b - a for a, b in zip([0, *cuts], [*cuts, left], strict=True)]
    return tuple(chunks + step * extra for extra in more)


def random_recomputed(
    rng: random.Random, problem: Problem, layers: tuple[int, ...], chunks: int
) -> tuple[int, ...] | None:
    """Recomputed layers that the search could choose for one split."""
    if recompute_kind(problem) == "all":
        return layers
    if problem.scenario.layout.recompute == "per_stage":
        each = [recompute_levels(problem, count, chunks) for count in layers]
        return tuple(rng.choice(levels) for levels in each) if all(each) else None
    levels = recompute_levels(problem, max(layers), chunks)
    level = rng.choice(levels) if levels else None
    return None if level is None else tuple(min(level, count) for count in layers)


@pytest.mark.parametrize("tenth", range(3))
def test_no_engine_refuses_what_the_search_may_choose(tenth: int) -> None:
    rng, seen = random.Random(tenth), 0
    for problem in problems(tenth):
        layouts = build_space(problem.alone).layouts
        for row in rng.sample(range(len(layouts)), min(EACH, len(layouts))):
            layout = layouts.row(row)
            split = random_split(rng, problem, layout["pipeline_parallel"], layout["virtual_pipeline"])
            again = random_recomputed(rng, problem, split, layout["virtual_pipeline"]) if split else None
            if split is None or again is None:
                continue
            seen += 1
            assert broken(problem, layout, split, again) == (), (layout, split, again)
    assert seen > 50


@pytest.mark.parametrize("tenth", range(3))
def test_no_rule_is_stricter_than_its_engine(tenth: int) -> None:
    """A row that a rule drops, and the engine's checks would let through, is dropped by a rule that says why."""
    rng, agreed = random.Random(tenth), 0
    for problem in problems(tenth):
        layouts = all_rows(problem, 0)
        layouts = layouts.take(layouts.data_parallel >= 1)
        drops = {
            rule.name: ~np.broadcast_to(rule.keeps(problem, layouts), (len(layouts),)) for rule in rules_of(problem)
        }
        theirs = ~np.logical_or.reduce([drops[name] for name in OURS & set(drops)])
        dropped = np.flatnonzero(theirs & np.logical_or.reduce(list(drops.values())))
        for row in rng.sample(dropped.tolist(), min(EACH, len(dropped))):
            layout = layouts.row(row)
            split = random_split(rng, problem, layout["pipeline_parallel"], layout["virtual_pipeline"])
            refused = split is None or broken(problem, layout, split, (0,) * len(split))
            assert refused, ([name for name, drop in drops.items() if drop[row]], layout, split)
            agreed += 1
    assert agreed > 20


def test_a_plan_that_its_engine_refuses_is_our_fault() -> None:
    from planner.errors import InternalError

    problem = next(p for p in problems(0) if p.engine.checked_by == "megatron")
    layouts = build_space(problem.alone).layouts
    layout = layouts.row(0)
    layers = (problem.architecture.num_hidden_layers,) * layout["pipeline_parallel"]
    plan = make_plan(problem.alone, layouts, 0, (*layers[:-1], layers[-1] + 1), (0,) * len(layers), None, None)
    with pytest.raises(InternalError, match=r"would refuse .*transformer_config.py:1935"):
        refuse_unlaunchable(plan)
