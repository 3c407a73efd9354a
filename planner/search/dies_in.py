"""Where a run that does not fit dies: in the first phase of its step that lacks memory, not in the fullest one."""

from __future__ import annotations

from planner.costs.memory.end_of_backward import END_OF_BACKWARD
from planner.problem.reference import REFERENCE
from planner.search.plan import Plan
from planner.search.plan_ledgers import PhaseMemory

STEP_ORDER = (
    "weight_sync",
    "rollout",
    "log_prob",
    REFERENCE,
    "loss",
    "backward",
    "recomputation",
    END_OF_BACKWARD,
    "optimizer",
)
"""Phases as they follow each other. A first step begins with the weights that the rollout engine is given: slime
@624b824a8 train.py (update_weights before the loop), verl @1dda039b9 verl/trainer/ppo/ray_trainer.py (fit), NeMo-RL
@7ea279abf nemo_rl/algorithms/grpo.py (POLICY_GENERATION_STALE is true at first). The logits are taken before the first
layer goes back, on the stage that has them."""


def missing_gib(plan: Plan, phase: PhaseMemory) -> float:
    """What a stage lacks in a phase; negative where it has room. [GiB]"""
    return phase.total_gib - plan.machines(phase).usable_gib


def dies_in(plan: Plan) -> PhaseMemory | None:
    """The first phase of a step in which a GPU runs out, with the stage that lacks most; None for a plan that fits."""
    short = [phase for phase in plan.memory if missing_gib(plan, phase) > 0]
    if not short:
        return None
    first = min(short, key=lambda phase: STEP_ORDER.index(phase.phase)).phase
    return max((phase for phase in short if phase.phase == first), key=lambda phase: missing_gib(plan, phase))
