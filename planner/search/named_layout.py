"""The layout that people mean: every decision under the name that the field uses, and no index into anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.costs.memory.groups import group_of_layers
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem


@dataclass(frozen=True)
class NamedLayout:
    """The decisions of a plan."""

    num_gpus: int
    """Of the whole run, with those that only generate."""
    tensor_parallel: int
    pipeline_parallel: int
    rank_order: str
    virtual_pipeline: int
    """Chunks of layers of each stage."""
    schedule: str
    """1f1b, interleaved or zb-h1."""
    data_parallel: int
    context_parallel: int
    expert_parallel: int
    expert_tensor_parallel: int
    sequence_parallel: bool
    zero_stage: int
    micro_batch_size: int
    """[sequences]"""
    max_tokens_per_gpu: int | None
    """Cap up to which micro-batches are packed, where they are. [tokens]"""
    num_micro_batches: int
    """Of one optimizer step on one data-parallel rank."""
    global_batch_size: int
    """[sequences]"""
    sequence_length: int
    """Longest. [tokens]"""
    mean_sequence_length: int
    """[tokens]"""
    layers_per_stage: tuple[int, ...]
    recomputed_layers_per_stage: tuple[int, ...]
    recompute_group: int
    """Layers recomputed together."""
    optimizer: str
    """Its id in the catalog."""
    optimizer_offload: bool
    activation_offload: bool
    recompute_modules: tuple[str, ...]
    engine_options: tuple[str, ...]
    """Switches of the engine that are on."""
    precision: str
    """Its id in the catalog."""
    node: str
    """Its id in the catalog; of the machines that train."""
    later_stages_node: str | None
    """Of the later pipeline stages, where they lie on machines of another kind."""
    stages_on_node: int
    """Stages on `node`."""


COUNTS = (
    *("tensor_parallel", "pipeline_parallel", "virtual_pipeline", "data_parallel", "context_parallel"),
    *("expert_parallel", "expert_tensor_parallel", "zero_stage", "micro_batch_size", "num_micro_batches"),
    *("global_batch_size", "sequence_length", "mean_sequence_length"),
)
"""Decisions that a row of layouts holds as they are."""


def recompute_group(problem: Problem, row: Mapping[str, int]) -> int:
    """Layers that one row recomputes together. [layers]"""
    one = Layouts(**{name: np.array([value]) for name, value in row.items()})
    return int(group_of_layers(problem, one)[0][0])


def named_layout(
    problem: Problem,
    row: Mapping[str, int],
    layers: tuple[int, ...],
    recomputed: tuple[int, ...],
    num_gpus: int,
    first_stages: int,
) -> NamedLayout:
    """One row of layouts with its indexes looked up in the problem that they count in."""
    spec = problem.scenario.layout
    return NamedLayout(
        num_gpus=num_gpus,
        rank_order=str(problem.scenario.cluster.rank_order),
        schedule=str(spec.schedule or ("interleaved" if row["virtual_pipeline"] > 1 else "1f1b")),
        sequence_parallel=bool(row["sequence_parallel"]),
        max_tokens_per_gpu=row["max_tokens"] or None,
        layers_per_stage=layers,
        recomputed_layers_per_stage=recomputed,
        recompute_group=recompute_group(problem, row),
        optimizer=problem.optimizers[row["optimizer"]].id,
        optimizer_offload=bool(spec.optimizer_offload),
        activation_offload=bool(spec.activation_offload),
        recompute_modules=tuple(spec.recompute_modules),
        engine_options=tuple(problem.scenario.engine_options),
        precision=problem.precision.id,
        node=problem.node.id,
        later_stages_node=problem.later.node.id if problem.later is not None else None,
        stages_on_node=first_stages,
        **{name: row[name] for name in COUNTS},
    )
