"""Megatron's flags for the shape of a network: what pretrain_gpt.py must be told to build the catalog's model."""

from __future__ import annotations

from planner.launch.script import Array, Flag, refuse
from planner.launch.settled import settled
from planner.schema.catalog import Architecture
from planner.search.plan import Plan

UNSAID = (
    ("norm_epsilon", "--norm-epsilon"),
    ("rope_theta", "--rotary-base"),
    ("scoring_func", "the router's flags (score function, scaling, groups, bias)"),
)

VARIANT = "gated_delta_net"
"""Megatron's name of the linear attention that is counted."""
LINEAR_SHAPE = (
    ("--linear-conv-kernel-dim", "linear_conv_kernel_dim"),
    ("--linear-key-head-dim", "linear_key_head_dim"),
    ("--linear-value-head-dim", "linear_value_head_dim"),
    ("--linear-num-key-heads", "linear_num_key_heads"),
    ("--linear-num-value-heads", "linear_num_value_heads"),
)


def shape(plan: Plan, launcher: str) -> tuple[Array, tuple[str, ...]]:
    """(flags of the network's shape, what they leave open). Raises InputError for a shape without flags."""
    _refuse_shape(plan, launcher)
    a, options = plan.problem.architecture, settled(plan).engine_options
    flags: list[Flag] = [
        ("--num-layers", str(a.num_hidden_layers)),
        ("--hidden-size", str(a.hidden_size)),
        ("--ffn-hidden-size", str(a.intermediate_size)),
        ("--num-attention-heads", str(a.num_attention_heads)),
        *_attention(a),
        *_linear(plan),
        ("--normalization", "RMSNorm" if a.norm == "rmsnorm" else "LayerNorm"),
    ]
    if a.norm_epsilon is not None:
        flags.append(("--norm-epsilon", f"{a.norm_epsilon:g}"))
    flags += _mlp(a)
    if not a.mlp_bias:
        flags.append(("--disable-bias-linear", None))
        if a.attention_bias:
            flags.append(("--add-qkv-bias", None))
    flags += _positions(a)
    if not a.tie_word_embeddings:
        flags.append(("--untie-embeddings-and-output-weights", None))
    flags.append(("--vocab-size", str(a.vocab_size)))
    flags.append(("--make-vocab-size-divisible-by", str(plan.problem.engine.vocab_divisible_by)))
    if a.is_moe:
        flags += _experts(a, options)
        flags += _router(a)
    if "multi_token_prediction" in options and a.num_nextn_predict_layers:
        flags.append(("--mtp-num-layers", str(a.num_nextn_predict_layers)))
    return Array("MODEL_ARGS", tuple(flags)), _remarks(plan)


def _attention(a: Architecture) -> list[Flag]:
    if a.is_mla:
        # The norms of the latents are Megatron's --qk-layernorm; kv-channels only meets arguments.py:1292.
        return [
            ("--multi-latent-attention", None),
            *([("--q-lora-rank", str(a.q_lora_rank))] if a.q_lora_rank is not None else []),
            ("--kv-lora-rank", str(a.kv_lora_rank)),
            ("--qk-head-dim", str(a.qk_nope_head_dim)),
            ("--qk-pos-emb-head-dim", str(a.qk_rope_head_dim)),
            ("--v-head-dim", str(a.v_head_dim)),
            ("--kv-channels", str(a.v_head_dim)),
            ("--qk-layernorm", None),
        ]
    flags: list[Flag] = [("--kv-channels", str(a.head_dim))]
    if a.num_key_value_heads != a.num_attention_heads:
        flags += [("--group-query-attention", None), ("--num-query-groups", str(a.num_key_value_heads))]
    if a.qk_norm == "head":
        flags.append(("--qk-layernorm", None))
    return flags


def _linear(plan: Plan) -> list[Flag]:
    """Which layers have linear attention, and its shape, where Megatron builds them itself; the gate behind the others.

    The norms of these networks multiply by one plus their weight.
    """
    a, said = plan.problem.architecture, plan.problem.engine.linear_attention
    if not a.is_linear:
        return []
    flags: list[Flag] = [("--apply-layernorm-1p", None)]
    flags += [("--attention-output-gate", None)] if a.attn_output_gate else []
    if said is None or not said.heads_cut:
        return flags
    return [
        *flags,
        ("--experimental-attention-variant", VARIANT),
        ("--linear-attention-freq", str(a.full_attention_interval)),
        *((option, str(getattr(a, field))) for option, field in LINEAR_SHAPE),
    ]


def _mlp(a: Architecture) -> list[Flag]:
    return [("--swiglu", None)] if a.gated_mlp else []


def _positions(a: Architecture) -> list[Flag]:
    """Rotary base and scaling. Megatron reads --rotary-scaling-factor and --mscale for latent attention alone."""
    if a.learned_positions is not None:
        return [("--position-embedding-type", "learned_absolute")]
    flags: list[Flag] = [("--position-embedding-type", "rope")]
    if a.rope_theta is not None:
        flags.append(("--rotary-base", str(int(a.rope_theta))))
    if a.partial_rotary_factor != 1:
        flags.append(("--rotary-percent", f"{a.partial_rotary_factor:g}"))
    scaling = a.rope_scaling
    if a.is_mla:
        if scaling is None or scaling.rope_type != "yarn":
            # transformer_config.py:2967: fused rotary embedding of latent attention is yarn's alone.
            return [*flags, ("--rope-type", "rope"), ("--no-rope-fusion", None)]
        return [
            *flags,
            ("--rope-type", "yarn"),
            ("--rotary-scaling-factor", f"{scaling.factor:g}"),
            ("--mscale", f"{scaling.mscale:g}"),
            ("--mscale-all-dim", f"{scaling.mscale_all_dim:g}"),
        ]
    if scaling is not None and scaling.rope_type == "llama3":
        flags += [("--use-rope-scaling", None), ("--rope-scaling-factor", f"{scaling.factor:g}")]
    return flags


def _experts(a: Architecture, options: tuple[str, ...]) -> list[Flag]:
    flags: list[Flag] = [
        ("--num-experts", str(a.num_experts)),
        ("--moe-router-topk", str(a.num_experts_per_tok)),
        ("--moe-ffn-hidden-size", str(a.moe_intermediate_size)),
    ]
    # The flex dispatcher is an option's own flag (planner/launch/switches.py).
    flags += (
        [] if {"expert_deduplication", "hybrid_ep"} & set(options) else [("--moe-token-dispatcher-type", "alltoall")]
    )
    flags += [] if "sequential_experts" in options else [("--moe-grouped-gemm", None)]
    if a.shared_expert_intermediate_size:
        flags.append(("--moe-shared-expert-intermediate-size", str(a.shared_expert_intermediate_size)))
        flags += [("--moe-shared-expert-gate", None)] if a.shared_expert_gate else []
    if a.first_k_dense_replace:
        dense = a.first_k_dense_replace
        flags.append(("--moe-layer-freq", f"([0]*{dense}+[1]*{a.num_hidden_layers - dense})"))
    return flags


def _router(a: Architecture) -> list[Flag]:
    """How experts are chosen and weighted. Megatron's default is a soft-max over the chosen ones."""
    if a.scoring_func is None:
        return []
    flags: list[Flag] = []
    if a.scoring_func != "softmax":
        flags.append(("--moe-router-score-function", a.scoring_func))
    elif not a.norm_topk_prob:
        flags.append(("--moe-router-pre-softmax", None))
    if a.router_correction_bias:
        flags.append(("--moe-router-enable-expert-bias", None))
    if a.routed_scaling_factor != 1:
        flags.append(("--moe-router-topk-scaling-factor", f"{a.routed_scaling_factor:g}"))
    if a.n_group > 1:
        flags += [("--moe-router-num-groups", str(a.n_group)), ("--moe-router-group-topk", str(a.topk_group))]
    return [*flags, ("--moe-router-dtype", "fp32")]


def _remarks(plan: Plan) -> tuple[str, ...]:
    a = plan.problem.architecture
    needed = {"norm_epsilon", *(["rope_theta"] if a.learned_positions is None else [])}
    needed |= {"scoring_func"} if a.is_moe else set()
    out = [
        f"FIXME: {flags}: the catalog does not hold {name} of {a.id}; Megatron's default may be another network."
        for name, flags in UNSAID
        if name in needed and getattr(a, name) is None
    ]
    scaling = a.rope_scaling
    if a.is_mla and scaling is not None and (scaling.beta_fast, scaling.beta_slow) != (32, 1):
        out.append(
            f"Rotary scaling of {a.id} has beta_fast {scaling.beta_fast:g} and beta_slow {scaling.beta_slow:g}; "
            "Megatron has no flag for them beside latent attention and takes 32 and 1."
        )
    if a.is_mla and a.q_lora_rank is None:
        out.append(
            "With --qk-layernorm and no --q-lora-rank, Megatron 0.19 builds one further norm of hidden_size in the "
            f"query projection that the checkpoint of {a.id} does not have (multi_latent_attention.py:635)."
        )
    if a.num_nextn_predict_layers and "multi_token_prediction" not in settled(plan).engine_options:
        out.append("Multi-token prediction layers are neither counted in the plan nor launched here.")
    return tuple(out)


BEYOND_SHAPE = {
    "granite": "multipliers on embedding, residual stream, scores and logits",
    "ministral3": "queries scaled by their position",
    "nemotron": "layer norms of 1 + weight",
    "smollm3": "layers without rotary positions",
}
"""What networks have, by model_type, that no field of a shape says (modelling code of transformers 5.23.0)."""


def _refuse_shape(plan: Plan, launcher: str) -> None:
    """Raise InputError for parts of a network that the options of this version do not describe."""
    a = plan.problem.architecture
    window = a.sliding_window if a.sliding_window_layers else None
    length, scaling = plan.layout["sequence_length"], a.rope_scaling
    unscaled = scaling.original_max_position_embeddings if scaling is not None else 0
    foreign = scaling is not None and scaling.rope_type not in ("llama3", "yarn")
    yarn = scaling is not None and scaling.rope_type == "yarn" and not a.is_mla
    parts = [
        (a.gated_mlp and a.hidden_act != "silu", f"a gated MLP with {a.hidden_act}"),
        (not a.gated_mlp and not a.hidden_act.startswith("gelu"), f"an MLP with {a.hidden_act}"),
        (a.model_type in BEYOND_SHAPE, BEYOND_SHAPE.get(a.model_type, "")),
        (a.norms_per_layer != 2, f"{a.norms_per_layer} norms a layer"),
        (a.qk_norm == "full", "query and key norms over the full width"),
        (a.attention_sinks, "attention sinks"),
        (a.alibi, "ALiBi positions"),
        (a.parallel_block, "attention and MLP side by side"),
        (a.embedding_norm, "a norm behind the embedding"),
        (a.head_bias, "a bias on the logits"),
        (a.norm_vectors is not None, f"a {a.norm} with {a.norm_vectors} vectors"),
        (a.vision_parameters > 0, "a vision tower"),
        (a.attention_out_bias != a.mlp_bias or (a.mlp_bias and not a.attention_bias), "biases on some projections"),
        (window is not None and length > window, f"a sliding window of {window} tokens"),
        (
            (foreign or yarn) and length > unscaled,
            f"{scaling.rope_type if scaling else ''} rotary scaling beyond {unscaled} tokens",
        ),
    ]
    unspoken = [text for broken, text in parts if broken]
    if unspoken:
        raise refuse(
            plan,
            f"the flags of {launcher} do not describe {a.id}",
            "it has " + ", ".join(unspoken),
            "planner solve prints the layout; write its MODEL_ARGS with a model provider of your own",
            "model",
        )
