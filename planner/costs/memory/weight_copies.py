"""16-bit copies of fp32 weights that autocast makes: one for each linear module, from the forward pass to backward."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.stage_parameters import StageParameters
from planner.formulas.parameters import matrix_elements
from planner.problem.formats import mixed
from planner.problem.layouts import Floats
from planner.problem.problem import Problem
from planner.problem.state_bytes import FP32_BYTES
from planner.schema.architecture import LayerKind

SOURCE = (
    "torch 2.13.0 aten/src/ATen/autocast_mode.cpp, cached_cast: copies of trained weights are cached until the forward "
    "pass ends, and saved tensors hold them until backward; validation/autograd"
)


def layer_copies_bytes(problem: Problem, *, moe_layer: bool, kind: LayerKind = "full") -> float:
    """Copies of one layer's matrices; embedding, norms and grouped products of experts are not cast. [bytes]"""
    elements = matrix_elements(problem.architecture, moe_layer=moe_layer, kind=kind)
    return problem.precision.activation_bytes * elements


def _mean_copies_bytes(problem: Problem, *, moe_layer: bool) -> float:
    """The same of the mean layer, where layers are of several kinds. [bytes]"""
    a = problem.architecture
    each = [(layer_copies_bytes(problem, moe_layer=moe_layer, kind=kind), a.layers_of(kind)) for kind in a.kinds]
    return sum(copies * count for copies, count in each) / a.num_hidden_layers


def weight_copies(stage: StageParameters, name: str, spare: Floats) -> tuple[Item, ...]:
    """What lies at one moment beside the weights. Recomputed layers' copies live to the end of the forward pass only.

    The loss takes `spare` less in the forward pass than in its own backward pass, where those copies are gone: the
    larger of both counts, exact where all layers or none are recomputed, above it between. [bytes]

    Of frozen weights no copy is cached: those of recomputed layers are gone with the layer's forward pass, the others
    are saved tensors.

    Source: torch/utils/checkpoint.py casts anew inside each recomputation.
    """
    problem, a = stage.problem, stage.problem.architecture
    frozen = problem.scenario.adapter is not None
    if not mixed(problem) or name not in ("backward", "recomputation", "loss"):
        return ()
    if frozen and problem.base_weight_bytes != FP32_BYTES:
        return ()
    usual = _mean_copies_bytes(problem, moe_layer=a.is_moe)
    leading = _mean_copies_bytes(problem, moe_layer=False) - usual if a.is_moe else 0.0
    first = stage.is_first * problem.parameters.num_dense_layers * leading if a.is_moe else 0.0
    head = stage.is_last * a.vocab_size * a.hidden_size * problem.precision.activation_bytes
    kept = (stage.layers - stage.recomputed) * usual + np.maximum(first, 0.0)
    passing = stage.recomputed * np.maximum(0.0, usual - spare / a.num_hidden_layers)
    amount = {
        "loss": (kept if frozen else (stage.layers - stage.recomputed) * usual + passing + first) + head,
        "backward": kept,
        "recomputation": usual + 0.0 * stage.layers,
    }[name]
    shape = np.zeros(np.broadcast_shapes(np.shape(amount), np.shape(stage.layers)))
    return (Item(ItemName.COPIES_OF_WEIGHTS, stage.sharded((amount + shape, shape), 3), SOURCE),)
