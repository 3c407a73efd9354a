"""How many products and modules a layer is to the host that launches it."""

from __future__ import annotations

from planner.formulas.parameters import adapted_mlp, adapted_of_attention
from planner.problem.problem import Problem


def products(problem: Problem) -> int:
    """Products of a usual layer's own weights, as many as the engine runs at once (experts: as one)."""
    a, fused = problem.architecture, problem.engine.fused_projections
    attention = (4 if a.q_lora_rank else 3) + 1 if a.is_mla else 2 if fused else 4
    return attention + (2 if fused or not a.gated_mlp else 3)


def modules(problem: Problem) -> float:
    """Modules of a usual layer that hold weights of their own: projections, norms, both matrices of adapters."""
    adapter = problem.scenario.adapter
    found = products(problem) + (2 if problem.architecture.qk_norm == "none" else 4)
    if adapter is None:
        return found
    a, targets = problem.architecture, adapter.targets
    return found + 2 * (adapted_of_attention(a, targets) + len(adapted_mlp(a, targets, 1)))
