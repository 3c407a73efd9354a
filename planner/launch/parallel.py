"""Megatron's flags for the decisions of a plan: degrees, pipeline split, recomputation, batch, precision, optimizer."""

from __future__ import annotations

from planner.formulas.stages import chunk_layers
from planner.launch.script import Array, Flag, Shell, refuse
from planner.search.decisions import recompute_flags
from planner.search.plan import Plan

OPTIMIZERS: dict[str, tuple[Flag, ...]] = {
    "adamw": (("--optimizer", "adam"),),
    "sgd": (("--optimizer", "sgd"), ("--sgd-momentum", "0.0")),
    "sgd-momentum": (("--optimizer", "sgd"), ("--sgd-momentum", "0.9")),
}
PRECISIONS: dict[str, tuple[Flag, ...]] = {
    "fp32": (),
    "bf16": (("--bf16", None),),
    "fp16": (("--fp16", None),),
    "fp8": (("--bf16", None), ("--fp8-format", "hybrid")),
}

ENGINE_OPTIONS: dict[str, tuple[Flag, ...]] = {"tp_comm_overlap": (("--tp-comm-overlap", None),)}
"""Flags of the switches that an engine's catalog file offers."""
STAGE_RECOMPUTED = "STAGE_RECOMPUTED"
OFFLOADED: tuple[Flag, ...] = (
    ("--fine-grained-activation-offloading", None),
    ("--offload-modules", ("attn_norm", "qkv_linear", "core_attn", "attn_proj", "mlp_norm", "expert_fc1", "moe_act")),
)
"""layout.activation_offload, as catalogs/engines/megatron-core.yaml counts it."""


def refuse_unspoken(plan: Plan, launcher: str) -> None:
    """Raise InputError for what no flag of Megatron expresses."""
    problem = plan.problem
    optimizer = problem.optimizers[plan.layout["optimizer"]].id
    if problem.scenario.adapter is not None:
        raise refuse(
            plan,
            f"{launcher} has no flags for low-rank adapters",
            "the scenario trains an adapter on a frozen base",
            "an engine with adapters, or no adapter:",
            "adapter",
        )
    if optimizer not in OPTIMIZERS:
        raise refuse(
            plan,
            f"{launcher} does not speak optimizer {optimizer}",
            f"it speaks {', '.join(OPTIMIZERS)}",
            "optimizer: adamw",
            "optimizer",
        )
    if problem.precision.id not in PRECISIONS:
        raise refuse(
            plan,
            f"{launcher} does not speak precision {problem.precision.id}",
            f"it speaks {', '.join(PRECISIONS)}",
            "precision: bf16",
            "precision",
        )
    unspoken = [name for name in problem.scenario.engine_options if name not in ENGINE_OPTIONS]
    if unspoken:
        raise refuse(
            plan,
            f"{launcher} does not know how engine option {unspoken[0]} is written as flags",
            "engine_options change what the engine keeps, and a fragment without them would not be this plan",
            f"leave {unspoken[0]} out of engine_options, or write its flags by hand",
            "engine_options",
        )


def two_pools(plan: Plan) -> tuple[str, ...]:
    """How the nodes of a pipeline over two pools are ordered. Raises InputError where they differ in GPUs a host."""
    problem, later = plan.problem, plan.problem.later
    if later is None:
        return ()
    each, there = (p.node.gpus_per_host or p.node.gpus_per_node for p in (problem, later))
    if each != there:
        raise refuse(
            plan,
            "one torchrun line starts as many ranks on every host",
            f"{problem.node.id} has {each} GPUs a host and {later.node.id} {there}",
            "pools with as many GPUs a host",
            "layout",
            "later_stages_on",
        )
    first, rest = problem.first_gpus // each, (plan.layout["num_gpus"] - problem.first_gpus) // each
    return (
        f"NODE_RANK 0 to {first - 1} are {problem.node.id}, {first} to {first + rest - 1} {later.node.id}: pipeline "
        f"stages 0 to {plan.first_stages - 1}, and {plan.first_stages} to {len(plan.layers) - 1}.",
    )


def parallel(plan: Plan) -> Array:
    """Degrees, and how layers fall on stages."""
    lay = plan.layout
    flags: list[Flag] = [
        ("--tensor-model-parallel-size", str(lay["tensor_parallel"])),
        ("--pipeline-model-parallel-size", str(lay["pipeline_parallel"])),
        ("--context-parallel-size", str(lay["context_parallel"])),
    ]
    if lay["sequence_parallel"]:
        flags.append(("--sequence-parallel", None))
    if plan.problem.scenario.cluster.rank_order == "tp_pp_dp":
        flags.append(("--use-tp-pp-dp-mapping", None))
    for name in plan.problem.scenario.engine_options:
        flags += ENGINE_OPTIONS[name]
    if plan.problem.scenario.layout.activation_offload:
        flags += OFFLOADED
    if plan.problem.architecture.is_moe:
        flags.append(("--expert-model-parallel-size", str(lay["expert_parallel"])))
        flags.append(("--expert-tensor-parallel-size", str(lay["expert_tensor_parallel"])))
    return Array("PARALLEL_ARGS", (*flags, *pipeline_split(plan.layers, lay["virtual_pipeline"])))


def pipeline_split(layers: tuple[int, ...], chunks: int) -> tuple[Flag, ...]:
    """Layers of each stage: nothing where even, first and last where only they differ, else the layout string.

    Megatron divides the layers between the first and the last stage evenly; each stage's layers over its chunks.
    """
    virtual: tuple[Flag, ...] = ()
    if chunks > 1:
        virtual = (("--num-virtual-stages-per-pipeline-rank", str(chunks)),)
    alike = all(count % chunks == 0 for count in layers)
    if alike and len(set(layers)) == 1:
        return virtual
    if alike and len(set(layers[1:-1])) <= 1:
        ends = (
            ("--decoder-first-pipeline-num-layers", str(layers[0])),
            ("--decoder-last-pipeline-num-layers", str(layers[-1])),
        )
        return (*virtual, *ends)
    return (("--pipeline-model-parallel-layout", layout_string(layers, chunks)),)


def layout_string(layers: tuple[int, ...], chunks: int) -> str:
    """Megatron's layout: E embedding, t a layer, L loss, | between virtual stages, all first chunks before all second.

    >>> layout_string((7, 8, 8, 7), 1)
    'Et*7|t*8|t*8|t*7L'
    """
    each = [chunk_layers(count, chunks) for count in layers]
    parts = [f"t*{stage[chunk]}" for chunk in range(chunks) for stage in each]
    return "E" + "|".join(parts) + "L"


def recomputed_by_stage(plan: Plan) -> tuple[int, ...]:
    """Recomputed layers of each stage, where they differ and each node belongs to one stage; else nothing.

    Megatron reads its flags in each process, so that each node may be given its own number.
    """
    flags, lay = recompute_flags(plan), plan.layout
    _, each = machines(plan)
    whole = lay["num_gpus"] // lay["pipeline_parallel"] % each == 0
    usual = plan.problem.scenario.cluster.rank_order == "default"
    if flags.granularity != "full" or flags.num_layers is not None or flags.method != "block" or not (whole and usual):
        return ()
    return tuple(count // lay["virtual_pipeline"] for count in plan.recomputed)


def recomputation(plan: Plan, by_stage: tuple[int, ...] = ()) -> tuple[Array | None, str | None]:
    """(flags, remark) of recomputed layers. Raises InputError where one flag cannot say it for all stages."""
    flags = recompute_flags(plan)
    modules = plan.problem.scenario.layout.recompute_modules
    if flags.granularity == "none":
        if not modules:
            return None, None
        selective: tuple[Flag, ...] = (
            ("--recompute-granularity", "selective"),
            ("--recompute-modules", tuple(modules)),
        )
        return Array("RECOMPUTE_ARGS", selective), None
    if modules:
        raise refuse(
            plan,
            "Megatron recomputes whole layers or single modules, not both",
            f"the plan recomputes {max(plan.recomputed)} whole layers a stage and the modules {', '.join(modules)}",
            "layout.recomputed_layers: 0, or leave layout.recompute_modules out",
            "layout",
            "recompute_modules",
        )
    if by_stage:
        number = Shell(f'"${{{STAGE_RECOMPUTED}[$((NODE_RANK * {len(by_stage)} / NUM_NODES))]}}"')
        own: tuple[Flag, ...] = (
            ("--recompute-granularity", "full"),
            ("--recompute-method", "block"),
            ("--recompute-num-layers", number),
        )
        remark = f"Stages recompute different numbers of layers: {STAGE_RECOMPUTED} is read by the rank of the node."
        return Array("RECOMPUTE_ARGS", own), remark
    if flags.num_layers is None or flags.method is None:
        raise refuse(
            plan,
            "stages recompute different numbers of layers, which one --recompute-num-layers cannot say",
            "recomputed layers of each stage: " + " ".join(map(str, plan.recomputed)),
            "layout.recompute: uniform",
            "layout",
            "recompute",
        )
    return (
        Array(
            "RECOMPUTE_ARGS",
            (
                ("--recompute-granularity", flags.granularity),
                ("--recompute-method", flags.method),
                ("--recompute-num-layers", str(flags.num_layers)),
            ),
        ),
        None,
    )


def batch(plan: Plan) -> Array:
    """Micro-batch, batch and sequence length."""
    lay = plan.layout
    positions = max(lay["sequence_length"], plan.problem.architecture.learned_positions or 0)
    return Array(
        "BATCH_ARGS",
        (
            ("--micro-batch-size", str(lay["micro_batch_size"])),
            ("--global-batch-size", str(lay["global_batch_size"])),
            ("--seq-length", str(lay["sequence_length"])),
            ("--max-position-embeddings", str(positions)),
        ),
    )


def precision(plan: Plan) -> Array:
    """Number formats, and the kernels that the memory model assumes."""
    problem = plan.problem
    flags = list(PRECISIONS[problem.precision.id])
    if problem.precision.id != "fp32" and problem.gradient_bytes == 4:
        flags.append(("--accumulate-allreduce-grads-in-fp32", None))
    if problem.engine.fused_attention:
        flags.append(("--attention-backend", "flash"))
    flags.append(("--attention-dropout", f"{problem.architecture.attention_dropout:g}"))
    flags.append(("--hidden-dropout", f"{problem.architecture.hidden_dropout:g}"))
    return Array("PRECISION_ARGS", tuple(flags))


def optimizer(plan: Plan, *, overlap: bool) -> Array:
    """Optimizer, its sharding, and where its state lies."""
    problem, lay = plan.problem, plan.layout
    flags = list(OPTIMIZERS[problem.optimizers[lay["optimizer"]].id])
    if lay["zero_stage"] == 1:
        flags.append(("--use-distributed-optimizer", None))
    if overlap and problem.engine.overlap.data > 0 and lay["data_parallel"] * lay["context_parallel"] > 1:
        flags.append(("--overlap-grad-reduce", None))
        if lay["zero_stage"] == 1:
            flags.append(("--overlap-param-gather", None))
    if problem.scenario.layout.optimizer_offload:
        flags += [
            ("--optimizer-cpu-offload", None),
            ("--use-precision-aware-optimizer", None),
            ("--overlap-cpu-optimizer-d2h-h2d", None),
        ]
    return Array("OPTIMIZER_ARGS", tuple(flags))


def machines(plan: Plan) -> tuple[int, int]:
    """(hosts, GPUs used on each)."""
    node, count = plan.problem.node, plan.layout["num_gpus"]
    each = min(count, node.gpus_per_host or node.gpus_per_node)
    return count // each, each
