"""A second witness for the rules: what each engine's own code checks, written down from its source alone.

Nothing here is read by the search, and nothing of the search (`axes`, bounds, tables) is read here: a plan is turned
into what the engine would be told, and held to the engine's own assertions, each with the file and line it stands at.
A plan that breaks one is a fault of ours, not of the user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.errors import InternalError
from planner.problem.problem import Problem
from planner.schema.engine import CodeFamily
from planner.search.plan import Plan
from planner.search.witness.megatron import MEGATRON, MEGATRON_SOURCE
from planner.search.witness.others import (
    DUALPIPE,
    DUALPIPE_SOURCE,
    LLAMA3,
    LLAMA3_SOURCE,
    MEGATRON_DEEPSPEED,
    MEGATRON_DEEPSPEED_SOURCE,
    NANOTRON,
    NANOTRON_SOURCE,
    TORCH,
    TORCH_SOURCE,
    TORCHTITAN,
    TORCHTITAN_SOURCE,
)
from planner.search.witness.told import Check, told

OF_ENGINE: dict[CodeFamily, tuple[str, tuple[Check, ...]]] = {
    "megatron": (MEGATRON_SOURCE, MEGATRON),
    "megatron-deepspeed": (MEGATRON_DEEPSPEED_SOURCE, MEGATRON_DEEPSPEED),
    "torchtitan": (TORCHTITAN_SOURCE, TORCHTITAN),
    "nanotron": (NANOTRON_SOURCE, NANOTRON),
    "torch": (TORCH_SOURCE, TORCH),
    "dualpipe": (DUALPIPE_SOURCE, DUALPIPE),
    "llama3": (LLAMA3_SOURCE, LLAMA3),
}


def broken(
    problem: Problem, layout: Mapping[str, int], layers: Sequence[int], recomputed: Sequence[int]
) -> tuple[str, ...]:
    """The engine's own checks that a layout would fail, each with its source."""
    where, checks = OF_ENGINE[problem.engine.checked_by]
    what = told(problem, layout, layers, recomputed)
    return tuple(f"{check.text} ({where}{check.source})" for check in checks if not check.holds(what))


def refuse_unlaunchable(plan: Plan) -> None:
    """Raise InternalError for a plan that its engine would refuse, naming the check and where it stands."""
    found = broken(plan.problem, plan.layout, plan.layers, plan.recomputed)
    if found:
        engine = plan.problem.engine.name
        raise InternalError(f"{engine} would refuse {plan.layout}, layers {plan.layers}: {'; '.join(found)}")
