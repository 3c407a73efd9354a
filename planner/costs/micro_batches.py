"""Samples of unequal length of an RL step in micro-batches: how many there are, how large, and who waits for whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from planner.formulas.lengths import LengthLaw
from planner.formulas.packing import (
    Packing,
    forward_wait,
    lockstep_wait,
    packed,
    per_rank,
    pipeline_wait,
    rank_wait,
)
from planner.problem.layouts import Floats, Ints, Layouts, distinct
from planner.problem.problem import Problem
from planner.problem.scoring import scored_at_once

COLUMNS = (
    "wish",
    "data_parallel",
    "context_parallel",
    "max_tokens",
    "micro_batch_size",
    "pipeline_parallel",
    "virtual_pipeline",
    "global_batch_size",
    "num_micro_batches",
    "zero_stage",
    "expert_parallel",
    "expert_tensor_parallel",
    "tensor_parallel",
)
"""Everything that these times depend on."""
PACKED_BY = (
    "wish",
    "data_parallel",
    "context_parallel",
    "pipeline_parallel",
    "virtual_pipeline",
    "max_tokens",
    "global_batch_size",
)
"""Everything that the number of packed micro-batches depends on."""


def packed_micro_batches(problem: Problem, columns: dict[str, Ints]) -> Ints:
    """Micro-batches of one data-parallel rank and optimizer step where they are packed up to `max_tokens`; else 0.

    `columns` holds num_gpus, wish, data_parallel, context_parallel, pipeline_parallel, virtual_pipeline, max_tokens and
    global_batch_size. A rank without a sample makes it 0, and the row illegal.
    """
    count = np.zeros(len(columns["wish"]), dtype=np.int64)
    some = np.flatnonzero((columns["max_tokens"] > 0) & (columns["data_parallel"] > 0))
    wish, dp, cp, pp, vp, tokens, samples = (columns[name][some] for name in PACKED_BY)
    multiples = np.where(vp > 1, problem.engine.pipeline.group_size or pp, 1)
    rows, inverse = distinct(wish, samples, dp, tokens * cp, multiples)
    each = []
    for wanted, batch, ranks, capacity, multiple in rows:
        fits = batch >= ranks
        each.append(_per_rank(problem, wanted, batch, ranks, capacity, multiple) if fits else 0)
    count[some] = np.array(each, dtype=np.int64)[inverse] if each else 0
    return count


def _per_rank(problem: Problem, wish: int, samples: int, ranks: int, capacity: int, multiple: int) -> int:
    law, method = _law(problem, wish)
    return per_rank(law, samples=samples, ranks=ranks, capacity=capacity, packing=method, multiple=multiple)


@lru_cache(maxsize=4096)
def _waits(
    law: LengthLaw,
    packing: Packing,
    samples: int,
    ranks: int,
    capacity: int,
    multiple: int,
    size: int,
    stages: int,
    micro_batches: int,
    balanced: bool,
    together: int,
) -> tuple[float, float]:
    """(training, scoring): times as long as with equal micro-batches. Variants of a question ask for the same ones."""
    sizes = packed(
        law, samples=samples, ranks=ranks, capacity=capacity, packing=packing, multiple=multiple, size=size
    ).sizes
    largest = 1.0 if balanced else rank_wait(sizes, ranks=ranks, micro_batches=micro_batches)
    largest = max(largest, lockstep_wait(sizes, ranks=together))
    train = largest * pipeline_wait(sizes, stages=stages, micro_batches=micro_batches)
    return train, largest * forward_wait(sizes, stages=stages, micro_batches=micro_batches)


def _law(problem: Problem, wish: int) -> tuple[LengthLaw, Packing]:
    law, packing = problem.wishes[wish].law, problem.engine.packing
    assert law is not None
    return law, packing.method if packing is not None else "first_fit"


@dataclass(frozen=True)
class UnequalSamples:
    """Waits of all rows, as factors on the time of equal micro-batches; layouts have shape [rows, 1] or [rows]."""

    problem: Problem
    layouts: Layouts

    @cached_property
    def _factors(self) -> tuple[Floats, Floats, Floats]:
        """(training, scoring, micro-batches of training in one of scoring)."""
        shape = np.shape(self.layouts.tensor_parallel)
        ones = np.ones(shape)
        if not self.problem.is_rl:
            return ones, ones, ones
        rows, inverse = distinct(*(getattr(self.layouts, name) for name in COLUMNS))
        each = [self._of(dict(zip(COLUMNS, row, strict=True))) for row in rows]
        found = np.array(each).reshape(-1, 3)[inverse]
        return found[:, 0].reshape(shape), found[:, 1].reshape(shape), found[:, 2].reshape(shape)

    def _of(self, c: dict[str, int]) -> tuple[float, float, float]:
        engine, ranks, stages = self.problem.engine, c["data_parallel"], c["pipeline_parallel"]
        packing, tokens = engine.packing, c["max_tokens"]
        many = max(1, c["num_micro_batches"])
        multiple = (engine.pipeline.group_size or stages) if c["virtual_pipeline"] > 1 else 1
        samples, size = c["global_batch_size"], c["micro_batch_size"]
        times = scored_at_once(self.problem, tokens=tokens, samples=size)
        fewer = many / -(-many // times)
        if packing is not None and packing.padded_in_pipeline and tokens and stages > 1:
            return 1.0, 1.0, fewer
        balanced, capacity = packing is not None and packing.balanced_ranks, tokens * c["context_parallel"]
        drawn = *_law(self.problem, c["wish"]), samples, ranks, capacity, multiple, size
        return *_waits(*drawn, stages, many, balanced, self._lockstep(c)), fewer

    def _lockstep(self, c: dict[str, int]) -> int:
        """Data-parallel ranks that exchange something in every layer: sharded weights, or experts."""
        ranks, together = c["data_parallel"], 1
        if c["zero_stage"] >= 3:
            together = ranks
        if self.problem.architecture.is_moe:
            grid = c["expert_parallel"] * c["expert_tensor_parallel"]
            together = max(together, min(ranks, grid // (c["tensor_parallel"] * c["context_parallel"])))
        return together

    def wait(self, visit: str) -> Floats:
        """Times as long as with equal micro-batches, of the visits `train` and `score`."""
        return {"train": self._factors[0], "score": self._factors[1]}.get(visit, np.ones_like(self._factors[0]))

    @property
    def fewer(self) -> Floats:
        """Micro-batches of training whose tokens one of scoring holds."""
        return self._factors[2]


def tokens_at_most(layouts: Layouts) -> Floats:
    """Tokens of the largest micro-batch on one context-parallel rank: its samples at their longest, or the cap.

    A sample longer than the cap stands alone. Source: slime v0.3.1 utils/dp_schedule.py.
    """
    alone = layouts.sequence_length / layouts.context_parallel
    fixed = layouts.micro_batch_size * alone
    return np.where(layouts.max_tokens > 0, np.maximum(layouts.max_tokens, alone), fixed)


def tokens_on_average(problem: Problem, layouts: Layouts) -> Floats:
    """Tokens of a mean micro-batch on one context-parallel rank; up to the cap where the engine pads to it."""
    lay, packing = layouts, problem.engine.packing
    fixed = lay.micro_batch_size * lay.mean_sequence_length / lay.context_parallel
    if not np.any(lay.max_tokens):
        return np.asarray(fixed)
    ranks = np.maximum(lay.data_parallel * lay.num_micro_batches * lay.context_parallel, 1)
    each = lay.global_batch_size * lay.mean_sequence_length / ranks
    if packing is not None and packing.padded_in_pipeline:
        each = np.where(lay.pipeline_parallel > 1, np.maximum(lay.max_tokens, each), each)
    return np.where(lay.max_tokens > 0, each, fixed)
