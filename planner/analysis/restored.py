"""A saved plan as it was: the same question, the same layout, costed again and not searched again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from planner.costs.memory.returnable import of_live_memory
from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, validate
from planner.inputs.saved import question_asked
from planner.problem.defaults import KeptDefault
from planner.problem.resolve import question_of
from planner.schema.answers import LayoutDecisions
from planner.schema.near_answers import NearTiesDocument, TiedLayout
from planner.schema.question_answers import ProofDocument
from planner.search.decisions import layout_document
from planner.search.named_layout import COUNTS
from planner.search.near_ties import NearTies, Tie
from planner.search.plan import Plan, make_plan
from planner.search.search import Outcome, Proof
from planner.search.space import Removed, build_space

if TYPE_CHECKING:
    from planner.problem.problem import Question
    from planner.search.space import Space


class _Kept(BaseModel):
    """Part of a saved answer; what is not needed is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class KeptLayout(_Kept):
    """The decisions of a saved plan."""

    layout: LayoutDecisions


class KeptQuestion(_Kept):
    """What was asked beyond the scenario's own words."""

    kept_headroom_gib: float | None = None
    usual_headroom_gib: float | None = None
    reserve_counted: bool = True


class KeptAnswer(_Kept):
    """What `planner solve --format json` writes, as far as the plan is made of it again."""

    status: str
    plan: KeptLayout | None
    proof: ProofDocument | None
    asked: KeptQuestion
    near_ties: NearTiesDocument | None = None


def restored(answer: Document, catalog: Catalog) -> Outcome:
    """The outcome that a saved answer of `planner solve` holds, from its layout and today's facts.

    Raises InputError where it holds no plan, or one that its engine's rules no longer allow.
    """
    kept = validate(answer, KeptAnswer)
    question = question_of(question_asked(answer), catalog)
    if kept.asked.kept_headroom_gib is not None:
        question = question.keeping(kept.asked.kept_headroom_gib)
    if not kept.asked.reserve_counted:
        question = of_live_memory(question)
    if kept.plan is None or kept.proof is None:
        because = f"its status is {kept.status}"
        raise InputError(Mistake(f"{answer.name} holds no plan of planner solve", Place(answer.name), because))
    said = kept.plan.layout.model_dump(exclude_unset=True)
    plan = next(iter(_plans(question, build_space(question), said)), None)
    if plan is None:
        because = "the catalog's rules of its engine, or of its machines, have changed since"
        raise InputError(Mistake(f"the layout of {answer.name} is not legal any more", Place(answer.name), because))
    proof = kept.proof
    outcome = Outcome(
        question,
        kept.status,
        plan,
        Proof(
            status=proof.status,
            bound_seconds=proof.bound,
            gap=proof.gap,
            candidates=proof.candidates,
            points=proof.points,
            removed=tuple(Removed(each.rule, each.text, each.count) for each in proof.removed),
            solver_rows=proof.solver_rows,
            rounding_only=proof.rounding_only,
            enumerated=proof.enumerated,
            decided_by_rounding=proof.decided_by_rounding,
            throughput_proved=proof.throughput_proved,
            held=tuple(KeptDefault(each.path, each.at, each.opened) for each in proof.held),
        ),
        (),
        kept.asked.usual_headroom_gib,
    )
    ties = kept.near_ties
    if ties is None or changed_facts(answer, outcome):
        return outcome
    return replace(outcome, near_ties=_near_ties(ties))


def _near_ties(kept: NearTiesDocument) -> NearTies:
    """Near ties as they were counted; of their variants only the number was kept."""

    def tie(layout: TiedLayout) -> Tie:
        return Tie({**layout.model_dump(exclude={"variants"}), "virtual_pipeline": 1}, (), layout.variants, ())

    ties, ends = tuple(map(tie, kept.layouts)), (tie(kept.simplest), tie(kept.roomiest))
    return NearTies(kept.share, ties, kept.at_least, *ends, kept.roomiest_headroom_gib)


def changed_facts(answer: Document, outcome: Outcome) -> list[str]:
    """Files of the catalog that are not as they were when the answer was saved."""
    then, now = answer.data["provenance"]["catalog"], dict(outcome.question.provenance)
    return sorted(name for name in {*then, *now} if then.get(name) != now.get(name))


def _plans(question: Question, space: Space, said: dict[str, object]) -> Iterator[Plan]:
    """Plans of the space that say exactly this of themselves."""
    layers, recomputed = (_integers(said[f"{name}layers_per_stage"]) for name in ("", "recomputed_"))
    keep = np.ones(len(space.layouts), dtype=bool)
    for name in COUNTS:
        keep &= getattr(space.layouts, name) == said[name]
    keep &= space.layouts.max_tokens == (said["max_tokens_per_gpu"] or 0)
    for row in np.flatnonzero(keep).tolist():
        for choice in _choices(space, row, said):
            plan = make_plan(question, space.layouts, row, layers, recomputed, space.rollouts, choice)
            document = layout_document(plan)
            if all(document.get(name) == value for name, value in said.items()):
                yield plan


def _integers(values: object) -> tuple[int, ...]:
    assert isinstance(values, list)
    return tuple(int(value) for value in values)


def _choices(space: Space, row: int, said: dict[str, object]) -> list[int | None]:
    """Settings of the rollout engine that may be those of the plan."""
    if space.rollouts is None:
        return [None]
    keep = np.ones(len(space.rollouts), dtype=bool)
    for name, key in (
        ("tensor_parallel", "rollout_tensor_parallel"),
        ("gpu_memory_utilization", "gpu_memory_utilization"),
        ("num_gpus", "rollout_gpus"),
        ("training_gpus", "training_gpus"),
    ):
        keep &= getattr(space.rollouts, name) == said[key]
    keep &= (space.rollouts.variant == space.layouts.variant[row]) & (space.rollouts.wish == space.layouts.wish[row])
    return list(np.flatnonzero(keep).tolist())
