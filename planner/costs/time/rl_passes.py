"""What passes of an RL trainer take beside those of pretraining: loss sample by sample, reference weights swapped."""

from __future__ import annotations

import numpy as np

from planner.costs.memory.stage_memory import StageMemory
from planner.costs.time.layer import LayerTime
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.units import GB, US_PER_S

COPIES = 3.0
"""The policy's weights to the host, the reference's in, the policy's back."""


def loss_by_sample(problem: Problem, layer: LayerTime, out: Floats) -> Floats:
    """What the loss takes for each sample of a packed micro-batch, of `out` local logits a token. [s]

    Each sample takes its slice of the logits; the gradient of a slice is a tensor as large as all logits, made and
    added to the others: bytes grow with the square of the samples in a micro-batch.
    """
    timing, lay = problem.engine.timing, layer.layouts
    if not problem.is_rl or not (timing.loss_sample_bytes or timing.loss_sample_us):
        return np.zeros(np.shape(out))
    samples = lay.global_batch_size / (lay.data_parallel * lay.num_micro_batches)
    slices = layer.kernels.elementwise(timing.loss_sample_bytes * samples * layer.tokens * out)
    return np.asarray(slices + samples * timing.loss_sample_us / US_PER_S)


def seconds_to_swap_an_element(problem: Problem) -> float:
    """Seconds of one weight's copies, once a step and on all stages at once; 0 where nothing is swapped. [s]"""
    rate = problem.generation.swapped_gb_per_s if problem.is_rl else None
    if rate is None or "reference" not in problem.scored_by:
        return 0.0
    return COPIES * problem.weight_bytes / (rate * GB)


def swapped_elements(problem: Problem, layouts: Layouts, stage: Ints, layers: int) -> Floats:
    """Weights of so many layers and the ends that each rank of a stage holds, sharded where the engine shards them."""
    memory = StageMemory(problem, layouts, stage, np.full_like(stage, layers), np.zeros_like(stage))
    shards = (np.where(layouts.zero_stage >= 3, ranks, 1.0) for ranks in memory.shards)
    dense, expert = (count / ranks for count, ranks in zip(memory.trainable, shards, strict=True))
    return np.asarray(dense + expert)
