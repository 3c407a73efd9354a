"""Rank groups against ranks counted one by one from the order of the axes."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from planner.analysis.rank_groups import rank_axes

SIZES = {"tensor": 2, "context": 2, "data": 3, "pipeline": 4}


def plan_of(order: str, experts: int = 1) -> Any:
    """As much of a plan as groups are made from."""
    lay = {f"{name}_parallel": size for name, size in SIZES.items()}
    lay |= {"num_gpus": 48, "expert_parallel": experts, "expert_tensor_parallel": 1}
    cluster = SimpleNamespace(group=lambda size, stride: (size, stride))
    problem = SimpleNamespace(later=None, clusters={48: cluster}, architecture=SimpleNamespace(is_moe=experts > 1))
    return SimpleNamespace(layout=lay, named=SimpleNamespace(rank_order=order), problem=problem)


def counted(axes: tuple[str, ...], moving: set[str]) -> set[tuple[int, ...]]:
    """Groups of ranks that differ in `moving` alone; `axes` innermost first."""
    groups: dict[tuple[int, ...], list[int]] = {}
    places = itertools.product(*(range(SIZES[axis]) for axis in reversed(axes)))
    for rank, place in enumerate(places):
        at = dict(zip(reversed(axes), place, strict=True))
        groups.setdefault(tuple(at[axis] for axis in axes if axis not in moving), []).append(rank)
    return {tuple(group) for group in groups.values()}


@pytest.mark.parametrize(
    ("order", "axes"),
    [("default", ("tensor", "context", "data", "pipeline")), ("tp_pp_dp", ("tensor", "context", "pipeline", "data"))],
)
def test_groups_are_those_of_the_order(order: str, axes: tuple[str, ...]) -> None:
    found = {axis.name: axis for axis in rank_axes(plan_of(order))}
    for name in SIZES:
        groups = {tuple(sorted(group)) for group in found[f"{name} parallel"].groups.tolist()}
        assert groups == counted(axes, {name})
    both = found["data and context parallel"].groups.tolist()
    assert {tuple(sorted(group)) for group in both} == counted(axes, {"data", "context"})


def test_experts_lie_next_to_each_other_whatever_tensor_parallelism_is() -> None:
    found = {axis.name: axis for axis in rank_axes(plan_of("default", experts=4))}
    assert found["expert parallel"].groups[0].tolist() == [0, 1, 2, 3]
    assert found["expert parallel"].group_of.tolist()[:8] == [0] * 4 + [1] * 4
