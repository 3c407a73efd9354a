"""The questions that are asked where no layout keeps what is preferred: less headroom, then no room for a reserve."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from planner.costs.memory.returnable import of_live_memory
from planner.problem.problem import Question
from planner.search.least_memory import least_memory
from planner.search.space import Space


@dataclass(frozen=True)
class Softer:
    """A question that asks less of memory."""

    question: Question
    softest: bool = False
    """Whether a proof that nothing fits is one for every softer question too: limits of physics and the user alone."""
    to_prove: bool = False
    """Whether only such a proof is taken from it, as a stricter question may have a plan."""


def can_be_softer(question: Question) -> bool:
    """Whether more is asked of memory than physics and the user do."""
    return question.prefers_headroom or of_live_memory(question) is not question


def softest(question: Question) -> Question:
    """The question of what physics and the user demand alone."""
    return of_live_memory(question).as_demanded


def softer_questions(question: Question, space: Space) -> Iterator[Softer]:
    """One after another: with as much headroom as the layout of nearly even stages that needs least leaves free, with
    what the user demanded, and both again of live memory alone. Where even that layout's live memory is too much, the
    softest one comes first.
    """
    live = of_live_memory(question)
    least_of_live = least_memory(live.as_demanded, space)
    if live is not question and (least_of_live is None or least_of_live.beyond_demand_gib < 0):
        yield Softer(softest(question), softest=True, to_prove=True)
    asked = [each for each in (question, live) if each is live or each.prefers_headroom]
    for each in asked:
        least = least_of_live if each is live else least_memory(each.as_demanded, space)
        left = math.floor(least.room_gib * 10) / 10 if least is not None else 0.0
        if left > 0 and each.prefers_headroom:
            yield Softer(each.keeping(left))
        yield Softer(each.as_demanded, softest=each is live)
