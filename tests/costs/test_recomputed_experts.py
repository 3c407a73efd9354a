"""Recomputation of the whole expert layer (--recompute-modules moe): its second pass, and what it frees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.costs.time.layer import LayerTime
from planner.costs.time.selective import MODULES, selective_seconds
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.conditions import modules_that_free
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.problem.variants import module_sets
from planner.search.space import build_space


def problem(*modules: str) -> Problem:
    """Routed and shared experts over eight GPUs of one node."""
    scenario: dict[str, Any] = {
        "name": "experts",
        "task": "pretrain",
        "model": "deepseek-v2-lite",
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
        "batch": {"global_batch_size": 8, "sequence_length": 4096, "micro_batch_size": 1},
        "layout": {"tensor_parallel": 1, "pipeline_parallel": 1, "context_parallel": 1, "expert_parallel": 8,
                   "expert_tensor_parallel": 1, "recomputed_layers": 0, "recompute_modules": list(modules)},
    }  # fmt: skip
    text = str(scenario).replace("'", '"')
    return question_of(parse_document(text, "experts.yaml"), default_catalog()).first


def layer_of(whole: Problem) -> LayerTime:
    return LayerTime(whole, build_space(whole.alone).layouts.take(0).expand())


def test_the_second_pass_holds_exchanges_products_and_waits() -> None:
    layer = layer_of(problem("moe"))
    timing = layer.problem.engine.timing
    again = float(selective_seconds(layer, moe_layer=True).item())
    sent = float(layer.expert_collectives().item())
    products = float(layer.mlp_products("forward", moe_layer=True).item())
    launched = timing.launched_share * timing.expert_host_us * 1e-6
    waited = timing.expert_sync_us * 1e-6
    assert again >= max(sent + products, launched) + waited
    assert again == pytest.approx(
        max(launched, sent + products + float(layer.mlp_elementwise("forward", moe_layer=True).item())) + waited
    )
    parts = sum(float(np.max(MODULES[name](layer, True))) for name in ("moe_act", "shared_experts"))
    assert again > parts
    assert not selective_seconds(layer, moe_layer=False).any(), "dense layers have no experts"


def test_nothing_of_the_expert_layer_is_kept_but_it_is_made_again_for_one_layer() -> None:
    def names(whole: Problem, moment: str) -> list[str]:
        return [t.name for t in getattr(whole.engine, moment) if "expert" in t.name or t.name.startswith("rout")]

    plain, whole = problem(), problem("moe")
    assert names(plain, "saved")
    assert names(whole, "saved") == ["router input"] * ("router input" in names(whole, "saved"))
    made = set(names(whole, "backward")) - set(names(plain, "backward"))
    assert made == {"router", "routed experts", "tokens sent to experts", "shared experts"}
    parts = problem("moe_act", "shared_experts")
    assert len(names(whole, "saved")) < len(names(parts, "saved")) < len(names(plain, "saved"))


def test_any_leaves_parts_of_a_recomputed_expert_layer_out() -> None:
    free = modules_that_free(problem())
    sets = module_sets(free)
    assert "moe" in free
    assert ["moe"] in sets
    assert ["moe_act", "shared_experts"] in sets
    assert not any("moe" in some and {"moe_act", "shared_experts"} & set(some) for some in sets)
