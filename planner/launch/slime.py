"""slime: the plan as flags of train.py (train_async.py where it generates and trains at once)."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import parallel
from planner.launch.network import shape
from planner.launch.said import refuse_unsaid, said
from planner.launch.script import Array, Flag, Script, check_flags, flag_table, refuse, render, without_defaults
from planner.launch.settled import settled
from planner.launch.switches import of_older, switched
from planner.problem.problem import ASYNCHRONOUS
from planner.search.plan import Plan
from planner.search.search import Outcome

NAME = "slime"
FILE = "plan.sh"
TABLE = "slime_031.yaml"
VENDORS = {"amd": (("RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES", "1"),)}
"""What Ray needs beside NVIDIA's: slime docs/en/platform_support/amd_tutorial.md lines 113 and 145 @624b824a8."""
ENVIRONMENT = r"{\"env_vars\": {\"CUDA_DEVICE_MAX_CONNECTIONS\": \"1\", \"PYTHONPATH\": \"$MEGATRON_LM\"}}"
"""Of the job's processes: megatron.training is no part of what pip installs of Megatron-LM (slime's run scripts)."""
MEGATRON_TABLE = "megatron_slime_031.json"
DEFAULT_GPUS_PER_NODE = 8
KEPT_BIAS: tuple[Flag, ...] = (("--moe-router-bias-update-rate", "0"),)
"""Megatron would move the router's correction bias at each step."""

SPECS = (
    ("qwen3_next", ("slime_plugins.models.qwen3_next", "get_qwen3_next_spec")),
    ("qwen3_5", ("slime_plugins.models.qwen3_5", "get_qwen3_5_spec")),
)
"""slime's own layers for networks with linear attention, by how their model_type begins (scripts/models of v0.3.1)."""
OF_PHASES = ("trainer_stays", "rollout_sleeps", "eager", "log_prob_samples", "log_prob_tokens", "critic_model")
"""Decisions about who is awake when, and about passes; SAYS are those of them that slime has flags for."""
SAYS = {"eager", "log_prob_tokens"}


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The launch script of a plan. Raises InputError for what slime's flags cannot say."""
    plan = outcome.plan
    assert plan is not None
    if plan.rollout is None:
        raise refuse(
            plan,
            f"{NAME} launches reinforcement learning, and this is task {settled(plan).task}",
            "its flags describe rollouts and training together",
            "engine: megatron-core, and --to megatron",
            "task",
        )
    parallel.refuse_unspoken(plan, NAME)
    if plan.problem.precision.id == "fp32":
        raise refuse(plan, f"{NAME} does not speak precision fp32", "it trains in bf16 or fp16", "bf16", "precision")
    switches = of_older(switched(plan, NAME))
    refuse_unsaid(plan, {name: word for name, word in said(plan).items() if name in OF_PHASES}, SAYS, NAME)
    model, left_open = shape(plan, NAME)
    if plan.problem.architecture.router_correction_bias:
        model = Array(model.name, (*model.flags, *KEPT_BIAS))
    spec = next((s for kind, s in SPECS if plan.problem.architecture.model_type.startswith(kind)), None)
    if spec is not None:
        model = Array(model.name, (("--spec", spec), *model.flags))
    again, remark = parallel.recomputation(plan, ())
    arrays = [model, _cluster(plan), _rollout(plan), parallel.parallel(plan, switches), _batch(plan)]
    arrays += [parallel.precision(plan), *([again] if again is not None else [])]
    arrays += [parallel.optimizer(plan, overlap=False), _sglang(plan)]
    own_name, own = flag_table(catalog, TABLE)
    megatron_name, megatron = flag_table(catalog, MEGATRON_TABLE)
    check_flags(arrays, [own, megatron])
    script = Script(
        speaks=f"{plan.problem.engine.name}, {plan.problem.engine.version}",
        checked_against=f"the option tables of {own_name} and {megatron_name}",
        exports=(
            ("CUDA_DEVICE_MAX_CONNECTIONS", "1"),
            *VENDORS.get(plan.problem.gpu.vendor, ()),
            *(export for switch in switches for export in switch.exports),
        ),
        variables=(),
        arrays=without_defaults(arrays, [own, megatron]),
        remarks=(*left_open, *_remarks(plan), *([remark] if remark else [])),
        run=_run(plan),
    )
    return render(script, outcome)


def _run(plan: Plan) -> tuple[str, ...]:
    """Start Ray on this node as its head, and the run in it; other nodes join by themselves."""
    program = "train_async.py" if plan.problem.placement == ASYNCHRONOUS else "train.py"
    rl = settled(plan).rl
    assert rl is not None
    reference = (
        ['  --ref-load "${REF_LOAD:?FIXME: checkpoint of the frozen reference}" --use-kl-loss']
        if rl.reference_model
        else []
    )
    gpus = _gpus_per_node(plan)
    return (
        "CHECKPOINT_ARGS=(",
        '  --hf-checkpoint "${HF_CHECKPOINT:?FIXME: folder of the Hugging Face checkpoint}"',
        *reference,
        ")",
        'MEGATRON_LM="${MEGATRON_LM:?FIXME: folder of the Megatron-LM that slime pins}"',
        "DATA_ARGS=(",
        '  --prompt-data "${PROMPT_DATA:?FIXME: file of prompts}"',
        '  --num-rollout "${NUM_ROLLOUT:?FIXME: rollouts of the run}"',
        '  --rm-type "${RM_TYPE:?FIXME: reward, such as deepscaler or math}"',
        ")",
        f'# On every other node first: ray start --address "$MASTER_ADDR:6379" --num-gpus {gpus}',
        f'ray start --head --node-ip-address "${{MASTER_ADDR:?FIXME: address of this node}}" --num-gpus {gpus}',
        'ray job submit --address "http://127.0.0.1:8265" \\',
        f'  --runtime-env-json "{ENVIRONMENT}" \\',
        f'  -- python3 {program} "${{PLAN_ARGS[@]}}" "${{CHECKPOINT_ARGS[@]}}" "${{DATA_ARGS[@]}}" "$@"',
    )


def _remarks(plan: Plan) -> list[str]:
    problem, rl = plan.problem, settled(plan).rl
    out = [
        "Samples are packed up to --max-tokens-per-gpu: the memory is that of the plan's micro-batches at full length; "
        "the step is shorter than the plan's where samples are."
    ]
    if rl is not None and rl.reference_model:
        out.append("The plan counts a frozen reference model: --ref-load and --use-kl-loss; --kl-loss-coef is yours.")
    if problem.gpu.vendor in VENDORS:
        out.append(
            "slime's guide for AMD (docs/en/platform_support/amd_tutorial.md @624b824a8) needs its ROCm image, turns "
            "gradient accumulation fusion off (engine_options: [unfused_gradient_accumulation]) and offloads neither "
            "trainer nor rollout (--no-offload-train, --no-offload-rollout). The plan counts a trainer that gives its "
            "memory back while samples are generated: without offload add its weights, gradients and optimizer there."
        )
    held = problem.rollout_precision
    if held is not None and held.quantised:
        out.append(
            f"The plan counts rollout weights in {held.id}: give a checkpoint in it as --hf-checkpoint; slime sends "
            "weights in the format that its config.json names."
        )
    if problem.generating.node.id != problem.node.id:
        out.append(
            f"slime sorts nodes by address and trains on the lowest (ray/placement_group.py): {problem.node.id} must "
            f"have the lower addresses, {problem.generating.node.id} the higher ones."
        )
    return out


def _gpus_per_node(plan: Plan) -> int:
    _, each = parallel.machines(plan)
    if plan.problem.colocated or plan.rollout is None:
        return each
    other = plan.problem.generating.node
    return max(each, min(plan.rollout.num_gpus, other.gpus_per_host or other.gpus_per_node))


def _cluster(plan: Plan) -> Array:
    hosts, each = parallel.machines(plan)
    flags: tuple[Flag, ...] = (("--actor-num-nodes", str(hosts)), ("--actor-num-gpus-per-node", str(each)))
    if _gpus_per_node(plan) != DEFAULT_GPUS_PER_NODE:
        flags = (*flags, ("--num-gpus-per-node", str(_gpus_per_node(plan))))
    if plan.problem.colocated:
        flags = (("--colocate", None), *flags)
    elif plan.rollout is not None:
        flags = (*flags, ("--rollout-num-gpus", str(plan.rollout.num_gpus)))
    return Array("CLUSTER_ARGS", flags)


def _rollout(plan: Plan) -> Array:
    """What one rollout generates, and in how many optimizer steps it is used."""
    rl, wish = settled(plan).rl, plan.wish
    assert rl is not None
    flags: tuple[Flag, ...] = (
        ("--advantage-estimator", rl.algorithm),
        ("--rollout-batch-size", str(wish.rollout_batch_size)),
        ("--n-samples-per-prompt", str(wish.n_samples_per_prompt)),
        ("--num-steps-per-rollout", str(rl.steps_per_rollout)),
        ("--rollout-max-response-len", str(wish.response_length)),
        ("--rollout-max-context-len", str(plan.layout["sequence_length"])),
        ("--balance-data", None),
    )
    return Array("ROLLOUT_ARGS", flags)


def _batch(plan: Plan) -> Array:
    """Micro-batches, packed or fixed; slime sets the position limit to the sequence length itself.

    Megatron wants that length in 2 * context_parallel pieces; slime pads sequences to them.
    """
    lay = plan.layout
    pieces = 2 * lay["context_parallel"] if lay["context_parallel"] > 1 else 1
    flags: tuple[Flag, ...] = (("--micro-batch-size", str(lay["micro_batch_size"])),)
    if lay["max_tokens"]:
        flags = (("--use-dynamic-batch-size", None), ("--max-tokens-per-gpu", str(lay["max_tokens"])))
        if settled(plan).log_prob_tokens is not None:
            flags = (*flags, ("--log-probs-max-tokens-per-gpu", str(settled(plan).log_prob_tokens)))
    flags = (
        *flags,
        ("--global-batch-size", str(lay["global_batch_size"])),
        ("--seq-length", str(-(-lay["sequence_length"] // pieces) * pieces)),
    )
    return Array("BATCH_ARGS", flags)


def _sglang(plan: Plan) -> Array:
    assert plan.rollout is not None
    flags: tuple[Flag, ...] = (
        ("--rollout-num-gpus-per-engine", str(plan.rollout.tensor_parallel)),
        ("--sglang-mem-fraction-static", f"{plan.rollout.gpu_memory_utilization:g}"),
    )
    if plan.rollout.max_concurrency is not None:
        flags = (*flags, ("--sglang-max-running-requests", str(plan.rollout.max_concurrency)))
    rl = settled(plan).rl
    if rl is not None and not rl.rollout.cuda_graphs:
        flags = (*flags, ("--sglang-disable-cuda-graph", None))
    return Array("SGLANG_ARGS", flags)
