"""Why two plans differ: the one decision that moves an item most when it alone is taken over from the other plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from planner.analysis.two_plans import Difference, Side, plan_side
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.search.estimate import estimate

PATHS = {
    "node": "cluster.node",
    "num_gpus": "cluster.num_gpus",
    "tensor_parallel": "layout.tensor_parallel",
    "pipeline_parallel": "layout.pipeline_parallel",
    "virtual_pipeline": "layout.virtual_pipeline",
    "context_parallel": "layout.context_parallel",
    "expert_parallel": "layout.expert_parallel",
    "expert_tensor_parallel": "layout.expert_tensor_parallel",
    "sequence_parallel": "layout.sequence_parallel",
    "zero_stage": "layout.zero_stage",
    "micro_batch_size": "batch.micro_batch_size",
    "global_batch_size": "batch.global_batch_size",
    "sequence_length": "batch.sequence_length",
    "recomputed_layers_per_stage": "layout.recomputed_layers",
    "optimizer": "optimizer",
    "optimizer_offload": "layout.optimizer_offload",
    "activation_offload": "layout.activation_offload",
    "precision": "precision",
    "response_length": "rl.response_length",
    "rollout_tensor_parallel": "rl.rollout.tensor_parallel",
    "gpu_memory_utilization": "rl.rollout.gpu_memory_utilization",
}
"""Decisions by name, and where a scenario pins them."""
SHORT = {
    "tensor_parallel": "TP",
    "pipeline_parallel": "PP",
    "data_parallel": "DP",
    "context_parallel": "CP",
    "expert_parallel": "EP",
    "num_gpus": "the number of GPUs",
    "micro_batch_size": "the micro-batch",
    "recomputed_layers_per_stage": "the number of recomputed layers a stage",
}
ENOUGH = 0.5
"""Share of a difference that a decision must explain alone to be called its cause."""
IN_RL = frozenset({"batch.global_batch_size", "batch.sequence_length"})
"""Follow from the block rl: there."""


@dataclass(frozen=True)
class Cause:
    """A decision and what it does alone."""

    decision: str
    a: Any
    b: Any
    alone: float
    """Change of the item if nothing but this decision is taken over. [GiB or s]"""

    @property
    def text(self) -> str:
        """`CP went from 2 to 1`."""
        return f"{SHORT.get(self.decision, self.decision)} went from {_said(self.a)} to {_said(self.b)}"


Items = Callable[[Side], tuple[tuple[str, float], ...]]
"""A ledger of a side: of memory or of time."""


def cause(difference: Difference, a: Side, b: Side, catalog: Catalog, *, items: Items) -> Cause | None:
    """The decision that explains at least half of a difference alone; None where none does, or a side is a saved plan.

    Each decision in which the sides differ is taken over from B into A's whole layout, and A is costed again.
    """
    if a.question is None:
        return None
    base = _pinned(a)
    found: list[Cause] = []
    for name, path in PATHS.items():
        left, right = a.layout.get(name), b.layout.get(name)
        if left == right or right is None or path not in base:
            continue
        try:
            changed = estimate(override(a.question.document, {**base, path: _value(right)}), catalog)
        except InputError:
            continue
        side = plan_side(name, "estimate", changed)
        amount = sum(value for item, value in items(side) if item == difference.name)
        found.append(Cause(name, left, right, amount - difference.a))
    best = min(found, key=lambda each: abs(difference.change - each.alone), default=None)
    if best is None or abs(difference.change - best.alone) > ENOUGH * abs(difference.change):
        return None
    return best


def _pinned(side: Side) -> dict[str, Any]:
    """Overrides that leave nothing open but what cannot be pinned in one value."""
    assert side.question is not None
    pins: dict[str, Any] = {"cluster.max_gpus": None}
    for name, path in PATHS.items():
        value = side.layout.get(name)
        if value is None or (side.question.is_rl and path in IN_RL):
            continue
        if name in ("optimizer_offload", "activation_offload") and value is False:
            continue
        pins[path] = _value(value)
    if side.layout.get("virtual_pipeline") == 1:
        pins["layout.schedule"] = None
    return pins


def _value(value: Any) -> Any:
    """A list of stages as the one number that pins it."""
    return max(value) if isinstance(value, list | tuple) else value


def _said(value: Any) -> str:
    if isinstance(value, list | tuple):
        return str(value[0]) if len(set(value)) == 1 else " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
