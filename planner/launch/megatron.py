"""Megatron-LM: the plan and the network's shape as flags of pretrain_gpt.py."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import parallel
from planner.launch.network import shape
from planner.launch.script import Script, check_flags, flag_table, render, without_defaults
from planner.launch.switches import switched
from planner.search.plan import Plan
from planner.search.search import Outcome

NAME = "megatron"
FILE = "plan.sh"
TABLE = "megatron_0192.json"


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The launch fragment of a plan. Raises InputError for what Megatron's flags cannot say."""
    plan = outcome.plan
    assert plan is not None
    parallel.refuse_unspoken(plan, NAME)
    switches = switched(plan, NAME)
    model, remarks = shape(plan, NAME)
    by_stage = parallel.recomputed_by_stage(plan)
    again, remark = parallel.recomputation(plan, by_stage)
    arrays = [model, parallel.parallel(plan, switches), parallel.batch(plan), parallel.precision(plan)]
    arrays += [again] if again is not None else []
    arrays.append(parallel.optimizer(plan, overlap=True))
    table_name, table = flag_table(catalog, TABLE)
    check_flags(arrays, [table])
    hosts, each = parallel.machines(plan)
    apart = bool(by_stage) and parallel.shares_nodes(plan)
    script = Script(
        speaks=f"{plan.problem.engine.name}, {plan.problem.engine.version}",
        checked_against=f"the option table of {table_name}",
        exports=(*one_connection(plan), *(export for switch in switches for export in switch.exports)),
        variables=(
            ("NUM_NODES", hosts),
            ("GPUS_PER_NODE", each),
            *([(parallel.STAGE_RECOMPUTED, by_stage)] if by_stage else []),
        ),
        arrays=without_defaults(arrays, [table]),
        remarks=(*remarks, *([remark] if remark else []), *parallel.two_pools(plan), *parallel.needs_apex(plan)),
        run=_run(apart),
    )
    return render(script, outcome)


def _run(apart: bool) -> tuple[str, ...]:
    """Commands that start the run; `apart` where each process must read the arrays itself."""
    start = (
        'torchrun --nnodes "$NUM_NODES" --nproc-per-node "$GPUS_PER_NODE" --node-rank "${NODE_RANK:?}" \\',
        '  --master-addr "${MASTER_ADDR:?}" --master-port "${MASTER_PORT:-29500}" \\',
    )
    if not apart:
        return (*start, '  pretrain_gpt.py "${PLAN_ARGS[@]}" "$@"')
    inner = '\'source "$0" && exec python3 pretrain_gpt.py "${PLAN_ARGS[@]}" "$@"\''
    return (*start, f'  --no-python bash -c {inner} "$0" "$@"')


def one_connection(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Before Blackwell, tensor or context parallelism needs one hardware queue (arguments.py:1411-1440)."""
    lay, gpu = plan.layout, plan.problem.gpu
    split = lay["tensor_parallel"] > 1 or lay["context_parallel"] > 1
    needed = split and gpu.vendor == "nvidia" and "Blackwell" not in gpu.chip
    return (("CUDA_DEVICE_MAX_CONNECTIONS", "1"),) if needed else ()
