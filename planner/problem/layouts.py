"""Columns of layouts: one candidate a row, one decision a column, so that costs are computed for all rows at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[Any]
"""int64"""
Floats = NDArray[Any]
"""float64"""

UNIFORM, BLOCK = "uniform", "block"
LARGEST = 2**62


@dataclass(frozen=True)
class Layouts:
    """One row per candidate; every column is an int64 array of the same shape, usually [rows] or [rows, 1]."""

    num_gpus: Ints
    tensor_parallel: Ints
    pipeline_parallel: Ints
    virtual_pipeline: Ints
    data_parallel: Ints
    context_parallel: Ints
    expert_parallel: Ints
    expert_tensor_parallel: Ints
    micro_batch_size: Ints
    """[sequences]; 1 where micro-batches are packed."""
    max_tokens: Ints
    """Tokens a GPU up to which micro-batches are packed [tokens]; 0 where they have micro_batch_size sequences."""
    num_micro_batches: Ints
    """Micro-batches of one optimizer step on one data-parallel rank."""
    global_batch_size: Ints
    """[sequences]"""
    sequence_length: Ints
    """Longest sequence [tokens]: sets memory."""
    mean_sequence_length: Ints
    """Tokens really in a sequence [tokens]: sets time."""
    zero_stage: Ints
    sequence_parallel: Ints
    """1 where norms and residuals are cut along the sequence."""
    optimizer: Ints
    """Index into the problem's optimizers, the wanted one first."""
    wish: Ints
    """Index into the problem's wish combinations, best first."""
    variant: Ints
    """Index into the problem's variants."""

    def __len__(self) -> int:
        return int(self.tensor_parallel.shape[0])

    def take(self, index: NDArray[np.bool_] | Ints | int) -> Layouts:
        """The rows that a mask or an index selects."""
        return Layouts(*(np.atleast_1d(values[index]) for _, values in self.columns()))

    def expand(self) -> Layouts:
        """The same columns with a trailing axis of one, to broadcast against stages."""
        return Layouts(*(values[..., None] for _, values in self.columns()))

    def columns(self) -> Iterator[tuple[str, Ints]]:
        """(name, values) of every column, in the order of definition."""
        return ((name, getattr(self, name)) for name in _COLUMNS)

    def row(self, index: int) -> dict[str, int]:
        """One candidate as plain integers."""
        return {name: int(values[index]) for name, values in self.columns()}


_COLUMNS = tuple(field.name for field in fields(Layouts))


def distinct(*columns: Ints) -> tuple[list[tuple[int, ...]], Ints]:
    """(the distinct rows of columns of counts, for each row which of them it is), columns taken flat.

    Rows are numbered in a mixed radix and sorted as plain integers, ten times as fast as NumPy sorts rows.
    """
    alike = len({np.shape(column) for column in columns}) == 1
    flat = [np.ravel(column).astype(np.int64) for column in (columns if alike else np.broadcast_arrays(*columns))]
    if flat[0].size == 1:
        return [tuple(int(column[0]) for column in flat)], np.zeros(1, dtype=np.int64)
    code, most = np.zeros(flat[0].shape, dtype=np.int64), 0
    for column in flat:
        span = int(column.max(initial=0)) + 1
        if most >= LARGEST // span:
            code = np.unique(code, return_inverse=True)[1].reshape(-1)
            most = len(code)
        code, most = code * span + column, (most + 1) * span
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return list(zip(*(column[first].tolist() for column in flat), strict=True)), inverse.reshape(-1)


@dataclass(frozen=True)
class Rollouts:
    """Columns of rollout choices: one candidate a row."""

    num_gpus: Ints
    """GPUs that generate."""
    wish: Ints
    tensor_parallel: Ints
    gpu_memory_utilization: Floats
    max_concurrency: Ints
    """Requests one engine may run at once."""
    training_gpus: Ints
    """GPUs that train beside it; the same ones where placement is colocated."""
    variant: Ints
    """Index into the problem's variants."""

    def __len__(self) -> int:
        return int(self.num_gpus.shape[0])

    def take(self, index: object) -> Rollouts:
        """The rows that a mask or an index selects."""
        return Rollouts(*(np.atleast_1d(getattr(self, field.name)[index]) for field in fields(self)))
