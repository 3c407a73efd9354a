"""Pipeline parallelism and its interleaved schedule."""

from __future__ import annotations

import numpy as np

from planner.axes.rule import Mask, Rule, choose, divisors
from planner.layouts import Layouts
from planner.problem import Problem


def candidates(problem: Problem, num_gpus: int) -> list[int]:
    """Degrees tried: divisors of the GPU count up to the number of layers."""
    usual = divisors(num_gpus, problem.architecture.num_hidden_layers) if problem.engine.pipeline.supported else [1]
    return choose(problem.scenario.layout.pipeline_parallel, usual)


def virtual_candidates(problem: Problem) -> list[int]:
    """Chunks a stage tried: divisors of the layer count up to 16."""
    usual = divisors(problem.architecture.num_hidden_layers, 16) if problem.engine.pipeline.virtual else [1]
    return choose(problem.scenario.layout.virtual_pipeline, usual)


def _supported(problem: Problem, layouts: Layouts) -> Mask:
    pipeline = problem.engine.pipeline
    plain = (layouts.pipeline_parallel == 1) | pipeline.supported
    return np.asarray(plain & ((layouts.virtual_pipeline == 1) | pipeline.virtual))


def _enough_layers(problem: Problem, layouts: Layouts) -> Mask:
    chunks = layouts.pipeline_parallel * layouts.virtual_pipeline
    return np.asarray(problem.architecture.num_hidden_layers >= chunks)


def _layers(problem: Problem, layouts: Layouts) -> Mask:
    spec = problem.scenario.layout.layers_per_stage
    chunks = layouts.pipeline_parallel * layouts.virtual_pipeline
    layers = problem.architecture.num_hidden_layers
    if spec == "even":
        return np.asarray(layers % chunks == 0)
    if spec == "free":
        return np.asarray((layouts.virtual_pipeline == 1) | (layers % layouts.virtual_pipeline == 0))
    fits = (sum(spec) == layers) & (layouts.pipeline_parallel == len(spec))
    whole = layouts.virtual_pipeline == 1
    for count in spec:
        whole = whole | (count % layouts.virtual_pipeline == 0)
    return np.asarray(fits & whole)


def _schedule(problem: Problem, layouts: Layouts) -> Mask:
    p, m = layouts.pipeline_parallel, layouts.num_micro_batches
    rest = m % p
    return np.asarray((layouts.virtual_pipeline == 1) | ((p > 1) & (m >= p) & (rest == 0)))


def _named_schedule(problem: Problem, layouts: Layouts) -> Mask:
    name, v = problem.scenario.layout.schedule, layouts.virtual_pipeline
    if name is None:
        return np.ones(len(layouts), dtype=bool)
    return np.asarray(v > 1 if name == "interleaved" else v == 1)


def _leading_dense(problem: Problem, layouts: Layouts) -> Mask:
    dense = problem.parameters.num_dense_layers if problem.architecture.is_moe else 0
    spec = problem.scenario.layout.layers_per_stage
    if spec == "free":
        # Every split the solver may choose keeps to this; here only that one exists.
        return np.asarray(problem.architecture.num_hidden_layers - (layouts.pipeline_parallel - 1) >= dense)
    first = spec[0] if isinstance(spec, list) else problem.architecture.num_hidden_layers // layouts.pipeline_parallel
    return np.asarray(first >= dense) & np.ones(len(layouts), dtype=bool)


RULES = (
    Rule(
        "pipeline_supported", "the engine has pipeline parallelism (and interleaving where it is asked for)", _supported
    ),
    Rule(
        "schedule_chosen",
        "layout.schedule interleaved has several chunks a stage, 1f1b and zb-h1 have one",
        _named_schedule,
        "arXiv:2104.04473; arXiv:2401.10241",
    ),
    Rule("enough_layers", "every stage and chunk has at least one layer", _enough_layers),
    Rule("leading_dense_layers", "the first stage holds all leading dense layers", _leading_dense),
    Rule(
        "layers_divide_pipeline",
        "layers divide evenly over stages and chunks, unless layers_per_stage says otherwise",
        _layers,
        "Megatron-LM megatron/training/arguments.py:934-963",
    ),
)
ENGINE_RULES = (
    Rule(
        "virtual_pipeline_schedule",
        "interleaving needs pipeline_parallel > 1 and micro-batches in multiples of pipeline_parallel",
        _schedule,
        "Megatron-LM core/pipeline_parallel/schedules.py:1132-1153",
    ),
)
