"""Networks and machines of the data as catalog entries that exist only here."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.schema.base import Source
from planner.schema.catalog import Architecture, Gpu, Nics, Node, NodeLinks
from planner.validation.memory.cases import Case, Words

PER_NODE = {"gb200-186gb": 4, "mi300x": 8}
"""GPUs of a node, where they are not eight."""
MEGATRON_DROPOUT = ("megatron_ci_golden", "bigscience_prequel", "megatron_tutorials", "flagperf")
"""Sources of runs with Megatron's own dropout; of the second train/tr11-176B-ml/README.md says so (@053adaf), the
third's scripts switch none off, nor do the fourth's but where a row says so."""
_SOURCE = Source(ref="validation/data/memory_cases.jsonl.gz", date="2026-11")


PARALLEL = ("falcon", "phi-1", "stablecode-completion")
"""Networks whose attention and MLP read the same input (`parallel_residual` of litgpt/config.py)."""


def architecture_of(case: Case, catalog: Catalog) -> Architecture:
    """The case's network: the one of the catalog that it names, or an entry that exists only here."""
    a = case.arch
    if a.get("catalog"):
        known: Architecture = catalog.find("models", a["catalog"])
        return known
    heads = a["num_attention_heads"]
    head_dim = a.get("head_dim") or a["hidden_size"] // heads
    fields: Words = {
        "id": f"case-{case.id}",
        "model_type": family_of(case),
        "hidden_act": a["hidden_act"],
        "head_dim": head_dim,
        "qk_norm": {True: "head", False: "none", None: "none"}[bool(a.get("qk_norm"))],
        "attention_bias": bool(a.get("qkv_bias")),
        "attention_out_bias": bool(a.get("linear_bias")),
        "mlp_bias": bool(a.get("linear_bias")),
        "hidden_dropout": _dropout(case, "hid"),
        "attention_dropout": _dropout(case, "attn"),
        "parallel_block": case.model.startswith(PARALLEL),
        "sources": [_SOURCE],
    }
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"):
        fields[name] = a[name]
    for name in ("tie_word_embeddings", "gated_mlp", "norm", "num_key_value_heads"):
        fields[name] = a[name]
    if a.get("position_embedding") == "learned_absolute" and case.sequence_length:
        fields["learned_positions"] = case.sequence_length
    if a.get("sliding_window") and a.get("sliding_window_every"):
        fields["sliding_window"] = a["sliding_window"]
        fields["sliding_window_layers"] = a["num_hidden_layers"] // a["sliding_window_every"]
    if a.get("kv_lora_rank"):
        fields["head_dim"] = a["qk_nope_head_dim"] + a["qk_rope_head_dim"]
        fields["num_key_value_heads"] = heads
        for name in ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
            fields[name] = a[name]
    if a.get("num_experts"):
        for name in ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "first_k_dense_replace"):
            fields[name] = a[name]
        fields["first_k_dense_replace"] = a.get("first_k_dense_replace") or 0
        fields |= {name: a[name] for name in ("n_group", "topk_group") if a.get(name)}
        fields["shared_expert_intermediate_size"] = a.get("shared_expert_intermediate_size") or 0
    if any("mtp=" in flag for flag in case.flags):
        fields["num_nextn_predict_layers"] = 1
    return Architecture.model_validate(fields)


def family_of(case: Case) -> str:
    """The family in config.json's words, from the model's name."""
    name = case.model.lower()
    if name.startswith(("qwen1-", "qwen-")):
        return "qwen"
    known = {
        "gpt_bigcode": "gpt_bigcode",
        "gemma": "gemma",
        "phi-3": "phi3",
        "deepseek": "deepseek_v2",
        "gpt-oss": "gpt_oss",
        "olmo": "olmo2",
    }
    return next((family for word, family in known.items() if word in name), "llama")


def _dropout(case: Case, which: str) -> float:
    """Megatron's default of 0.1 unless a flag says otherwise, in its tests and where a source says it is inherited."""
    if case.source not in MEGATRON_DROPOUT:
        return 0.0
    return 0.0 if f"{which}-dropout=0.0" in case.flags else 0.1


def node_of(gpu: Gpu, case: Case) -> Node:
    """A node of the case's GPUs: what matters to memory is their count, and whether NVLink joins them."""
    count = case.num_gpus or 1
    each = min(count, PER_NODE.get(gpu.id, 8))
    while count % each:
        each -= 1
    return Node(
        id=f"case-{gpu.id}-{each}",
        name=f"{each} x {gpu.name}",
        gpu=gpu.id,
        gpus_per_node=each,
        links=NodeLinks(
            kind="switch" if gpu.nvlink_gb_per_s else "pcie_tree",
            gb_per_s_per_gpu=gpu.nvlink_gb_per_s or gpu.pcie_gb_per_s,
        ),
        nics=Nics(count=each, gbit_per_s_each=400, fabric="any", gb_per_s_per_gpu=50),
        sources=[_SOURCE],
    )
