"""Re-cost the solver's answer without the solver: what it claims must hold in the float ledgers."""

from __future__ import annotations

from planner.errors import InternalError
from planner.search.grid import STAGE_SLACK_BYTES
from planner.search.plan import Plan
from planner.search.solver.solve import Answer
from planner.search.tables import Tables
from planner.units import GIB

TIME_TOLERANCE = 1e-4
"""Relative: far below the near-tie band, above what rounding each coefficient adds."""


def verify(plan: Plan, answer: Answer, tables: Tables) -> None:
    """Raise InternalError unless the plan fits, and its memory and time are what the solver counted."""
    problem = plan.problem
    if plan.beyond_demand_gib < -1e-9:
        raise InternalError(
            f"the plan lacks {-plan.beyond_demand_gib:.4f} GiB of its limit: "
            f"stage {plan.binding.stage}, {plan.binding.phase}"
        )
    # Beyond what must stay free: the solver counts memory on the scale of the roomiest GPUs.
    counted = (answer.headroom - tables.headroom) * tables.memory_unit_bytes
    ledger = plan.beyond_demand_gib * GIB
    if not -1 <= ledger - counted <= STAGE_SLACK_BYTES + 3 * tables.memory_unit_bytes:
        raise InternalError(f"the solver counts {counted / GIB:.6f} GiB to spare, the ledgers {ledger / GIB:.6f} GiB")
    seconds = answer.time * tables.time_unit_seconds
    if abs(seconds - plan.step_seconds) > TIME_TOLERANCE * plan.step_seconds:
        raise InternalError(f"the solver counts {seconds:.6f} s a step, the ledgers {plan.step_seconds:.6f} s")
    stages = plan.layout["pipeline_parallel"]
    if len(plan.layers) != stages or sum(plan.layers) != problem.architecture.num_hidden_layers:
        raise InternalError(f"layers {plan.layers} are no split of {problem.architecture.num_hidden_layers} layers")
    if any(not 0 <= r <= n for r, n in zip(plan.recomputed, plan.layers, strict=True)):
        raise InternalError(f"more layers recomputed than there are: {plan.recomputed} of {plan.layers}")
