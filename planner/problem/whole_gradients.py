"""Sharded weights and gradients that lie whole on each rank over several micro-batches of a step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem

MOST_CHUNKS = 3
"""Chunks of a pipeline's stage that lie gathered at once: the one that runs and those that are next.

Source: torch 2.13.0 distributed/pipelining/schedules.py lines 1285 to 1365, _add_unshard_reshard, max_active_stages.
"""
_MADE_BYTES = 2.0
"""Bytes an element of a gradient as a product makes it in 16 bits."""


def left_whole(problem: Problem, layouts: Layouts) -> NDArray[np.bool_]:
    """Where the last micro-batch of a step alone reduces gradients, by the engine's file (`zero_three.unreduced`)."""
    zero = problem.engine.zero_three
    if zero is None or zero.unreduced == "never":
        return np.zeros(np.shape(layouts.num_micro_batches), dtype=bool)
    between = zero.unreduced == "between micro-batches"
    return np.asarray(layouts.num_micro_batches > 1 if between else layouts.pipeline_parallel > 1)


def reduced_at_the_end(problem: Problem, layouts: Layouts) -> NDArray[np.bool_]:
    """Where gradients are reduced when the last backward pass of a step is over, beside no kernel.

    Source: torch 2.13.0 distributed/pipelining/stage.py lines 1164 to 1191, perform_reduce_grad.
    """
    zero = problem.engine.zero_three
    piped = zero is not None and zero.unreduced == "in a pipeline"
    return np.asarray(left_whole(problem, layouts) & piped)


def _passes(layouts: Layouts) -> Floats:
    """How many times a step repeats a pass, m + (p - 1) / v (planner/costs/time/step_time.py)."""
    passes = layouts.num_micro_batches + (layouts.pipeline_parallel - 1) / layouts.virtual_pipeline
    return np.maximum(passes, 1)


def reducing_share(problem: Problem, layouts: Layouts) -> Floats:
    """Share of a stage's backward passes that reduce gradients: all of them, or the last one of a step."""
    return np.where(left_whole(problem, layouts), 1 / _passes(layouts), 1.0)


def staying_share(problem: Problem, layouts: Layouts) -> Floats:
    """Share of a stage's layers that lie gathered beyond the one in use; 0 where all are given back."""
    zero, none = problem.engine.zero_three, np.zeros(np.shape(layouts.pipeline_parallel))
    if zero is None:
        return none
    chunks = np.minimum(1.0, MOST_CHUNKS / layouts.virtual_pipeline)
    piped = zero.whole_in_pipeline & (layouts.pipeline_parallel > 1)
    return none + 1.0 if zero.every_layer else np.where(piped, chunks, none)


def gathering_shares(problem: Problem, layouts: Layouts) -> tuple[Floats, Floats]:
    """Share of a stage's (forward, backward) passes that gather weights: all, or the first forward pass of a step.

    Chunks that take turns because more than MOST_CHUNKS stand on a rank are counted as gathered each time.
    """
    zero = problem.engine.zero_three
    every = np.ones(np.shape(layouts.pipeline_parallel))
    if zero is None:
        return every, every
    piped = zero.whole_in_pipeline & (layouts.pipeline_parallel > 1)
    whole = piped & (layouts.virtual_pipeline <= MOST_CHUNKS)
    return np.where(whole, 1 / _passes(layouts), every), np.where(whole, 0.0, every * zero.regathered)


def adding_bytes(problem: Problem, layouts: Layouts) -> Floats:
    """Bytes a parameter that adding a micro-batch's gradient to whole ones reads and writes, the mean over a step.

    The first one stays as it was made, or is cast to the format that they are summed in; each later one is read with
    the sum, which is written: 6 B in 16 bits, 6 and then 10 in fp32.

    Source: torch 2.13.0 torch/csrc/autograd/functions/accumulate_grad.h, accumulateGrad (in place), and
    distributed/fsdp/_fully_shard/_fsdp_param.py lines 802 to 821 (a cast, then an addition of both formats).
    """
    zero, none = problem.engine.zero_three, np.zeros(np.shape(layouts.num_micro_batches))
    if zero is None or not problem.trains_all_weights:
        return none
    made, kept = problem.under_way(_MADE_BYTES), problem.under_way(zero.unreduced_bytes)
    first, later = (0.0 if kept == made else made + kept), made + 2 * kept
    mean = (first + later * (layouts.num_micro_batches - 1)) / np.maximum(layouts.num_micro_batches, 1)
    return np.where(left_whole(problem, layouts) & (layouts.zero_stage >= 3), mean, none)
