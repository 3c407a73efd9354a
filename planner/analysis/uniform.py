"""What free stages are worth: the same scenario with an even split and one recompute count, solved beside the plan."""

from __future__ import annotations

from dataclasses import dataclass

from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.search.plan import Plan
from planner.search.search import Outcome, plan


@dataclass(frozen=True)
class Uniform:
    """The best plan whose stages are alike."""

    changes: dict[str, str]
    """What makes the scenario uniform."""
    plan: Plan | None
    """None where no uniform layout fits, or none was found in time."""
    gain: float | None
    """Throughput of the free plan over the uniform one's, less one; None where their wishes differ, or without one."""


def uniform(outcome: Outcome, catalog: Catalog, *, time_limit_s: float | None = None) -> Uniform | None:
    """Solve for stages that are alike, where the scenario leaves them free; None where it does not."""
    spec, found = outcome.question.scenario.layout, outcome.plan
    uneven = found is not None and len(set(found.layers)) > 1
    changes = {"layout.layers_per_stage": "even"} if spec.layers_per_stage == "free" or uneven else {}
    changes = {} if isinstance(spec.layers_per_stage, list) else changes
    changes |= {"layout.recompute": "uniform"} if spec.recompute == "per_stage" else {}
    if found is None or not changes:
        return None
    again = plan(override(outcome.question.document, changes), catalog, check_points=0, time_limit_s=time_limit_s)
    if again.plan is None:
        return Uniform(changes, None, None)
    if again.plan.wish.given_up != found.wish.given_up:
        return Uniform(changes, again.plan, None)
    return Uniform(changes, again.plan, found.tokens_per_second / again.plan.tokens_per_second - 1)
