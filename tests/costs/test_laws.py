"""Laws that every layout keeps, whatever its numbers: sharding, recomputation, ledgers, links, bubbles."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from random_problems import random_case

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.costs.ledger import total
from planner.costs.memory.leading import LEADING_REBUILT
from planner.costs.memory.stage_memory import StageMemory, moments
from planner.costs.time.step_items import step_items
from planner.costs.time.step_time import StepTime
from planner.costs.two_pools import is_later, stage_memory
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.problem.stage_choices import even_layers
from planner.search.plan import make_plan
from planner.search.space import build_space

SEEDS = tuple(range(700, 740))
STATE = ("weights", "gradients", "optimizer", "frozen base weights")


@cache
def problem_of_seed(seed: int) -> Problem:
    """The first variant with a layout, of the case of this seed or of one a thousand further on."""
    questions = (random_case(at, most_points=20000).question() for at in itertools.count(seed, 1000))
    variants = (variant for question in questions for variant in question.problems)
    return next(variant for variant in variants if len(build_space(variant.alone).layouts))


@cache
def costs_of_seed(seed: int) -> RowCosts:
    """Of every layout of that problem."""
    problem = problem_of_seed(seed)
    return RowCosts(problem.alone, build_space(problem.alone).layouts)


def some_problem(**changes: Any) -> Problem:
    """Llama-3.1-8B on H100, unless said otherwise."""
    scenario: dict[str, Any] = {
        "name": "laws",
        "task": "pretrain",
        "model": "llama3.1-8b",
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": [8, 16, 32]},
        "batch": {"global_batch_size": 64, "sequence_length": 4096},
    } | changes
    return question_of(parse_document(str(scenario).replace("'", '"'), "laws.yaml"), default_catalog()).first


def on(problem: Problem, **changes: Any) -> Problem:
    """The problem on other machines."""
    return replace(problem, machines=replace(problem.machines, **changes))


def state_bytes(problem: Problem, layouts: Layouts) -> np.ndarray:
    """Weights, gradients and optimizer state of the fullest stage, stages even."""
    costs = RowCosts(problem.alone, layouts)
    layers = even_layers(problem, layouts, costs.stages)
    stages = np.arange(costs.stages)[None, :]
    memory = StageMemory(problem, layouts.expand(), stages, layers, layers * 0)
    whole = total([item for item in memory.state if item.name in STATE]) * costs.exists
    return np.asarray(whole.max(axis=1))


AXES = ("tensor_parallel", "pipeline_parallel", "data_parallel", "context_parallel", "expert_parallel")


@pytest.mark.parametrize("model", ["llama3.1-8b", "mixtral-8x7b", "gpt2-xl"])
@pytest.mark.parametrize("engine", ["megatron-core", "megatron-core-replicated"])
def test_more_shards_never_raise_state(model: str, engine: str) -> None:
    """Of two layouts that differ in one axis (and the GPUs it needs), the wider one keeps no more on a GPU.

    Tied embeddings are the one exception: a second stage holds a copy of them (gpt2-xl).
    """
    length = 1024 if model == "gpt2-xl" else 4096
    batch = {"global_batch_size": 64, "sequence_length": length}
    problem = some_problem(model=model, engine=engine, batch=batch, layout={"context_parallel": [1, 2, 4]})
    layouts = build_space(problem.alone).layouts
    layouts = layouts.take(layouts.micro_batch_size == 1)
    state = state_bytes(problem, layouts)
    rest = ["micro_batch_size", "zero_stage", "expert_tensor_parallel", "virtual_pipeline"]
    compared = 0
    for axis in AXES:
        if axis == "pipeline_parallel" and problem.architecture.tie_word_embeddings:
            continue
        same: dict[tuple[int, ...], list[tuple[int, float]]] = {}
        others = [name for name in (*AXES, *rest) if name != axis]
        for row, amount in enumerate(state.tolist()):
            values = layouts.row(row)
            same.setdefault(tuple(values[name] for name in others), []).append((values[axis], amount))
        for group in same.values():
            amounts = [amount for _, amount in sorted(group)]
            assert all(later <= before * (1 + 1e-12) for before, later in pairwise(amounts)), axis
            compared += len(amounts) - 1
    assert compared > 30


def test_more_gpus_never_raise_the_least_state() -> None:
    problem = some_problem(cluster={"node": "hgx-h100-8", "max_gpus": 64})
    layouts = build_space(problem.alone).layouts
    state = state_bytes(problem, layouts)
    least = [state[layouts.num_gpus == count].min() for count in sorted(set(layouts.num_gpus.tolist()))]
    assert len(least) > 6
    assert all(later <= before for before, later in pairwise(least))


def test_degree_one_equals_absent() -> None:
    """Every axis pinned to one is plain training on one GPU: no collective, no bubble, no shard."""
    ones = dict.fromkeys(AXES, 1)
    pinned = some_problem(cluster={"node": "hgx-h100-8", "num_gpus": 1}, layout=ones, model="llama3.2-1b")
    open_ = some_problem(cluster={"node": "hgx-h100-8", "num_gpus": 1}, model="llama3.2-1b")
    spaces = build_space(pinned.alone), build_space(open_.alone)
    assert spaces[0].layouts.row(0) == spaces[1].layouts.row(0)
    layers = pinned.architecture.num_hidden_layers
    plans = [make_plan(pinned.alone, s.layouts, 0, (layers,), (0,), None, None) for s in spaces]
    assert plans[0].memory == plans[1].memory
    assert plans[0].time == plans[1].time
    names = {entry.name for entry in plans[0].time}
    assert not {name for name in names if "parallel" in name or "sends" in name or "bubble" in name}
    assert "NCCL buffers" not in {item.name for phase in plans[0].memory for item in phase.items}


def by_lines(costs: RowCosts, name: str, layers: np.ndarray, recomputed: np.ndarray) -> np.ndarray:
    """A moment by its coefficients: the larger of two lines where leading layers are dense and some are recomputed."""
    first, second = costs.memory[name].at(layers, recomputed), costs.memory.get(name + LEADING_REBUILT)
    if second is None:
        return first
    return np.where(recomputed > 0, np.maximum(first, second.at(layers, recomputed)), first)


@pytest.mark.parametrize("seed", SEEDS)
def test_coefficients_are_affine_and_rise_with_layers(seed: int) -> None:
    """Memory at random n and r, evaluated by the ledgers themselves, is what the coefficients say."""
    problem, costs = problem_of_seed(seed), costs_of_seed(seed)
    layouts, rng = costs.layouts, np.random.default_rng(seed)
    stages = np.arange(costs.stages)[None, :]
    layers = rng.integers(1, 30, (len(layouts), costs.stages))
    recomputed = rng.integers(0, layers + 1)
    memory = stage_memory(problem, layouts.expand(), stages, layers, recomputed)
    limits = np.array([problem.limit_gib, (problem.later or problem).limit_gib])
    limit = limits[is_later(problem, layouts.expand(), stages).astype(int)]
    for name in moments(problem):
        by_ledger = np.broadcast_to(total(memory.ledger(name)), layers.shape)
        by_ledger = by_ledger + (problem.alone.roomiest.limit_gib - limit) * 2**30
        np.testing.assert_allclose(by_lines(costs, name, layers, recomputed), by_ledger, rtol=1e-9)
        assert costs.memory[name].layer.min() >= 0
    for coefficients, heavy, light in costs.time.values():
        assert min(coefficients.layer.min(), coefficients.recomputed.min(), heavy.min(), light.min()) >= 0
        alike = costs.exists > 0 if problem.later is None else costs.exists < 0
        same = np.ptp(np.where(alike, coefficients.layer, coefficients.layer[:, :1]), axis=1)
        assert same.max() <= 1e-12 * coefficients.layer.max(initial=1e-9), "a usual layer costs the same on all stages"


@pytest.mark.parametrize("seed", SEEDS)
def test_recomputing_more_never_raises_activations_nor_lowers_time(seed: int) -> None:
    """At the moments backward and loss a recomputed layer keeps its stub, which is less than all it kept."""
    costs = costs_of_seed(seed)
    for name in ("backward", "loss"):
        assert (costs.memory[name].recomputed * costs.exists).max() <= 0
    assert costs.time["train"][0].recomputed.min() >= 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_says_the_same_as_the_coefficients(seed: int) -> None:
    """Peak over stages and phases, sums of items, and seconds of a plan equal RowCosts, which the solver rests on."""
    problem = problem_of_seed(seed)
    space = build_space(problem.alone)
    costs, rng = costs_of_seed(seed), np.random.default_rng(seed)
    rollouts = RolloutTable(problem.alone, space.rollouts) if space.rollouts is not None else None
    if rollouts is not None and not len(rollouts.choices):
        return
    for row in rng.integers(0, len(space.layouts), 3).tolist():
        stages = int(space.layouts.pipeline_parallel[row])
        cuts = np.sort(rng.choice(np.arange(1, problem.architecture.num_hidden_layers), stages - 1, replace=False))
        layers = np.diff([0, *cuts, problem.architecture.num_hidden_layers])
        layers[0], layers[-1] = max(layers[0], problem.parameters.num_dense_layers), layers[-1]
        recomputed = rng.integers(0, layers + 1)
        choice = 0 if rollouts is not None else None
        n, r = tuple(layers.tolist()), tuple(recomputed.tolist())
        plan = make_plan(problem.alone, space.layouts, row, n, r, space.rollouts, choice)
        width = ((0, 0), (0, costs.stages - stages))
        point = np.array([row]), np.pad(layers[None], width), np.pad(recomputed[None], width)
        peak, seconds = float(costs.peak_bytes(*point)[0]), float(costs.step_seconds(*point)[0])
        if rollouts is not None:
            peak = max(peak, float(rollouts.peak_bytes[0]))
            seconds = max(seconds + float(rollouts.seconds[0]), float(rollouts.least_seconds[0]))
        spare = min(plan.machines(phase).limit_gib - phase.wanted_gib for phase in plan.memory)
        assert (problem.alone.roomiest.limit_gib - spare) * 2**30 == pytest.approx(peak, rel=1e-9)
        assert plan.step_seconds == pytest.approx(seconds, rel=1e-9)
        assert sum(amount for _, amount in plan.phases) == pytest.approx(plan.step_seconds, rel=1e-9)
        alike = problem.rollout_machines is None
        assert not alike or plan.peak_gib == pytest.approx(max(phase.total_gib for phase in plan.memory), rel=1e-9)
        for phase in plan.memory:
            assert phase.total_gib == sum(item.amount for item in phase.items)
            if not problem.architecture.first_k_dense_replace:
                assert min(item.amount for item in phase.items) > 0, phase


def test_no_item_is_negative_where_leading_dense_layers_are_recomputed() -> None:
    problem = some_problem(model="deepseek-v2-lite", layout={"pipeline_parallel": 1, "recomputed_layers": "all"})
    layers = problem.architecture.num_hidden_layers
    plan = make_plan(problem.alone, build_space(problem.alone).layouts, 0, (layers,), (layers,), None, None)
    assert min(item.amount for phase in plan.memory for item in phase.items) > 0


def step_seconds(problem: Problem, layouts: Layouts) -> np.ndarray:
    costs = RowCosts(problem.alone, layouts)
    layers = even_layers(problem, layouts, costs.stages)
    return costs.step_seconds(np.arange(len(layouts)), layers, layers * 0)


@cache
def on_slow_gpus(model: str, engine: str, *options: str) -> tuple[Problem, Layouts, np.ndarray]:
    """A problem, its layouts, and the step of each. [s]"""
    cluster = {"node": "l40s-pcie-8", "num_gpus": [4, 8, 16]}
    problem = some_problem(model=model, engine=engine, engine_options=list(options), cluster=cluster)
    layouts = build_space(problem.alone).layouts
    return problem, layouts, step_seconds(problem, layouts)


@pytest.mark.parametrize(
    ("model", "engine", "options"),
    [
        ("llama3.1-8b", "megatron-core", []),
        ("llama3.1-8b", "megatron-core", ["a2a_context_parallel"]),
        ("mixtral-8x7b", "megatron-core", ["moe_a2a_overlap"]),
        ("mixtral-8x7b", "megatron-core", ["fine_grained_offloading"]),
        ("deepseek-v2-lite", "megatron-core", []),
        ("llama3.1-8b", "torchtitan", []),
        ("mixtral-8x7b", "torchtitan", []),
        ("llama3.1-8b", "nanotron", []),
    ],
)
@pytest.mark.parametrize(
    ("field", "factor"),
    [
        ("memory_bandwidth_gb_per_s", 2.0),
        ("dense_tflops", 2.0),
        ("pcie_gb_per_s", 2.0),
        ("attention_forward_tflops", 2.0),
    ],
)
def test_a_faster_gpu_never_slows_a_layout(
    field: str, factor: float, model: str, engine: str, options: list[str]
) -> None:
    """Context and expert parallelism, pipelines and ZeRO-3 among them: no second of compute covers two collectives."""
    problem, layouts, before = on_slow_gpus(model, engine, *options)
    if problem.engine.context_parallel:
        assert (layouts.context_parallel > 1).any()
    if problem.architecture.is_moe:
        assert (layouts.expert_parallel > 1).any()
    value = getattr(problem.gpu, field)
    assert value is not None
    faster = {k: v * factor for k, v in value.items()} if isinstance(value, dict) else value * factor
    other = on(problem, gpu=problem.gpu.model_copy(update={field: faster}))
    assert (step_seconds(other, layouts) <= before * (1 + 1e-12)).all()


@cache
def layouts_of(model: str, engine: str, node: str, length: int) -> tuple[Problem, Layouts]:
    """A problem on machines without measured curves, and every layout of two cluster sizes."""
    problem = some_problem(
        model=model,
        engine=engine,
        cluster={"node": node, "num_gpus": [4, 16]},
        batch={"global_batch_size": 32, "sequence_length": length},
    )
    links = problem.node.links.model_copy(update={"measured_as": None})
    plain = on(problem, node=problem.node.model_copy(update={"links": links}), own=None)
    return plain, build_space(problem.alone).layouts


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    st.sampled_from(("llama3.1-8b", "mixtral-8x7b")),
    st.sampled_from(("megatron-core", "torchtitan")),
    st.sampled_from(("hgx-a100-4", "l40s-pcie-8", "hgx-h100-8")),
    st.sampled_from((2048, 8192)),
    st.floats(1.01, 16),
    st.booleans(),
)
@example("llama3.1-8b", "megatron-core", "hgx-a100-4", 4096, 2.0, False)
@example("llama3.1-8b", "megatron-core", "hgx-a100-4", 4096, 2.0, True)
def test_faster_links_never_slow_a_layout(
    model: str, engine: str, node: str, length: int, times: float, network: bool
) -> None:
    """NVLink and PCIe, or the network. What fits does not hang on links: so no optimum gets worse either."""
    before, after = with_faster_links(*layouts_of(model, engine, node, length), times, network)
    assert (after <= before * (1 + 1e-12)).all()
    assert (after < before).any()


def test_faster_links_never_slow_a_layout_with_leading_dense_layers() -> None:
    """They wait for launches by their own kernels; charged as layers of experts, 53 of 1,677 layouts got slower."""
    before, after = with_faster_links(*layouts_of("deepseek-v2-lite", "megatron-core", "hgx-a100-4", 2048), 2.0, False)
    assert (after <= before * (1 + 1e-12)).all()


def with_faster_links(problem: Problem, layouts: Layouts, times: float, network: bool) -> tuple[np.ndarray, np.ndarray]:
    """Step of every layout before and after. [s]"""
    if network:
        nics = problem.node.nics
        assume(nics is not None)
        rates = ("gbit_per_s_each", "gb_per_s_per_gpu")
        changed = {"nics": nics.model_copy(update={name: getattr(nics, name) * times for name in rates})}
    else:
        links = problem.node.links
        rates = ("gb_per_s_per_gpu", "gb_per_s_per_pair", "gb_per_s_per_link", "pcie_gb_per_s")
        quick = {name: value * times for name in rates if (value := getattr(links, name)) is not None}
        changed = {"links": links.model_copy(update=quick)}
    faster = on(problem, node=problem.node.model_copy(update=changed))
    return step_seconds(problem, layouts), step_seconds(faster, layouts)


def test_the_bubble_vanishes_as_micro_batches_grow() -> None:
    shares = []
    for batch in (8, 64, 512, 4096):
        problem = some_problem(
            batch={"global_batch_size": batch, "sequence_length": 4096, "micro_batch_size": 1},
            cluster={"node": "hgx-h100-8", "num_gpus": 8},
            layout={"pipeline_parallel": 8},
        )
        layouts = build_space(problem.alone).layouts.expand()
        step = StepTime(problem, layouts, np.arange(8)[None, :])
        layers = np.full((1, 8), 4)
        items, seconds = step_items(step, layers=layers, recomputed=layers * 0, stages=np.ones((1, 8)))["train"]
        assert total(items)[0] == pytest.approx(float(seconds[0]), rel=1e-12)
        bubble = next(item for item in items if item.name == "pipeline bubble")
        shares.append(float(bubble.amount[0] / seconds[0]))
    assert all(later < before / 4 for before, later in pairwise(shares))
    assert shares[0] > 0.3
    assert shares[-1] < 0.002
