"""Megatron-LM: the plan and the network's shape as flags of pretrain_gpt.py."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import parallel
from planner.launch.script import Array, Flag, Script, check_flags, flag_table, refuse, render
from planner.search.plan import Plan
from planner.search.search import Outcome

NAME = "megatron"
TABLE = "megatron_0192.json"


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The launch fragment of a plan. Raises InputError for what Megatron's flags cannot say."""
    plan = outcome.plan
    assert plan is not None
    parallel.refuse_unspoken(plan, NAME)
    model, remarks = shape(plan)
    by_stage = parallel.recomputed_by_stage(plan)
    again, remark = parallel.recomputation(plan, by_stage)
    arrays = [model, parallel.parallel(plan), parallel.batch(plan), parallel.precision(plan)]
    arrays += [again] if again is not None else []
    arrays.append(parallel.optimizer(plan, overlap=True))
    table_name, table = flag_table(catalog, TABLE)
    check_flags(arrays, [table])
    hosts, each = parallel.machines(plan)
    script = Script(
        speaks=f"{plan.problem.engine.name}, {plan.problem.engine.version}",
        checked_against=f"the option table of {table_name}",
        exports=(("CUDA_DEVICE_MAX_CONNECTIONS", "1"),) if needs_one_connection(plan) else (),
        variables=(
            ("NUM_NODES", hosts),
            ("GPUS_PER_NODE", each),
            *([(parallel.STAGE_RECOMPUTED, by_stage)] if by_stage else []),
        ),
        arrays=tuple(arrays),
        remarks=(*remarks, *([remark] if remark else []), *parallel.two_pools(plan)),
        example=(
            'torchrun --nnodes "$NUM_NODES" --nproc-per-node "$GPUS_PER_NODE" --node-rank "$NODE_RANK" \\',
            '  --master-addr "$MASTER_ADDR" --master-port "$MASTER_PORT" pretrain_gpt.py "${PLAN_ARGS[@]}" ...',
        ),
    )
    return render(script, outcome)


def needs_one_connection(plan: Plan) -> bool:
    """Before Blackwell, tensor or context parallelism needs one hardware queue (arguments.py:1411-1440)."""
    lay, gpu = plan.layout, plan.problem.gpu
    split = lay["tensor_parallel"] > 1 or lay["context_parallel"] > 1
    return split and gpu.vendor == "nvidia" and "Blackwell" not in gpu.chip


def shape(plan: Plan) -> tuple[Array, tuple[str, ...]]:
    """(flags of the network's shape, what they leave open). Raises InputError for a shape without flags."""
    _refuse_shape(plan)
    a, problem = plan.problem.architecture, plan.problem
    flags: list[Flag] = [
        ("--num-layers", str(a.num_hidden_layers)),
        ("--hidden-size", str(a.hidden_size)),
        ("--ffn-hidden-size", str(a.intermediate_size)),
        ("--num-attention-heads", str(a.num_attention_heads)),
    ]
    if a.is_mla:
        flags.append(("--multi-latent-attention", None))
        flags += [("--q-lora-rank", str(a.q_lora_rank))] if a.q_lora_rank is not None else []
        flags += [
            ("--kv-lora-rank", str(a.kv_lora_rank)),
            ("--qk-head-dim", str(a.qk_nope_head_dim)),
            ("--qk-pos-emb-head-dim", str(a.qk_rope_head_dim)),
            ("--v-head-dim", str(a.v_head_dim)),
        ]
    else:
        flags.append(("--kv-channels", str(a.head_dim)))
        if a.num_key_value_heads != a.num_attention_heads:
            flags += [("--group-query-attention", None), ("--num-query-groups", str(a.num_key_value_heads))]
    if a.gated_mlp:
        flags.append(("--swiglu", None))
    flags.append(("--normalization", "RMSNorm" if a.norm == "rmsnorm" else "LayerNorm"))
    if a.qk_norm == "head":
        flags.append(("--qk-layernorm", None))
    if not a.mlp_bias:
        flags.append(("--disable-bias-linear", None))
        if a.attention_bias:
            flags.append(("--add-qkv-bias", None))
    flags.append(("--position-embedding-type", "rope" if a.learned_positions is None else "learned_absolute"))
    if not a.tie_word_embeddings:
        flags.append(("--untie-embeddings-and-output-weights", None))
    flags.append(("--vocab-size", str(a.vocab_size)))
    flags.append(("--make-vocab-size-divisible-by", str(problem.engine.vocab_divisible_by)))
    flags += [("--cross-entropy-loss-fusion", None), ("--cross-entropy-fusion-impl", "te")]
    if a.is_moe:
        flags += _experts(plan)
    remarks = []
    if a.learned_positions is None:
        remarks.append("--rotary-base, rope scaling and --norm-epsilon are yours too: the catalog does not hold them.")
    if a.num_nextn_predict_layers:
        remarks.append("Multi-token prediction layers are neither counted in the plan nor launched here.")
    return Array("MODEL_ARGS", tuple(flags)), tuple(remarks)


def _experts(plan: Plan) -> list[Flag]:
    a = plan.problem.architecture
    flags: list[Flag] = [
        ("--num-experts", str(a.num_experts)),
        ("--moe-router-topk", str(a.num_experts_per_tok)),
        ("--moe-ffn-hidden-size", str(a.moe_intermediate_size)),
        ("--moe-token-dispatcher-type", "alltoall"),
        ("--moe-grouped-gemm", None),
    ]
    if a.shared_expert_intermediate_size:
        flags.append(("--moe-shared-expert-intermediate-size", str(a.shared_expert_intermediate_size)))
        flags += [("--moe-shared-expert-gate", None)] if a.shared_expert_gate else []
    if a.first_k_dense_replace:
        dense = a.first_k_dense_replace
        flags.append(("--moe-layer-freq", f"([0]*{dense}+[1]*{a.num_hidden_layers - dense})"))
    return flags


def _refuse_shape(plan: Plan) -> None:
    """Raise InputError for parts of a network that the options of this version do not describe."""
    a = plan.problem.architecture
    window = a.sliding_window if a.sliding_window_layers else None
    parts = [
        (a.gated_mlp and a.hidden_act != "silu", f"a gated MLP with {a.hidden_act}"),
        (a.norms_per_layer != 2, f"{a.norms_per_layer} norms a layer"),
        (a.qk_norm == "full", "query and key norms over the full width"),
        (a.attention_sinks, "attention sinks"),
        (a.attention_out_bias != a.mlp_bias or (a.mlp_bias and not a.attention_bias), "biases on some projections"),
        (window is not None and plan.layout["sequence_length"] > window, f"a sliding window of {window} tokens"),
    ]
    unspoken = [text for broken, text in parts if broken]
    if unspoken:
        raise refuse(
            plan,
            f"the flags of {NAME} do not describe {a.id}",
            "it has " + ", ".join(unspoken),
            "planner solve prints the layout; write its MODEL_ARGS with a model provider of your own",
            "model",
        )
