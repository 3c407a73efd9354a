"""Bytes of optimizer state on one rank of a pipeline stage, for every kind of optimizer of the catalog."""

from __future__ import annotations

import numpy as np

from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.memory.tensor_widths import elements
from planner.formulas import optimizer_state as formulas
from planner.formulas.parameters import adapted_shapes
from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem
from planner.schema.catalog import Optimizer

FACTORED_BYTES = 4.0
"""Factored statistics are fp32 (transformers 5.23.0, class Adafactor)."""


def optimizer_bytes(stage: StageParameters) -> Floats:
    """State and master copies of the optimizer that each row uses, wherever they lie. [bytes]"""
    problem = stage.problem
    amount: Floats = stage.layers * 0.0
    for index, optimizer in enumerate(problem.optimizers):
        amount = np.where(stage.layouts.optimizer == index, _state(stage, optimizer), amount)
    return amount


def temporary_bytes(stage: StageParameters) -> Floats:
    """What each row's optimizer makes while it steps, in the format of its moments, offloaded or not. [bytes]

    Source: torch 2.13.0 torch/optim/adam.py line 762, torch._foreach_sqrt(device_exp_avg_sqs).
    """
    problem = stage.problem
    each = np.array([problem.moment_bytes(o, o.transient_bytes) for o in problem.optimizers])[stage.layouts.optimizer]
    amount = stage.sharded(stage.trainable, 1) * each
    if problem.scenario.adapter is None:
        return np.asarray(amount)
    own = [problem.adapter_moment_bytes(o, o.transient_bytes) for o in problem.optimizers]
    adapters = stage.trainable[0] - stage.trained_tables, stage.layers * 0.0
    return np.asarray(amount + stage.sharded(adapters, 1) * (np.array(own)[stage.layouts.optimizer] - each))


def paged(problem: Problem) -> Floats:
    """True for each optimizer whose state may leave the GPU page by page, by optimizer index."""
    return np.array([o.paged for o in problem.optimizers])


def gradients_here(problem: Problem, layouts: Layouts) -> Floats:
    """1 where a rank's gradients lie on the GPU as the backward pass goes, 0 where they wait on the host.

    Source: deepspeed 0.19.8 runtime/zero/stage3.py lines 333 and 791 (one buffer where the optimizer is) and
    stage_1_and_2.py lines 1809 and 1888 (each reduced gradient is added up and copied there).
    """
    follows = problem.engine.states.gradients_follow_optimizer and problem.optimizer_on_host
    return np.asarray(1.0 - (problem.gradients_leave_at_once | (follows & (layouts.zero_stage >= 2))))


def largest_gradient_bytes(stage: StageParameters) -> Floats:
    """What ZeRO-1 and 2 keep to hand the largest trained matrix's gradient to an optimizer on the host. [bytes]

    Source: deepspeed 0.19.8 runtime/zero/stage_1_and_2.py line 659.
    """
    adapter, a = stage.problem.scenario.adapter, stage.problem.architecture
    tables = stage.trained_tables if adapter is not None else stage.largest_table
    experts = stacked_experts(stage) if a.is_moe and adapter is None else 0.0
    largest = np.maximum(np.maximum(_matrix_of_a_layer(stage), tables), experts)
    return np.asarray(largest * stage.problem.gradient_bytes * (stage.layouts.zero_stage < 3))


def largest_tensor_bytes(stage: StageParameters) -> Floats:
    """State of the largest single tensor, as a paged optimizer brings it back to the GPU. [bytes]

    Gate and up of all experts are one tensor (transformers 5.23.0 models/mixtral/modeling_mixtral.py line 64).
    """
    adapter, layer = stage.problem.scenario.adapter, np.asarray(_matrix_of_a_layer(stage))
    if stage.problem.architecture.is_moe and adapter is None:
        layer = np.maximum(layer, stage.sharded((0.0 * stage.layers, 0.0 * stage.layers + stacked_experts(stage)), 1))
    tables = stage.trained_tables if adapter is not None else stage.ends
    return np.asarray(np.maximum(layer, tables) * stage.problem.optimizer_state_bytes[stage.layouts.optimizer])


def _matrix_of_a_layer(stage: StageParameters) -> float:
    """Elements of the largest matrix of a layer that trains, those of all experts together aside."""
    a, adapter = stage.problem.architecture, stage.problem.scenario.adapter
    if adapter is not None:
        return float(max(adapter.rank * max(sides) for sides in adapted_shapes(a, adapter.targets)))
    width = int(a.moe_intermediate_size or 0) if a.is_moe and not a.first_k_dense_replace else a.intermediate_size
    mixed = 2 * a.linear_key_width + a.linear_value_width
    return float(a.hidden_size * max(width, a.query_width * (1 + a.attn_output_gate), mixed, a.mamba_projected))


def stacked_experts(stage: StageParameters) -> Floats:
    """Elements of the largest matrix that a layer's experts share, on one rank before it is sharded."""
    return np.asarray(elements(stage.problem, stage.layouts, "expert_matrix"))


def stepped_at_once(stage: StageParameters) -> Floats:
    """Share of its shard that a rank's step works on at once, told from all layers: one number for a row."""
    most, lay = stage.problem.engine.states.step_elements, stage.layouts
    if most is None:
        return np.ones(np.shape(lay.zero_stage))
    layers = np.asarray(stage.layers * 0 + stage.problem.architecture.num_hidden_layers)
    whole = StageParameters(stage.problem, lay, stage.stage, layers, layers * 0)
    share = most / np.maximum(1.0, whole.sharded(whole.trainable, 1))
    return np.where(lay.zero_stage >= 3, np.minimum(1.0, share), 1.0)


def _state(stage: StageParameters, optimizer: Optimizer) -> Floats:
    problem = stage.problem
    moments = problem.moment_bytes(optimizer, optimizer.state_bytes)
    master = problem.master_bytes(optimizer)
    plain = stage.sharded(stage.trainable, 1) * (moments + master)
    zero = stage.layers * 0.0
    if problem.scenario.adapter is not None and not optimizer.factored:
        # Where adapters are fp32 whatever the weights are, so are moments that take their format.
        adapters = stage.trainable[0] - stage.trained_tables
        plain = plain + stage.sharded((adapters, zero), 1) * max(
            0.0, problem.adapter_moment_bytes(optimizer, optimizer.state_bytes) - moments
        )
    if optimizer.factored:
        plain = plain + _factored(stage)
    if optimizer.ends_state_bytes is not None:
        more = problem.moment_bytes(optimizer, optimizer.ends_state_bytes) - moments
        plain = plain + stage.sharded((stage.ends + stage.vectors, zero), 1) * more
    if optimizer.projection_rank is not None and problem.scenario.adapter is None:
        kept = formulas.projected(
            optimizer.projection_rank,
            moment_bytes=moments,
            projector_bytes=problem.moment_bytes(optimizer, optimizer.projector_bytes),
        )
        whole, less = over_layers(stage, formulas.elements), over_layers(stage, kept)
        change = tuple(after - moments * before for after, before in zip(less, whole, strict=True))
        lay = stage.layouts
        dense, expert = change[0] / lay.tensor_parallel, change[1] / (lay.expert_parallel * lay.expert_tensor_parallel)
        plain = plain + stage.sharded((dense, expert), 1)
    return plain


def over_layers(stage: StageParameters, measure: formulas.Measure) -> tuple[Floats, Floats]:
    """(dense, expert) sum over the matrices of the stage's layers, before they are cut over ranks."""
    a = stage.problem.architecture
    plain, _ = formulas.over_layer(a, measure, moe_layer=False)
    if not a.is_moe:
        return stage.layers * plain, stage.layers * 0.0
    dense, expert = formulas.over_layer(a, measure, moe_layer=True)
    leading = stage.is_first * stage.problem.parameters.num_dense_layers
    return stage.layers * dense + leading * (plain - dense), (stage.layers - leading) * expert


def _factored(stage: StageParameters) -> Floats:
    """Rows and columns of every matrix, vectors whole; not cut over ranks, for a cut matrix keeps one whole side."""
    a, adapter = stage.problem.architecture, stage.problem.scenario.adapter
    # A table's rows and its columns, and the final norm.
    tables = stage.ends / a.hidden_size + (stage.ends > 0) * 2.0 * a.hidden_size
    if adapter is not None:
        sides = sum(sum(shape) + 2 * adapter.rank for shape in adapted_shapes(a, adapter.targets))
        tables = stage.trained_tables / a.hidden_size + (stage.trained_tables > 0) * a.hidden_size
        return FACTORED_BYTES * (stage.layers * sides + tables)
    dense, expert = over_layers(stage, formulas.factored)
    return FACTORED_BYTES * (dense + expert / stage.layouts.expert_parallel + stage.vectors + tables)
