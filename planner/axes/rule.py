"""A rule: a named, droppable condition on rows of layouts, with the words that explain it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.layouts import Layouts
from planner.problem import Problem
from planner.schema.engine import Engine
from planner.schema.scenario import IntRange

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rule:
    """Keeps the rows for which `keeps` is true."""

    name: str
    text: str
    """What the rule demands, as a person reads it."""
    keeps: Callable[[Problem, Layouts], Mask]
    source: str = "definition"
    by_engine: bool = False
    """It states what an engine has, so that its text is said with the engine's name."""

    def of(self, engine: Engine) -> Rule:
        """The same rule with the engine's name on it."""
        return replace(self, text=f"{engine.name}: {self.text}")


def divisors(number: int, limit: int) -> list[int]:
    """Divisors of a number up to a limit, ascending."""
    return [d for d in range(1, min(number, limit) + 1) if number % d == 0]


def choose(choice: object, candidates: list[int]) -> list[int]:
    """Values that a scenario's choice leaves: its own where it names them, else the candidates in its range."""
    if isinstance(choice, bool):
        raise TypeError("a choice of integers is not a truth value")
    if isinstance(choice, int):
        return [choice]
    if isinstance(choice, list):
        return sorted(set(choice))
    if isinstance(choice, IntRange):
        low, high = choice.min or 0, choice.max or max(candidates, default=0)
        return [c for c in candidates if low <= c <= high]
    return candidates
