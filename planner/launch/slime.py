"""slime: the plan as flags of train.py (train_async.py where it generates and trains at once)."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import parallel
from planner.launch.script import Array, Flag, Script, check_flags, flag_table, refuse, render
from planner.problem.problem import ASYNCHRONOUS
from planner.search.plan import Plan
from planner.search.search import Outcome

NAME = "slime"
TABLE = "slime_031.yaml"
MEGATRON_TABLE = "megatron_0192.json"


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The launch fragment of a plan. Raises InputError for what slime's flags cannot say."""
    plan = outcome.plan
    assert plan is not None
    if plan.rollout is None:
        raise refuse(
            plan,
            f"{NAME} launches reinforcement learning, and this is task {plan.problem.scenario.task}",
            "its flags describe rollouts and training together",
            "engine: megatron-core, and --to megatron",
            "task",
        )
    parallel.refuse_unspoken(plan, NAME)
    if plan.problem.precision.id == "fp32":
        raise refuse(plan, f"{NAME} does not speak precision fp32", "it trains in bf16 or fp16", "bf16", "precision")
    again, remark = parallel.recomputation(plan)
    arrays = [_cluster(plan), _rollout(plan), parallel.parallel(plan), _batch(plan), parallel.precision(plan)]
    arrays += [again] if again is not None else []
    arrays += [parallel.optimizer(plan, overlap=False), _sglang(plan)]
    own_name, own = flag_table(catalog, TABLE)
    megatron_name, megatron = flag_table(catalog, MEGATRON_TABLE)
    check_flags(arrays, [own, megatron])
    remarks = ["MODEL_ARGS, the network's shape, comes from slime's own scripts/models."]
    if plan.problem.scenario.rl is not None and plan.problem.scenario.rl.reference_model:
        remarks.append("The plan counts a frozen reference model: give its checkpoint (--ref-load) and your KL loss.")
    held = plan.problem.rollout_precision
    if held is not None and held.quantised:
        remarks.append(
            f"The plan counts rollout weights in {held.id}: give a checkpoint in it as --hf-checkpoint; slime sends "
            "weights in the format that its config.json names."
        )
    program = "train_async.py" if plan.problem.placement == ASYNCHRONOUS else "train.py"
    script = Script(
        speaks=f"{plan.problem.engine.name}, {plan.problem.engine.version}",
        checked_against=f"the option tables of {own_name} and {megatron_name}",
        exports=(("CUDA_DEVICE_MAX_CONNECTIONS", "1"),),
        variables=(),
        arrays=tuple(arrays),
        remarks=(*remarks, *([remark] if remark else [])),
        example=(
            "ray job submit --address http://127.0.0.1:8265 \\",
            '  --runtime-env-json \'{"env_vars": {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}}\' \\',
            f'  -- python3 {program} "${{MODEL_ARGS[@]}}" "${{PLAN_ARGS[@]}}" ...',
        ),
    )
    return render(script, outcome)


def _cluster(plan: Plan) -> Array:
    hosts, each = parallel.machines(plan)
    flags: tuple[Flag, ...] = (("--actor-num-nodes", str(hosts)), ("--actor-num-gpus-per-node", str(each)))
    if plan.problem.colocated:
        flags = (("--colocate", None), *flags)
    elif plan.rollout is not None:
        flags = (*flags, ("--rollout-num-gpus", str(plan.rollout.num_gpus)))
    return Array("CLUSTER_ARGS", flags)


def _rollout(plan: Plan) -> Array:
    """What one rollout generates, and in how many optimizer steps it is used."""
    rl, wish = plan.problem.scenario.rl, plan.wish
    assert rl is not None
    flags: tuple[Flag, ...] = (
        ("--advantage-estimator", rl.algorithm),
        ("--rollout-batch-size", str(wish.rollout_batch_size)),
        ("--n-samples-per-prompt", str(wish.n_samples_per_prompt)),
        ("--num-steps-per-rollout", str(rl.steps_per_rollout)),
        ("--rollout-max-response-len", str(wish.response_length)),
        ("--rollout-max-context-len", str(plan.layout["sequence_length"])),
    )
    return Array("ROLLOUT_ARGS", flags)


def _batch(plan: Plan) -> Array:
    """Fixed micro-batches; slime sets the position limit to the sequence length itself."""
    lay = plan.layout
    flags: tuple[Flag, ...] = (
        ("--micro-batch-size", str(lay["micro_batch_size"])),
        ("--global-batch-size", str(lay["global_batch_size"])),
        ("--seq-length", str(lay["sequence_length"])),
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
    return Array("SGLANG_ARGS", flags)
