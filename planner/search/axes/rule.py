"""A rule: a named, droppable condition on rows of layouts, with the words that explain it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.schema.engine import Engine

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
