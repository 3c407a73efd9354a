"""How wide each kind of tensor is on one rank: the vocabulary that engine files describe their tensors in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.layouts import Floats, Ints, Layouts
from planner.problem import Problem
from planner.schema.engine import Tensor


def padded_vocab_size(*, vocab_size: int, divisible_by: int, tensor_parallel: Ints) -> Ints:
    """Vocabulary padded to a multiple of divisible_by * tensor_parallel. [entries]

    Source: Megatron-LM core/tokenizers/utils/build_tokenizer.py.
    """
    multiple = divisible_by * tensor_parallel
    return np.asarray(-(-vocab_size // multiple) * multiple)


def tokens_per_rank(layouts: Layouts) -> Floats:
    """Tokens of one micro-batch on one context-parallel rank, sequences at their longest. [tokens]"""
    return layouts.micro_batch_size * layouts.sequence_length / layouts.context_parallel


def elements(problem: Problem, layouts: Layouts, width: str) -> float | Floats:
    """Elements a token of a tensor before it is cut over ranks. `key_value` counts a replicated head once a rank."""
    a = problem.architecture
    if width == "key_value":
        heads = np.maximum(a.num_key_value_heads, layouts.tensor_parallel)
        return 2 * heads * a.head_dim
    if width == "vocab":
        return padded_vocab_size(
            vocab_size=a.vocab_size,
            divisible_by=problem.engine.vocab_divisible_by,
            tensor_parallel=layouts.tensor_parallel,
        )
    top_k = a.num_experts_per_tok or 0
    simple: dict[str, float] = {
        "hidden": a.hidden_size,
        "query": a.query_width,
        "attention_out": a.attention_out_width,
        "heads": a.num_attention_heads,
        "ffn": a.intermediate_size,
        "expert_ffn": top_k * (a.moe_intermediate_size or 0) * problem.engine.routed_imbalance,
        "expert_hidden": top_k * a.hidden_size * problem.engine.routed_imbalance,
        "shared_ffn": a.shared_expert_intermediate_size,
        "experts": a.num_experts or 0,
        "expert_choices": top_k,
        "lora_latent": (a.q_lora_rank or 0) + (a.kv_lora_rank or 0) + (a.qk_rope_head_dim or 0),
        "key_value_up": a.query_width + a.attention_out_width,
        "one": 1,
    }
    return simple[width]


def applies(problem: Problem, when: str, *, moe_layer: bool) -> bool:
    """Does a tensor exist in this kind of layer; conditions on the layout are multiplied in by `shard_factor`."""
    a, adapter = problem.architecture, problem.scenario.adapter
    return {
        "always": True,
        "dense": not moe_layer,
        "moe": moe_layer,
        "shared_experts": moe_layer and a.shared_expert_intermediate_size > 0,
        "mla": a.is_mla,
        "not_mla": not a.is_mla,
        "gated": a.gated_mlp,
        "ungated": not a.gated_mlp,
        "gated_dense": a.gated_mlp and not moe_layer,
        "ungated_dense": not a.gated_mlp and not moe_layer,
        "gathered": True,
        "dropout": a.hidden_dropout > 0,
        "unfused_attention": not problem.engine.fused_attention,
        "tensor_parallel": True,
        "trainable_base": adapter is None,
        "qk_norm": a.qk_norm != "none",
    }[when]


def shard_factor(layouts: Layouts, tensor: Tensor) -> float | Floats:
    """Share of a tensor that one rank holds."""
    tp = layouts.tensor_parallel
    factor: float | Floats = 1.0
    if tensor.shard == "tensor":
        factor = 1.0 / tp
    elif tensor.shard == "sequence":
        factor = np.where(layouts.sequence_parallel == 1, 1.0 / tp, 1.0)
    elif tensor.shard == "expert_tensor":
        factor = layouts.expert_tensor_parallel / tp
    if tensor.when == "gathered":
        factor = factor * ((layouts.sequence_parallel == 1) & (tp > 1))
    elif tensor.when == "tensor_parallel":
        factor = factor * (tp > 1)
    return factor


def tensor_bytes(problem: Problem, layouts: Layouts, tensors: Sequence[Tensor], *, moe_layer: bool) -> Floats:
    """Bytes of these tensors for one micro-batch on one rank. [bytes]"""
    per_token: Floats = np.zeros(np.shape(layouts.tensor_parallel))
    for tensor in tensors:
        if applies(problem, tensor.when, moe_layer=moe_layer):
            width = elements(problem, layouts, tensor.width)
            per_token = per_token + tensor.bytes * width * shard_factor(layouts, tensor)
    return per_token * tokens_per_rank(layouts)
