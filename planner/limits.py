"""The limits and pins of a scenario: what a user could let go of, each as a small change of the scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from planner.problem import CLIFF_TEXT, RESERVED_CLIFF, Problem
from planner.schema.scenario import IntWish, NameWish


@dataclass(frozen=True)
class Limit:
    """One droppable limit or pin."""

    name: str
    """Dotted path in the scenario."""
    text: str
    """What it says, with its value and unit."""
    without: tuple[tuple[str, Any], ...]
    """Overrides that drop it."""


LAYOUT_PINS = (
    "tensor_parallel",
    "pipeline_parallel",
    "data_parallel",
    "context_parallel",
    "expert_parallel",
    "expert_tensor_parallel",
    "zero_stage",
    "recomputed_layers",
)
SMALLER_OPTIMIZERS = ("adamw-8bit", "adafactor")
"""Stand for "another optimizer": less state, other convergence; in the order of the playbook."""
SHORT_TOKENS = 512
"""Length that stands for "as short as one likes"."""


def limits_of(problem: Problem) -> tuple[Limit, ...]:
    """Every limit and pin of a scenario, those a user cares most about last."""
    scenario = problem.scenario
    layout, bounds = scenario.layout, scenario.limits
    found: list[Limit] = []

    def add(name: str, text: str, *changes: tuple[str, Any]) -> None:
        found.append(Limit(name, text, changes))

    if bounds.host_memory and problem.node.host_memory_gib is not None:
        add(
            "limits.host_memory",
            f"host memory of a node: {problem.node.host_memory_gib:.0f} GiB",
            ("limits.host_memory", False),
        )
    if bounds.tensor_parallel_inside_domain:
        add(
            "limits.tensor_parallel_inside_domain",
            "a tensor-parallel group stays inside one NVLink domain",
            ("limits.tensor_parallel_inside_domain", False),
        )
    for name in LAYOUT_PINS:
        value = getattr(layout, name)
        if value != "any":
            add(f"layout.{name}", f"{name}: {_shown(value)}", (f"layout.{name}", "any"))
    if layout.recompute_method == "uniform":
        add("layout.recompute_method", "recompute_method: uniform", ("layout.recompute_method", None))
    if layout.virtual_pipeline not in (1, "any"):
        add(
            "layout.virtual_pipeline",
            f"virtual_pipeline: {_shown(layout.virtual_pipeline)}",
            ("layout.virtual_pipeline", "any"),
        )
    if isinstance(layout.layers_per_stage, list):
        add(
            "layout.layers_per_stage",
            f"layers_per_stage: {layout.layers_per_stage}",
            ("layout.layers_per_stage", "even"),
        )
    if scenario.batch.micro_batch_size != "any":
        text = f"micro_batch_size: {_shown(scenario.batch.micro_batch_size)}"
        add("batch.micro_batch_size", text, ("batch.micro_batch_size", "any"))
    if scenario.rl is not None:
        _rl_limits(problem, add)
    elif not isinstance(scenario.batch.sequence_length, IntWish):
        text = f"sequence_length: {scenario.batch.sequence_length} tokens"
        add("batch.sequence_length", text, ("batch.sequence_length", SHORT_TOKENS))
    if not isinstance(scenario.optimizer, NameWish) and scenario.adapter is None:
        others = [name for name in SMALLER_OPTIMIZERS if name != scenario.optimizer]
        wish = {"want": scenario.optimizer, "allow": [scenario.optimizer, *others]}
        add("optimizer", f"optimizer: {scenario.optimizer}", ("optimizer", wish))
    most = max(problem.num_gpus)
    add("cluster.num_gpus", f"at most {most} GPUs", *more_gpus(problem, 64))
    if problem.headroom_from == CLIFF_TEXT:
        text = f"{problem.headroom_gib:.1f} GiB free, {CLIFF_TEXT}"
        add("limits.reserved_cliff", text, *less_headroom(problem, 0.0))
    else:
        text = f"headroom_gib: {problem.headroom_gib:.1f} ({problem.headroom_from})"
        add("limits.headroom_gib", text, *less_headroom(problem, 0.0))
    return tuple(found)


def _rl_limits(problem: Problem, add: Any) -> None:
    rl = problem.scenario.rl
    assert rl is not None
    if rl.rollout.tensor_parallel != "any":
        text = f"rollout tensor_parallel: {_shown(rl.rollout.tensor_parallel)}"
        add("rl.rollout.tensor_parallel", text, ("rl.rollout.tensor_parallel", "any"))
    if rl.rollout.gpu_memory_utilization != "any":
        text = f"gpu_memory_utilization: {_shown(rl.rollout.gpu_memory_utilization)}"
        add("rl.rollout.gpu_memory_utilization", text, ("rl.rollout.gpu_memory_utilization", "any"))
    if not isinstance(rl.response_length, IntWish):
        text = f"response_length: {rl.response_length} tokens"
        add("rl.response_length", text, ("rl.response_length", SHORT_TOKENS))


def less_headroom(problem: Problem, headroom_gib: float) -> tuple[tuple[str, Any], ...]:
    """Overrides that demand only so much headroom, the limit on reserved memory dropped where it stands in the way."""
    changes: tuple[tuple[str, Any], ...] = (("limits.headroom_gib", headroom_gib),)
    cliff = problem.usable_gib * (1 - RESERVED_CLIFF)
    if problem.scenario.limits.reserved_cliff and not problem.engine.expandable_segments and headroom_gib < cliff:
        changes = (*changes, ("limits.reserved_cliff", False))
    return changes


def more_gpus(problem: Problem, times: int) -> tuple[tuple[str, Any], ...]:
    """Overrides that allow so many times the GPUs, in whole nodes."""
    per_node, most = problem.node.gpus_per_node, max(problem.num_gpus)
    wanted = most * times
    if wanted > per_node:
        wanted = -(-wanted // per_node) * per_node
    counts = [n for n in (most * 2**i for i in range(1, 20)) if n <= wanted]
    legal = [n for n in counts if n % per_node == 0 or (n < per_node and per_node % n == 0)] or [wanted]
    return (("cluster.max_gpus", None), ("cluster.num_gpus", sorted({*problem.num_gpus, *legal})))


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


def overrides(limits: Sequence[Limit]) -> dict[str, Any]:
    """The changes that drop all of these limits at once."""
    return {path: value for limit in limits for path, value in limit.without}
