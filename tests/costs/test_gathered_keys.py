"""Context parallelism that gathers keys and values of all ranks: torchtitan's flex_attention, and torch's ring."""

from __future__ import annotations

import json

import pytest

from planner.costs.item_names import ItemName
from planner.inputs.document import parse_document
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.units import GIB

TOKENS, LAYERS, RANKS = 8_192, 32, 8
KEYS_AND_VALUES = 2 * 2 * 8 * 128
"""Bytes a token of one layer of Llama 3.1 8B: both, 16 bits, 8 heads of 128."""


def planned(recomputed: int | str, *options: str, modules: tuple[str, ...] = ()) -> Plan:
    layout = {"context_parallel": RANKS, "tensor_parallel": 1, "pipeline_parallel": 1}
    asked = {
        "name": "context",
        "task": "pretrain",
        "model": "llama3.1-8b",
        "engine": "torchtitan",
        "engine_options": list(options),
        "cluster": {"node": "dgx-b200", "num_gpus": 8},
        "batch": {"global_batch_size": 1, "sequence_length": RANKS * TOKENS, "micro_batch_size": 1},
        "layout": layout | {"recomputed_layers": recomputed, "recompute_modules": list(modules)},
    }
    return estimate(parse_document(json.dumps(asked), "context.json"))


def gib(found: Plan, item: str, phase: str = "backward") -> float:
    items = next(moment for moment in found.memory if moment.phase == phase).items
    return sum(each.amount for each in items if each.name == item)


def test_flex_attention_keeps_what_was_gathered_and_the_ring_does_not() -> None:
    kept = [gib(planned(0, *options), ItemName.ACTIVATIONS_KEPT_LAYERS) for options in ((), ("ring_attention",))]
    assert kept[0] - kept[1] == pytest.approx(LAYERS * TOKENS * RANKS * KEYS_AND_VALUES / GIB)
    assert kept[0] - kept[1] == pytest.approx(8.0)


def test_operators_recomputed_gather_again_in_the_layer_that_runs() -> None:
    plain, ring = (planned(0, *options, modules=("op",)) for options in ((), ("ring_attention",)))
    assert gib(plain, ItemName.ACTIVATIONS_KEPT_LAYERS) == gib(ring, ItemName.ACTIVATIONS_KEPT_LAYERS)
    assert gib(plain, ItemName.LAYER_RUNNING_BACKWARD) > RANKS * TOKENS * KEYS_AND_VALUES / GIB


def test_a_recomputed_layer_holds_them_while_it_runs() -> None:
    """The MLP's backward pass is fuller than attention's: what was gathered is there, its gradients are not yet."""
    flex, ring = (planned("all", *options) for options in ((), ("ring_attention",)))
    both = [gib(one, ItemName.LAYER_RUNNING_BACKWARD, "recomputation") for one in (flex, ring)]
    assert both[0] == both[1]
    rebuilt = [gib(one, ItemName.ACTIVATIONS_LAYER_BEING_RECOMPUTED, "recomputation") for one in (flex, ring)]
    assert rebuilt[0] - rebuilt[1] == pytest.approx(TOKENS * RANKS * KEYS_AND_VALUES / GIB)
