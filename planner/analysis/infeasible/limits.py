"""The limits and pins of a scenario: what a user could let go of, each as a small change of the scenario."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from planner.analysis.changes import less_headroom, more_gpus, round_batch
from planner.inputs.document import json_value
from planner.problem.machines import CLIFF_TEXT
from planner.problem.problem import Problem, Question, host_memory_gib
from planner.problem.stage_choices import wider_splits
from planner.schema.choices import IntRange, IntWish, NameWish


@dataclass(frozen=True)
class Limit:
    """One droppable limit or pin."""

    name: str
    """Dotted path in the scenario."""
    text: str
    """What it says, with its value and unit."""
    without: tuple[tuple[str, Any], ...]
    """Overrides that drop it."""

    @property
    def falls_back_to(self) -> str:
        """What stands in the file instead where it is dropped: `limits.headroom_gib: 0.0`."""
        return ", ".join(f"{path}: {json_value(path, value)}" for path, value in self.without)


Add = Callable[..., None]
LAYOUT_PINS = {
    "tensor_parallel": "GPUs a layer",
    "pipeline_parallel": "stages",
    "data_parallel": "copies of the model",
    "context_parallel": "GPUs a sequence",
    "expert_parallel": "GPUs a set of experts",
    "expert_tensor_parallel": "GPUs an expert",
    "zero_stage": "as ZeRO stage",
    "recomputed_layers": "layers of each stage",
}
"""Pins of the layout, with the unit of their values."""
SMALLER_OPTIMIZERS = ("adamw-8bit", "adafactor")
"""Stand for "another optimizer": less state, other convergence; in the order of the playbook."""
SHORT_TOKENS = 512
"""Length that stands for "as short as one likes"."""
SMALL_BASE = "nf4"
"""Stands for "the frozen base in fewer bits"."""
MANY_SEQUENCES = 2**20
"""Stands for "as many sequences as one likes"."""


def limits_of(question: Question) -> tuple[Limit, ...]:
    """Every limit and pin of a scenario, those a user cares most about last."""
    problem = question.first
    layout, wider = problem.scenario.layout, wider_splits(problem)
    found: list[Limit] = []

    def add(name: str, text: str, *changes: tuple[str, Any]) -> None:
        found.append(Limit(name, text, changes))

    _machine_limits(problem, add)
    for name, unit in LAYOUT_PINS.items():
        value = getattr(layout, name)
        if value != "any":
            add(f"layout.{name}", f"{name}: {shown(value)} {_one(value, unit)}", (f"layout.{name}", "any"))
    if layout.sequence_parallel is False:
        text = "sequence_parallel: off, 1 whole copy of the norms' activations on each GPU"
        add("layout.sequence_parallel", text, ("layout.sequence_parallel", None))
    if layout.recompute_method == "uniform":
        text = "recompute_method: uniform, all layers of a stage or 0"
        add("layout.recompute_method", text, ("layout.recompute_method", None))
    if layout.virtual_pipeline not in (1, "any"):
        text = f"virtual_pipeline: {shown(layout.virtual_pipeline)} chunks a stage"
        add("layout.virtual_pipeline", text, ("layout.virtual_pipeline", "any"))
    if layout.schedule == "interleaved":
        add("layout.schedule", "schedule: interleaved, at least 2 chunks a stage", ("layout.schedule", None))
    if isinstance(layout.layers_per_stage, list):
        text = f"layers_per_stage: {shown(layout.layers_per_stage)} layers"
        add("layout.layers_per_stage", text, ("layout.layers_per_stage", wider or "even"))
    elif wider is not None:
        text = f"layers_per_stage: even, as many of the {problem.architecture.num_hidden_layers} layers on each stage"
        add("layout.layers_per_stage", text, ("layout.layers_per_stage", wider))
    _work_limits(question, add)
    return tuple(found)


def _machine_limits(problem: Problem, add: Add) -> None:
    bounds, node, host = problem.scenario.limits, problem.node, host_memory_gib(problem)
    if bounds.host_memory and host is not None:
        text = f"host memory of a node: {host:.0f} GiB"
        add("limits.host_memory", text, ("limits.host_memory", False))
    if bounds.tensor_parallel_inside_domain and problem.engine.tensor_parallel:
        size = 2 if node.links.kind == "bridged_pairs" else node.gpus_per_node
        text = f"a tensor-parallel group stays inside one NVLink domain or host of {size} GPUs"
        add("limits.tensor_parallel_inside_domain", text, ("limits.tensor_parallel_inside_domain", False))


def _work_limits(question: Question, add: Add) -> None:
    problem = question.first
    scenario, batch = problem.scenario, problem.scenario.batch
    if isinstance(batch.micro_batch_size, IntRange):
        most = scenario.limits.max_sequences_per_micro_batch
        changes = ("limits.max_sequences_per_micro_batch", MANY_SEQUENCES)
        add("limits.max_sequences_per_micro_batch", f"max_sequences_per_micro_batch: {most} sequences", changes)
    if batch.micro_batch_size != "any":
        text = f"micro_batch_size: {shown(batch.micro_batch_size)} {_one(batch.micro_batch_size, 'sequences')}"
        add("batch.micro_batch_size", text, ("batch.micro_batch_size", "any"))
    if scenario.adapter is not None and scenario.adapter.base_precision != SMALL_BASE:
        text = f"base_precision: {problem.base_precision.id}, {problem.base_weight_bytes:g} B a frozen weight"
        add("adapter.base_precision", text, ("adapter.base_precision", SMALL_BASE))
    if scenario.rl is not None:
        _rl_limits(problem, add)
    else:
        size = batch.global_batch_size or 1
        changes = ("batch.global_batch_size", round_batch(problem, size))
        add("batch.global_batch_size", f"global_batch_size: {size} sequences a step", changes)
        _length(batch.sequence_length, "batch.sequence_length", add)
    if scenario.adapter is None and not isinstance(scenario.optimizer, NameWish):
        others = [name for name in SMALLER_OPTIMIZERS if name != scenario.optimizer]
        wish = {"want": scenario.optimizer, "allow": [scenario.optimizer, *others]}
        add("optimizer", f"optimizer: {scenario.optimizer}, {state_text(problem)}", ("optimizer", wish))
    add("cluster.num_gpus", f"at most {gpus_text(max(question.total_gpus))}", *more_gpus(question, 64))
    if not problem.machines.demanded_headroom_gib:
        return
    if problem.headroom_from == CLIFF_TEXT:
        text = f"{problem.headroom_gib:.1f} GiB free, {CLIFF_TEXT}"
        add("limits.reserved_cliff", text, *less_headroom(problem, 0.0))
    else:
        text = f"headroom_gib: {problem.headroom_gib:.1f} GiB ({problem.headroom_from})"
        add("limits.headroom_gib", text, *less_headroom(problem, 0.0))


def _rl_limits(problem: Problem, add: Add) -> None:
    rl = problem.scenario.rl
    assert rl is not None
    fraction, opened = rl.rollout.gpu_memory_utilization, {path for path, _ in problem.settings}
    if rl.trainer_on_gpu:
        text = f"trainer_on_gpu: {', '.join(rl.trainer_on_gpu)} while samples are generated"
        add("rl.trainer_on_gpu", text, ("rl.trainer_on_gpu", []))
    if not rl.rollout.sleeps:
        add("rl.rollout.sleeps", "a rollout engine that never sleeps", ("rl.rollout.sleeps", True))
    if rl.rollout.tensor_parallel != "any" and "rl.rollout.tensor_parallel" not in opened:
        text = f"rollout tensor_parallel: {shown(rl.rollout.tensor_parallel)} GPUs an engine"
        add("rl.rollout.tensor_parallel", text, ("rl.rollout.tensor_parallel", "any"))
    if fraction != "any" and "rl.rollout.gpu_memory_utilization" not in opened:
        text = f"gpu_memory_utilization: {shown(fraction)} of {problem.usable_gib:.1f} GiB"
        add("rl.rollout.gpu_memory_utilization", text, ("rl.rollout.gpu_memory_utilization", "any"))
    if isinstance(rl.rollout_batch_size, int):
        text = f"rollout_batch_size: {rl.rollout_batch_size} prompts a rollout"
        changes = ("rl.rollout_batch_size", round_batch(problem, rl.rollout_batch_size, rl.steps_per_rollout))
        add("rl.rollout_batch_size", text, changes)
    _length(rl.response_length, "rl.response_length", add)


def _length(value: int | IntWish | None, path: str, add: Add) -> None:
    """The length that is left when every wish is given up; dropped, it may be as short as one likes."""
    choices = value.allow if isinstance(value, IntWish) else [value or 0]
    least = min(choices)
    if least > SHORT_TOKENS:
        want = value.want if isinstance(value, IntWish) else least
        wish = {"want": want, "allow": sorted({want, *choices, SHORT_TOKENS}, reverse=True)}
        name = path.split(".")[1]
        add(path, f"{name}: {'at least ' if len(choices) > 1 else ''}{least} tokens", (path, wish))


def _one(value: object, units: str) -> str:
    """The unit of one: `1 GPU a layer`."""
    if value != 1:
        return units
    for many, one in (("copies", "copy"), ("GPUs", "GPU"), ("stages", "stage"), ("layers", "layer"), ("ences", "ence")):
        units = units.replace(many, one, 1)
    return units


def state_text(problem: Problem) -> str:
    """`12 B of state a parameter`."""
    return f"{float(problem.optimizer_state_bytes[0]):g} B of state a parameter"


def gpus_text(count: int) -> str:
    """`one GPU` or `8 GPUs`."""
    return "1 GPU" if count == 1 else f"{count} GPUs"


def shown(value: object) -> str:
    """A choice as one reads it: `4`, `1 or 2`, `at least 2`."""
    if isinstance(value, list):
        return " or ".join(map(str, value)) if len(value) < 4 else ", ".join(map(str, value))
    if isinstance(value, IntRange):
        ends = [f"at least {value.min}"] if value.min is not None else []
        ends += [f"at most {value.max}"] if value.max is not None else []
        return " and ".join(ends) or "any"
    return str(value)


def overrides(limits: Sequence[Limit]) -> dict[str, Any]:
    """The changes that drop all of these limits at once."""
    return {path: value for limit in limits for path, value in limit.without}
