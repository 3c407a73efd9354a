"""Micro-batches of the passes that take log-probabilities, where they are not those of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.problem.layouts import Layouts
from planner.problem.problem import Problem


def scored_at_once(problem: Problem, *, tokens: int, samples: int) -> float:
    """Times the tokens of a training micro-batch in one pass that takes log-probabilities.

    `tokens` is the cap up to which training packs, 0 where its micro-batches hold `samples` each.
    """
    batch, packing = problem.scenario.batch, problem.engine.packing
    if tokens:
        asked = batch.log_prob_max_tokens_per_gpu
        usual = packing.log_prob_times if packing is not None else 1
        return usual if asked is None else asked / tokens
    return 1 if batch.log_prob_micro_batch_size is None else batch.log_prob_micro_batch_size / samples


def scored_layouts(problem: Problem, layouts: Layouts) -> Layouts:
    """The layouts with micro-batches of those passes."""
    batch, packing = problem.scenario.batch, problem.engine.packing
    samples, cap = batch.log_prob_micro_batch_size, batch.log_prob_max_tokens_per_gpu
    usual = layouts.max_tokens * (packing.log_prob_times if packing is not None else 1)
    packed = layouts.max_tokens > 0
    return replace(
        layouts,
        micro_batch_size=np.where(packed | (samples is None), layouts.micro_batch_size, samples or 1),
        max_tokens=np.where(packed, usual if cap is None else cap, 0),
    )
