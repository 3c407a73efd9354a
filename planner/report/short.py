"""A plan in a few words: the one line that names a layout, wherever a layout is named."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.inputs.document import Document
from planner.problem.variants import Setting
from planner.schema.scenario import Scenario
from planner.search.named_layout import NamedLayout
from planner.search.plan import WISHES, Plan, RolloutPlan, degrees

WHERE = {"cluster.node": "on {}", "rl.placement": "{}", "rl.rollout.node": "rollout on {}"}
"""Decisions about machines, said where the scenario leaves them open."""
USUAL_OPTIMIZER = Scenario.model_fields["optimizer"].default
USUAL_PRECISION = Scenario.model_fields["precision"].default
LEGEND = (
    "layout: mbs sequences a micro-batch, or cap tokens packed into one; recompute: layers of each stage computed again"
)


@dataclass(frozen=True)
class NamedRollout:
    """What a layout line says of the rollout engine."""

    tensor_parallel: int
    gpu_memory_utilization: float
    max_concurrency: int | None
    num_gpus: int | None
    """Where it has GPUs of its own."""

    @classmethod
    def of(cls, rollout: RolloutPlan, apart: bool) -> NamedRollout:
        """The decisions among the figures of a rollout."""
        own = rollout.num_gpus if apart else None
        return cls(rollout.tensor_parallel, rollout.gpu_memory_utilization, rollout.max_concurrency, own)


def short_layout(plan: Plan) -> str:
    """The layout line of a plan: every decision that is not as usual, and every wish given up."""
    rollout = NamedRollout.of(plan.rollout, not plan.problem.colocated) if plan.rollout is not None else None
    line = layout_line(plan.named, rollout, plan.problem.settings)
    lost = [f"{WISHES[name]} {granted(plan, name)}" for name in plan.wish.given_up if name != "optimizer"]
    return ", ".join([line, *lost])


def layout_line(layout: NamedLayout, rollout: NamedRollout | None = None, settings: Sequence[Setting] = ()) -> str:
    """Two layouts of one scenario that differ in any decision have different lines; `settings` are the open ones."""
    first = f"{degrees(vars(layout))}{_sharding(layout)}"
    size = f"mbs{layout.micro_batch_size}" if layout.max_tokens_per_gpu is None else f"cap{layout.max_tokens_per_gpu}"
    first += f" {size} recompute {_counts(layout.recomputed_layers_per_stage)}"
    if len(set(layout.layers_per_stage)) > 1:
        first += f" layers {_counts(layout.layers_per_stage)}"
    engine = _engine(rollout) if rollout else ()
    return ", ".join([first, *_unusual(layout), *engine, *_machines(settings)])


def _sharding(layout: NamedLayout) -> str:
    text = f" ETP{layout.expert_tensor_parallel}" if layout.expert_tensor_parallel > 1 else ""
    text += f" ZeRO-{layout.zero_stage}" if layout.zero_stage else ""
    if layout.tensor_parallel > 1 and not layout.sequence_parallel:
        text += " no-SP"
    elif layout.tensor_parallel == 1 and layout.sequence_parallel:
        text += " SP"
    return text


def _unusual(layout: NamedLayout) -> Iterator[str]:
    """Decisions beyond the degrees that are not as they usually are."""
    if layout.later_stages_node is not None:
        yield f"stages from {layout.stages_on_node} on {layout.later_stages_node}"
    if layout.recompute_group > 1:
        yield f"groups of {layout.recompute_group}"
    if layout.recompute_modules:
        yield f"recomputed modules {' '.join(layout.recompute_modules)}"
    if layout.schedule not in ("1f1b", "interleaved"):
        yield layout.schedule
    if layout.rank_order != "default":
        yield layout.rank_order.replace("_", "-")
    if layout.optimizer != USUAL_OPTIMIZER:
        yield layout.optimizer
    if layout.optimizer_offload:
        yield "optimizer on the host"
    if layout.activation_offload:
        yield "activations on the host"
    if layout.precision != USUAL_PRECISION:
        yield layout.precision
    if layout.engine_options:
        yield f"with {' '.join(layout.engine_options)}"


def _engine(rollout: NamedRollout) -> Iterator[str]:
    text = f"rollout TP{rollout.tensor_parallel} at {rollout.gpu_memory_utilization:g}"
    if rollout.max_concurrency is not None:
        text += f" for {rollout.max_concurrency} requests"
    yield text if rollout.num_gpus is None else f"{text} on {rollout.num_gpus} GPUs of its own"


def _machines(settings: Sequence[Setting]) -> Iterator[str]:
    return (WHERE[path].format(value) for path, value in settings if path in WHERE)


def short_binding(plan: Plan) -> str:
    """Phase and stage of the peak."""
    phase = plan.binding.phase.replace("_", " ")
    several = plan.binding.stage is not None and len(plan.layers) > 1
    return f"{phase}, stage {plan.binding.stage}" if several else phase


def granted(plan: Plan, wish: str) -> str:
    """The value that a plan gives to a wish."""
    value = getattr(plan.wish, wish)
    return plan.problem.optimizers[value].id if wish == "optimizer" else f"{value:,}"


def short_wishes(plan: Plan) -> str:
    """Wishes that a plan gives up, with what it grants instead."""
    return ", ".join(f"{name} {granted(plan, name)}" for name in plan.wish.given_up) or "none"


def typed(document: Document, extra: Sequence[str] = ()) -> str:
    """A scenario and its overrides as one would type them."""
    parts = ["-" if document.name == "<stdin>" else document.name]
    for argument in (*document.overrides, *extra):
        parts += ["--set", argument]
    return " ".join(shlex.quote(part) for part in parts)


def _counts(values: tuple[int, ...]) -> str:
    """`14` where all stages agree, else runs of equal stages such as `14x3,13`."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    if len(runs) == 1:
        return str(values[0])
    return ",".join(f"{value}x{count}" if count > 1 else str(value) for value, count in runs)
