"""Fitted constants of the time model: what each was fitted on, and catalogs with other values of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.formulas.faults import LARGEST_USUAL
from planner.inputs.catalog import Catalog
from planner.problem.problem import Problem
from planner.schema.timing import Timing

STEPS = (0.64, 1.0, 1.5625)
"""Multiples of the shipped value at which rows are predicted; a refit chooses between the first and the last."""


@dataclass(frozen=True)
class FittedConstant:
    """A constant that was set with measured speeds in view."""

    owner: str
    """Id of the engine, or of the GPU."""
    path: tuple[str, ...]
    data: str
    kind: str = "engines"
    """Folder of the catalog."""
    classes: tuple[str, ...] = ()
    """Classes of rows that it is fitted on, where they are not those that all others are."""

    @property
    def name(self) -> str:
        """Owner and field."""
        return f"{self.owner} {'.'.join(self.path)}"


EVERY_ENGINE = "every engine"
"""Owner of what no engine's file states: a default of all."""

FITTED: tuple[FittedConstant, ...] = (
    FittedConstant("h100-sxm5-80gb", ("sustained_rate", "bf16"), "dgxc, Llama 3 8B and 405B", "gpus"),
    FittedConstant("h100-sxm5-80gb", ("sustained_rate", "fp8"), "dgxc, NeMo, MLPerf, Bridge", "gpus"),
    FittedConstant("gb200-186gb", ("sustained_rate", "bf16"), "dgxc, Llama 3.1 405B", "gpus"),
    FittedConstant("gb200-186gb", ("sustained_rate", "fp8"), "dgxc, Megatron-Bridge", "gpus"),
    FittedConstant("gb300", ("sustained_rate", "fp8"), "Megatron-Bridge, Llama 3 70B", "gpus"),
    FittedConstant("h100-96gb-500w", ("sustained_rate", "bf16"), "torchtitan", "gpus"),
    FittedConstant("megatron-core", ("options", "tp_comm_overlap", "overlap.tensor"), "dgxc, 405B and GPT-3 175B"),
    FittedConstant("megatron-core", ("timing", "expert_host_us"), "experts without CUDA graphs"),
    FittedConstant("megatron-core", ("timing", "expert_sync_us"), "experts, scoped CUDA graphs"),
    FittedConstant(
        "megatron-core",
        ("options", "moe_a2a_overlap", "timing.expert_host_us"),
        "experts, exchange overlapped",
    ),
    FittedConstant("megatron-core", ("timing", "chunk_us"), "dgxc, MLPerf, NeMo: 4 to 20 chunks a stage"),
    FittedConstant("nanotron", ("timing", "host_us"), "sweep, micro-batch 1, TP 2 to 8"),
    FittedConstant("nanotron", ("timing", "host_tensor_parallel_us"), "sweep, micro-batch 1, TP 2 to 8"),
    FittedConstant("nanotron", ("timing", "send_across_ms"), "sweep, TP and PP above 1"),
    FittedConstant("nanotron", ("timing", "tensor_across_us"), "sweep, TP 16 and 32"),
    FittedConstant("nanotron", ("overlap", "data"), "sweep, ZeRO-0, 64 GPUs and more"),
    FittedConstant("nanotron", ("elementwise_factor",), "sweep, one node, TP 1"),
    FittedConstant("megatron-deepspeed", ("timing", "host_us"), "vTrain, one node, micro-batch 1"),
    FittedConstant("megatron-deepspeed", ("elementwise_factor",), "vTrain, one node, micro-batch 8"),
    FittedConstant("llm-foundry", ("elementwise_factor",), "llm-foundry A100 and H100"),
    FittedConstant("deepspeed", ("timing", "sharded_module_us"), "Qwen 7B and 72B by ZeRO-3", classes=("zero3",)),
    FittedConstant("deepspeed", ("timing", "host_process_gb_per_s"), "two processes, ZeRO-2", classes=("zero2",)),
    FittedConstant(EVERY_ENGINE, ("timing", "slower_per_doubling"), "dgxc, MLPerf: series in data parallelism"),
)
"""TRITON_SHARE of planner/formulas/attention.py was set on llm-foundry too; all else is counted or assumed."""


def value_of(fitted: FittedConstant, catalog: Catalog) -> float:
    """The shipped value."""
    if fitted.owner == EVERY_ENGINE:
        return float(getattr(Timing(), fitted.path[-1]))
    entry: Any = catalog.find(fitted.kind, fitted.owner)
    return _number(entry.options[fitted.path[1]].set if fitted.path[0] == "options" else entry, _place(fitted))


def with_value(entry: Any, path: Sequence[str], value: float) -> Any:
    """The configured engine or the GPU with one field replaced."""
    if len(path) == 1:
        return entry.model_copy(update={path[0]: value})
    before = getattr(entry, path[0])
    inside = {**before, path[1]: value} if isinstance(before, dict) else before.model_copy(update={path[1]: value})
    return entry.model_copy(update={path[0]: inside})


def rests_on(fitted: FittedConstant, problem: Problem, shipped: float) -> bool:
    """Whether the engine or GPU of a run has the constant, in its precision, and nothing that was on overrides it.

    An engine has it where its number is the `shipped` one.
    """
    if fitted.kind == "gpus":
        eight = problem.precision.compute == "fp8"
        return problem.gpu.id == fitted.owner and eight == (fitted.path[-1] == "fp8")
    if fitted.owner == EVERY_ENGINE:
        return max(problem.num_gpus) > LARGEST_USUAL
    if problem.engine.id != fitted.owner or ("expert" in fitted.path[-1] and not problem.architecture.is_moe):
        return False
    if fitted.path[0] == "options" and fitted.path[1] not in problem.scenario.engine_options:
        return False
    return _number(problem.engine, _place(fitted)) == shipped


def _place(fitted: FittedConstant) -> tuple[str, ...]:
    """Where a configured engine has it."""
    return tuple(fitted.path[2].split(".")) if fitted.path[0] == "options" else fitted.path


def _number(entry: Any, place: Sequence[str]) -> float:
    for name in place:
        entry = entry[name] if isinstance(entry, dict) else getattr(entry, name)
    return float(entry)


def allowed(fitted: FittedConstant, value: float) -> float:
    """The value, cut at 1 where it is a share."""
    share = fitted.kind == "gpus" or "overlap" in fitted.path[0] + fitted.path[-1]
    return min(value, 1.0) if share else value


def with_constant(problem: Problem, *, fitted: FittedConstant, value: float) -> Problem:
    """The problem of a run that rests on a constant, with another value of it."""
    if fitted.kind == "gpus":
        gpu = with_value(problem.gpu, fitted.path, allowed(fitted, value))
        return replace(problem, machines=replace(problem.machines, gpu=gpu))
    return replace(problem, engine=with_value(problem.engine, _place(fitted), allowed(fitted, value)))
