"""Exact parameter counts: every catalog model against its published count, and adapters."""

from __future__ import annotations

from typing import Any

import pytest

from planner.formulas.parameters import count_parameters, lora_parameters
from planner.inputs.catalog import default_catalog
from planner.schema.base import Source
from planner.schema.catalog import Architecture

CATALOG = default_catalog()
MODELS = CATALOG.ids("models")


def test_all_58_models_are_there() -> None:
    assert len(MODELS) >= 58


@pytest.mark.parametrize("name", MODELS)
def test_count_equals_the_published_one(name: str) -> None:
    entry = CATALOG.find("models", name)
    counted, published = count_parameters(entry), entry.parameters
    assert counted.total == published.total
    assert counted.active_per_token == published.active_per_token
    assert counted.total - counted.embedding - counted.position_embedding == published.non_embedding
    groups = published.by_group
    assert counted.embedding == groups["embedding"]
    assert counted.lm_head == groups.get("lm_head", 0)
    assert counted.position_embedding == groups.get("pos_embedding", 0)
    assert counted.num_dense_layers + counted.num_moe_layers == entry.num_hidden_layers
    dense = counted.dense_layer
    mlp = (dense.dense_mlp_sharded + dense.dense_mlp_replicated) * counted.num_dense_layers
    assert round(mlp) == groups.get("dense_mlp", 0)
    if counted.moe_layer is not None:
        moe, layers = counted.moe_layer, counted.num_moe_layers
        assert round(moe.routed_experts * layers) == groups["routed_experts"]
        assert round(moe.shared_experts * layers) == groups.get("shared_experts", 0)
        assert round(moe.router * layers) == groups["router"]


def test_layer_parts_of_llama3_8b() -> None:
    layer = count_parameters(CATALOG.find("models", "llama3-8b")).dense_layer
    assert layer.attention_sharded == 4096 * (4096 + 2 * 1024) + 4096 * 4096
    assert layer.dense_mlp_sharded == 3 * 4096 * 14336
    assert layer.norm == 2 * 4096
    assert (layer.attention_replicated, layer.dense_mlp_replicated, layer.router) == (0, 0, 0)
    assert layer.total == 218_112_000


def test_latent_attention_keeps_its_down_projections_whole() -> None:
    layer = count_parameters(CATALOG.find("models", "deepseek-v3")).moe_layer
    assert layer is not None
    assert layer.attention_replicated == 7168 * 1536 + 1536 + 7168 * (512 + 64) + 512
    assert layer.total == 11_507_286_016


def test_biases_of_row_parallel_outputs_are_replicated() -> None:
    layer = count_parameters(CATALOG.find("models", "gpt2")).dense_layer
    assert layer.attention_replicated == 768
    assert layer.dense_mlp_replicated == 768


@pytest.mark.parametrize(
    ("model", "targets", "expected"),
    [
        ("llama3-8b", "all-linear", 41_943_040),
        ("llama3-8b", ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], 41_943_040),
        ("llama3-8b", ["q_proj", "v_proj"], 32 * 16 * (8192 + 5120)),
        ("llama3-8b", ["linear_qkv"], 32 * 16 * (4096 + 6144)),
        ("llama3-8b", ["gate_up_proj"], 32 * 16 * (4096 + 2 * 14336)),
        ("qwen3-30b-a3b", ["down_proj"], 48 * 128 * 16 * (768 + 2048)),
        ("deepseek-v3", ["q_a_proj", "kv_b_proj"], 61 * 16 * (7168 + 1536 + 512 + 128 * 256)),
        ("deepseek-v3", ["up_proj"], 16 * (3 * (7168 + 18432) + 58 * 257 * (7168 + 2048))),
        ("gpt2", ["c_attn", "c_fc"], 12 * 16 * (768 + 2304 + 768 + 3072)),
        ("gpt2", "all-linear", 12 * 16 * (4 * 2 * 768 + 2 * (768 + 3072))),
    ],
)
def test_lora(model: str, targets: list[str] | str, expected: int) -> None:
    assert lora_parameters(CATALOG.find("models", model), 16, targets) == expected


def test_lora_on_an_unknown_layer() -> None:
    with pytest.raises(ValueError, match=r"no linear layer is named w1; this architecture has all-linear, q_proj"):
        lora_parameters(CATALOG.find("models", "llama3-8b"), 8, ["w1", "q_proj"])


def changed(architecture: Architecture, **changes: Any) -> Architecture:
    return architecture.model_copy(update=changes)


def test_a_tiny_network_by_hand() -> None:
    tiny = Architecture(
        id="tiny",
        model_type="llama",
        sources=[Source(ref="by hand", date="2026-11")],
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=4,
        intermediate_size=16,
        vocab_size=10,
    )
    # attention 8*8 + 2*8*4 + 8*8, MLP 3*8*16, two norms; embedding, head, last norm
    assert count_parameters(tiny).total == 2 * (192 + 384 + 16) + 80 + 80 + 8
    assert count_parameters(changed(tiny, tie_word_embeddings=True)).total == 2 * 592 + 80 + 8
    gated = changed(tiny, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=4, shared_expert_gate=True)
    counted = count_parameters(changed(gated, shared_expert_intermediate_size=8))
    assert counted.moe_layer is not None
    assert counted.moe_layer.router == 8 * 4 + 8
    assert counted.moe_layer.shared_experts == 3 * 8 * 8
    assert counted.total - counted.active_per_token == 2 * 2 * 3 * 8 * 4
