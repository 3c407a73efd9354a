"""How recomputed layers are said in an engine's own flags."""

from __future__ import annotations

from dataclasses import dataclass

from planner.plan import Plan


@dataclass(frozen=True)
class RecomputeFlags:
    """Values of Megatron's --recompute-granularity, --recompute-method and --recompute-num-layers."""

    granularity: str
    method: str | None
    """block: the first N layers of each (virtual) stage; uniform: every layer, in groups of N."""
    num_layers: int | None
    """N of the method; None where nothing is recomputed, or where stages differ and no single flag says it."""


def recompute_flags(plan: Plan) -> RecomputeFlags:
    """The flags that recompute what the plan recomputes."""
    most = max(plan.recomputed)
    if most == 0:
        return RecomputeFlags("none", None, None)
    methods = plan.problem.engine.recompute.methods
    method = plan.problem.scenario.layout.recompute_method or ("block" if "block" in methods else None)
    if method == "uniform":
        return RecomputeFlags("full", method, 1)
    same = all(r == min(most, n) for r, n in zip(plan.recomputed, plan.layers, strict=True))
    # Megatron counts a block's layers within each virtual stage (chunk).
    return RecomputeFlags("full", method, -(-most // plan.layout["virtual_pipeline"]) if same else None)
