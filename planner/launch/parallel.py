"""Megatron's flags for the decisions of a plan: degrees, pipeline split, recomputation, batch, precision, optimizer."""

from __future__ import annotations

from planner.errors import InputError
from planner.formulas.stages import stage_chunks
from planner.launch.script import Array, Flag, Shell, refuse
from planner.launch.settled import settled
from planner.launch.switches import Switch
from planner.schema.engine import can_name
from planner.search.decisions import recompute_flags
from planner.search.plan import Plan

OPTIMIZERS: dict[str, tuple[Flag, ...]] = {
    "adamw": (("--optimizer", "adam"),),
    "sgd": (("--optimizer", "sgd"), ("--sgd-momentum", "0.0")),
    "sgd-momentum": (("--optimizer", "sgd"), ("--sgd-momentum", "0.9")),
    "muon": (("--optimizer", "muon"),),
    "lion": (("--optimizer", "lion"),),
}
PRECISIONS: dict[str, tuple[Flag, ...]] = {
    "fp32": (),
    "bf16": (("--bf16", None),),
    "fp16": (("--fp16", None),),
    "fp8": (("--bf16", None), ("--fp8-format", "hybrid")),
}

STAGE_RECOMPUTED = "STAGE_RECOMPUTED"
DEFAULT_DROPOUT = 0.1
"""Of both dropouts in Megatron's parser."""


def refuse_unspoken(plan: Plan, launcher: str) -> None:
    """Raise InputError for what no flag of Megatron expresses."""
    problem = plan.problem
    optimizer = problem.optimizers[plan.layout["optimizer"]].id
    if settled(plan).adapter is not None:
        raise refuse(
            plan,
            f"{launcher} has no flags for low-rank adapters",
            "the scenario trains an adapter on a frozen base",
            "an engine with adapters, or no adapter:",
            "adapter",
        )
    spoken = [name for name in OPTIMIZERS if can_name(problem.engine, name)]
    if optimizer not in spoken:
        raise refuse(
            plan,
            f"{launcher} does not speak optimizer {optimizer}",
            f"it speaks {', '.join(spoken)}",
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
    if problem.precision.id == "fp32" and problem.engine.fused_attention:
        raise refuse(
            plan,
            f"{launcher} has no fused attention in fp32",
            "Transformer Engine 2.17 takes fp16, bf16 or fp8 there, and the plan counts fused attention",
            "engine_options: [unfused_attention], which keeps the scores, or precision: bf16",
            "precision",
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


def parallel(plan: Plan, switches: tuple[Switch, ...]) -> Array:
    """Degrees, switches of the engine, and how layers fall on stages."""
    lay = plan.layout
    flags: list[Flag] = [
        ("--tensor-model-parallel-size", str(lay["tensor_parallel"])),
        ("--pipeline-model-parallel-size", str(lay["pipeline_parallel"])),
        ("--context-parallel-size", str(lay["context_parallel"])),
    ]
    if lay["sequence_parallel"]:
        flags.append(("--sequence-parallel", None))
    if settled(plan).rank_order == "tp_pp_dp":
        flags.append(("--use-tp-pp-dp-mapping", None))
    for switch in switches:
        flags += switch.flags
    if plan.problem.architecture.is_moe:
        flags.append(("--expert-model-parallel-size", str(lay["expert_parallel"])))
        flags.append(("--expert-tensor-parallel-size", str(lay["expert_tensor_parallel"])))
    return Array("PARALLEL_ARGS", (*flags, *pipeline_split(plan.layers, lay["virtual_pipeline"])))


def pipeline_split(layers: tuple[int, ...], chunks: int) -> tuple[Flag, ...]:
    """Layers of each stage: nothing where even, first and last where only they differ, else the layout string.

    Megatron divides the layers between the first and the last stage evenly; each stage's layers over its chunks. With
    no stage between them, interleaving divides by zero (transformer_layer.py:155), so that the string says it.
    """
    virtual: tuple[Flag, ...] = ()
    if chunks > 1:
        virtual = (("--num-virtual-stages-per-pipeline-rank", str(chunks)),)
    alike = all(count % chunks == 0 for count in layers)
    if alike and len(set(layers)) == 1:
        return virtual
    if alike and len(set(layers[1:-1])) <= 1 and (len(layers) > 2 or chunks == 1):
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
    >>> layout_string((1, 2, 1), 2)
    'Et*0|t*1|t*1|t*1|t*1|t*0L'
    """
    each = stage_chunks(layers, chunks)
    parts = [f"t*{stage[chunk]}" for chunk in range(chunks) for stage in each]
    return "E" + "|".join(parts) + "L"


def recomputed_by_stage(plan: Plan) -> tuple[int, ...]:
    """Recomputed layers of each stage's chunks, where one number cannot say them; else nothing.

    Megatron reads its flags in each process, so that each stage may be given its own number. Raises InputError where
    the rank order does not tell the stage from the rank, or a stage's chunks recompute different numbers.
    """
    flags, lay = recompute_flags(plan), plan.layout
    if flags.granularity != "full" or flags.num_layers is not None:
        return ()
    chunks = lay["virtual_pipeline"]
    told = settled(plan).rank_order == "default" and flags.method == "block"
    if not told or any(count % chunks for count in plan.recomputed):
        raise _differing_stages(plan)
    return tuple(count // chunks for count in plan.recomputed)


def one_number(plan: Plan, launcher: str) -> None:
    """Raise InputError where stages, or their chunks, differ in what one option must say: layers, recomputed layers."""
    uneven, chunks = len(set(plan.layers[1:-1])) > 1, plan.layout["virtual_pipeline"]
    halves = len(plan.layers) == 2 and len(set(plan.layers)) > 1 and chunks > 1
    if any(layers % chunks for layers in plan.layers):
        raise refuse(
            plan,
            f"{launcher} cuts a stage into chunks of as many layers each",
            f"the plan has stages of {' '.join(map(str, plan.layers))} layers in {chunks} chunks",
            "layers_per_stage: even",
            "layout",
            "layers_per_stage",
        )
    if uneven or halves:
        raise refuse(
            plan,
            f"{launcher} only lets the first and the last stage differ from those between them",
            f"the plan has {' '.join(map(str, plan.layers))} layers",
            "layers_per_stage: even",
            "layout",
            "layers_per_stage",
        )
    if recompute_flags(plan).granularity == "full" and recompute_flags(plan).num_layers is None:
        raise _differing_stages(plan)


def _differing_stages(plan: Plan) -> InputError:
    return refuse(
        plan,
        "stages recompute different numbers of layers, which one --recompute-num-layers cannot say",
        "recomputed layers of each stage: " + " ".join(map(str, plan.recomputed)),
        "layout.recompute: uniform",
        "layout",
        "recompute",
    )


def shares_nodes(plan: Plan) -> bool:
    """Do several stages lie on one node, so that only a process's own rank tells its stage."""
    return bool(plan.layout["num_gpus"] // plan.layout["pipeline_parallel"] % machines(plan)[1])


def recomputation(plan: Plan, by_stage: tuple[int, ...]) -> tuple[Array | None, str | None]:
    """(flags, remark) of recomputed layers; `by_stage` from `recomputed_by_stage`, or nothing where no process can be
    given its own number. Raises InputError for whole layers beside modules, and for stages that differ."""
    flags = recompute_flags(plan)
    modules = settled(plan).recompute_modules
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
    if flags.num_layers is None and not by_stage:
        raise _differing_stages(plan)
    number, remark = str(flags.num_layers), None
    if by_stage:
        rank, count = ("RANK", str(plan.layout["num_gpus"])) if shares_nodes(plan) else ("NODE_RANK", "NUM_NODES")
        number = Shell(f'"${{{STAGE_RECOMPUTED}[$((${{{rank}:?}} * {len(by_stage)} / {count}))]}}"')
        whose = "each process reads this file" if rank == "RANK" else "the rank of the node"
        remark = f"Stages recompute different numbers of layers: {STAGE_RECOMPUTED} is read by {whose} ({rank})."
    return (
        Array(
            "RECOMPUTE_ARGS",
            (
                ("--recompute-granularity", flags.granularity),
                ("--recompute-method", flags.method),
                ("--recompute-num-layers", number),
            ),
        ),
        remark,
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
    for option, share in (
        ("--attention-dropout", problem.architecture.attention_dropout),
        ("--hidden-dropout", problem.architecture.hidden_dropout),
    ):
        flags += [(option, f"{share:g}")] if share != DEFAULT_DROPOUT else []
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
    if settled(plan).optimizer_offload:
        flags += [
            ("--optimizer-cpu-offload", None),
            ("--use-precision-aware-optimizer", None),
            ("--overlap-cpu-optimizer-d2h-h2d", None),
        ]
    return Array("OPTIMIZER_ARGS", tuple(flags))


def needs_apex(plan: Plan) -> tuple[str, ...]:
    """What Megatron's default gradient accumulation needs beside Megatron."""
    if "unfused_gradient_accumulation" in settled(plan).engine_options:
        return ()
    return (
        "Gradient accumulation is fused by default, which needs Apex' fused_weight_gradient_mlp_cuda (in NGC "
        "containers); without it: engine_options: [unfused_gradient_accumulation].",
    )


def joined_by_ray(plan: Plan) -> tuple[str, ...]:
    """How several nodes become one for a program that joins a Ray cluster, or starts one of its own node alone."""
    node = plan.problem.node
    apart = 0 if plan.rollout is None or plan.problem.colocated else plan.rollout.num_gpus
    if plan.layout["num_gpus"] + apart <= (node.gpus_per_host or node.gpus_per_node):
        return ()
    return (
        "Several nodes are one Ray cluster first: on one of them `ray start --head`, on each other `ray start "
        "--address FIRST:6379`, then this file on the first.",
    )


def machines(plan: Plan) -> tuple[int, int]:
    """(hosts, GPUs used on each)."""
    node, count = plan.problem.node, plan.layout["num_gpus"]
    each = min(count, node.gpus_per_host or node.gpus_per_node)
    return count // each, each
