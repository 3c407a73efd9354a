"""How an engine option of a scenario is written as Megatron's flags; an option without flags says why."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.launch.script import Flag, refuse
from planner.launch.settled import settled
from planner.search.plan import Plan


@dataclass(frozen=True)
class Switch:
    """Flags of one engine option, and what else it needs."""

    flags: tuple[Flag, ...] = ()
    exports: tuple[tuple[str, str], ...] = ()
    unsaid: str | None = None
    """Why no flag says it, where none does."""


OFFLOADED = Switch(
    (
        ("--fine-grained-activation-offloading", None),
        (
            "--offload-modules",
            ("attn_norm", "qkv_linear", "core_attn", "attn_proj", "mlp_norm", "expert_fc1", "moe_act"),
        ),
    ),
    # arguments.py:1858: Transformer Engine 2.10 and later would offload weights too.
    exports=(("NVTE_CPU_OFFLOAD_V1", "1"),),
)
"""layout.activation_offload, as catalogs/engines/megatron-core.yaml counts it."""

NO_OPTION = "it is a field of TransformerConfig for which Megatron's own parser has no option"
SWITCHES: dict[str, Switch] = {
    "adapter_input_regather": Switch(unsaid="it is a field of Megatron-Bridge's adapters"),
    "fp8_activation_inputs": Switch(unsaid=NO_OPTION),
    "fp8_attention": Switch(unsaid=NO_OPTION),
    "fp8_parameters": Switch((("--fp8-param-gather", None),)),
    "no_fp8_transpose_cache": Switch(unsaid=NO_OPTION),
    "fp8_turned_each_time": Switch(unsaid="it is how Transformer Engine was before 2.0"),
    "a2a_context_parallel": Switch((("--cp-comm-type", ("a2a",)),)),
    "bf16_gradients": Switch((("--grad-reduce-in-bf16", None),)),
    "bf16_moments": Switch(
        (
            ("--use-precision-aware-optimizer", None),
            ("--exp-avg-dtype", "bf16"),
            ("--exp-avg-sq-dtype", "bf16"),
        )
    ),
    "block_scaled_fp8": Switch((("--fp8-recipe", "blockwise"),)),
    "cuda_graphs": Switch(
        unsaid="which graphs and paging of experts go with it depends on the network: --cuda-graph-impl full_iteration"
    ),
    "deferred_embedding_gradient": Switch(
        (("--defer-embedding-wgrad-compute", None), ("--wgrad-deferral-limit", "2")),
    ),
    "dropped_tokens": Switch(
        (("--moe-expert-capacity-factor", "1.0"), ("--moe-pad-expert-input-to-capacity", None)),
    ),
    "expert_deduplication": Switch(
        (("--moe-token-dispatcher-type", "flex"), ("--moe-flex-dispatcher-backend", "deepep"))
    ),
    "fine_grained_offloading": OFFLOADED,
    "hybrid_ep": Switch((("--moe-token-dispatcher-type", "flex"), ("--moe-flex-dispatcher-backend", "hybridep"))),
    "interleaved_groups_of_five": Switch((("--microbatch-group-size-per-virtual-pipeline-stage", "5"),)),
    "mlp_cuda_graphs": Switch((("--cuda-graph-impl", "transformer_engine"), ("--cuda-graph-modules", ("mlp",)))),
    "moe_a2a_overlap": Switch((("--overlap-moe-expert-parallel-comm", None),)),
    "multi_token_prediction": Switch(),
    "native_cross_entropy_fusion": Switch((("--cross-entropy-loss-fusion", None),)),
    "no_weight_gradient_buffers": Switch(unsaid="it states a version of Transformer Engine, which no flag chooses"),
    "scoped_cuda_graphs": Switch(
        (
            ("--cuda-graph-impl", "transformer_engine"),
            ("--cuda-graph-modules", ("attn", "moe_router", "moe_preprocess")),
        )
    ),
    "sequential_experts": Switch(),
    "te_cross_entropy_fusion": Switch(
        unsaid="Megatron-core 0.18.2 and later refuse that kernel (megatron/training/arguments.py:1643)"
    ),
    "tp_comm_overlap": Switch((("--tp-comm-overlap", None),)),
    "two_optimizer_instances": Switch((("--num-distributed-optimizer-instances", "2"),)),
    "unbalanced_routing": Switch(),
    "unfused_attention": Switch((("--attention-backend", "unfused"),)),
    "unfused_norms": Switch(unsaid="a layer spec chooses the norm, no flag of its own does"),
    "unfused_swiglu": Switch((("--no-bias-swiglu-fusion", None),)),
    "unfused_gradient_accumulation": Switch((("--no-gradient-accumulation-fusion", None),)),
}
"""By the names in catalogs/engines/megatron-core.yaml; a test keeps both lists the same."""
OLDER = {"--cuda-graph-modules": "--cuda-graph-scope"}
"""Flags as Megatron called them before 0.19, and as slime's Megatron does (training/arguments.py:1456 @1dcf0daf)."""


def of_older(switches: tuple[Switch, ...]) -> tuple[Switch, ...]:
    """The same for a Megatron of before 0.19."""
    return tuple(
        replace(switch, flags=tuple((OLDER.get(name, name), value) for name, value in switch.flags))
        for switch in switches
    )


def switched(plan: Plan, launcher: str) -> tuple[Switch, ...]:
    """Switches of a plan. Raises InputError for an engine option that no flag says."""
    out = []
    for name in settled(plan).engine_options:
        switch = SWITCHES.get(name)
        if switch is None or switch.unsaid is not None:
            raise refuse(
                plan,
                f"{launcher} does not know how engine option {name} is written as flags",
                (switch.unsaid if switch is not None else None)
                or "engine_options change what the engine keeps, and a fragment without them would not be this plan",
                f"leave {name} out of engine_options, or write its flags by hand",
                "engine_options",
            )
        out.append(switch)
    if settled(plan).activation_offload and OFFLOADED not in out:
        out.append(OFFLOADED)
    return tuple(out)
