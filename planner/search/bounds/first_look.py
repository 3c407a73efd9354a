"""A first look at a large space: rows surely slower than a plan in hand, found without costing every row's memory.

Every row has a bound that knows no memory. In the order of that bound, blocks of rows are tried with stages as even as
the layers allow; the fastest that fits is a plan in hand, and rows whose bound is slower by more than the near-tie band
are not looked at again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.coefficients import RowCosts
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Question
from planner.problem.stage_choices import is_free
from planner.search.bounds.cheap import SLACK, cheap_bound
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.deadline import Deadline
from planner.search.grid import Rounded, slowest_near_tie

LARGE = 20_000
"""Spaces of fewer rows are costed whole."""
LOOKING = 0.4
"""Share of the time limit at which the first look ends."""
BLOCK = 2_000
"""Rows tried at once."""


@dataclass(frozen=True)
class _FullestStages(LeastRecompute):
    """Every stage as full as the fullest one of a split as even as can be: no less time, and no less memory."""

    @cached_property
    def layers(self) -> Ints:
        """Of each stage, shape [rows, stages]."""
        stages = self.rounded.costs.layouts.pipeline_parallel
        most = -(-self.question.architecture.num_hidden_layers // stages)
        return np.asarray(most[:, None] * (self.rounded.costs.exists > 0))


def first_look(question: Question, layouts: Layouts, unit: float, deadline: Deadline) -> tuple[np.ndarray, Floats]:
    """(which rows may hold the answer, seconds that no point of a row undercuts): all of them, and nothing, where
    nothing is sure, or its share of the time is up.
    """
    everything = np.ones(len(layouts), dtype=bool), np.zeros(len(layouts))
    if len(layouts) < LARGE or not _applies(question):
        return everything
    bound = np.full(len(layouts), -math.inf)
    for start in range(0, len(layouts), LARGE):
        if deadline.past(LOOKING):
            return everything
        rows = np.arange(start, min(start + LARGE, len(layouts)))
        bound[rows] = cheap_bound(question, RowCosts(question, layouts.take(rows)))
    tie = slowest_near_tie(1.0, question.scenario.search.near_tie) * (1 + 2 * SLACK)
    order, best = np.argsort(bound, kind="stable"), math.inf
    for start in range(0, len(order), BLOCK):
        rows = order[start : start + BLOCK]
        if bound[rows[0]] > best * tie or deadline.past(LOOKING):
            break
        best = min(best, float(_tried(question, layouts.take(rows), unit).min(initial=math.inf)))
    return bound <= best * tie, bound


def _applies(question: Question) -> bool:
    """Splits as even as can be exist, and one number of recomputed layers is legal on all of their stages."""
    first = question.first
    alike = all(is_free(p) and p.engine.pipeline.uneven == "any" for p in question.problems)
    named = first.scenario.layout.recomputed_layers in ("any", "all", 0)
    return alike and first.engine.pipeline.uneven_chunks and (named or first.scenario.layout.recompute == "uniform")


def _tried(question: Question, layouts: Layouts, unit: float) -> Floats:
    """Seconds of a split of each row that fits; infinite where none is found."""
    rounded = Rounded(RowCosts(question, layouts), None, 1.0, unit)
    seconds = _FullestStages(question, rounded).seconds()
    least = question.architecture.num_hidden_layers // layouts.pipeline_parallel
    dense = question.parameters.num_dense_layers if question.architecture.is_moe else 0
    return np.where(least >= np.maximum(layouts.virtual_pipeline, dense), seconds, math.inf)
