"""Layouts near the best one, as JSON holds them."""

from __future__ import annotations

from planner.schema.base import Frozen


class TiedLayout(Frozen):
    """Degrees of a layout near the best one."""

    num_gpus: int
    tensor_parallel: int
    pipeline_parallel: int
    data_parallel: int
    context_parallel: int
    expert_parallel: int
    expert_tensor_parallel: int
    variants: int
    """Combinations of micro-batch, chunks, ZeRO stage and the like that are known to lie in the band."""


class NearTiesDocument(Frozen):
    """Layouts that the known error of a step cannot tell from the plan, fastest first."""

    share: float
    count: int
    at_least: bool
    """There may be more: not all that might lie in the band were tried."""
    layouts: list[TiedLayout]
    simplest: TiedLayout
    roomiest: TiedLayout
    roomiest_headroom_gib: float
