"""Data parallelism, ZeRO stages, and how the global batch is cut into micro-batches."""

from __future__ import annotations

import numpy as np

from planner.axes.rule import Mask, Rule, choose, divisors
from planner.layouts import Layouts
from planner.problem import Problem


def micro_batch_candidates(problem: Problem, global_batch_size: int) -> list[int]:
    """Micro-batch sizes tried: divisors of the global batch up to the limit of the scenario."""
    limit = problem.scenario.limits.max_sequences_per_micro_batch
    return choose(problem.scenario.batch.micro_batch_size, divisors(global_batch_size, limit))


def zero_candidates(problem: Problem) -> list[int]:
    """ZeRO stages tried: those the engine offers."""
    return choose(problem.scenario.layout.zero_stage, sorted(problem.engine.zero_stages))


def _supported(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray((layouts.data_parallel == 1) | problem.engine.data_parallel)


def _chosen(problem: Problem, layouts: Layouts) -> Mask:
    values = np.unique(layouts.data_parallel).tolist()
    return np.isin(layouts.data_parallel, choose(problem.scenario.layout.data_parallel, values))


def _zero(problem: Problem, layouts: Layouts) -> Mask:
    return np.isin(layouts.zero_stage, problem.engine.zero_stages)


def _batch(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(layouts.num_micro_batches >= 1)


RULES = (
    Rule("data_parallel_supported", "the engine has data parallelism", _supported),
    Rule("data_parallel_chosen", "data_parallel is what the scenario asks for", _chosen),
    Rule("zero_stage_offered", "the engine offers this ZeRO stage", _zero),
    Rule(
        "batch_divides",
        "global_batch_size is a multiple of micro_batch_size * data_parallel",
        _batch,
        "Megatron-LM core/num_microbatches_calculator.py:381-391; DeepSpeed and torchtitan alike",
    ),
)
ENGINE_RULES: tuple[Rule, ...] = ()
