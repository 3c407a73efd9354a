"""What no split of a row undercuts, by time alone: nothing recomputed, layers cut at will."""

from __future__ import annotations

import numpy as np

from planner.costs.coefficients import Coefficients, RowCosts
from planner.problem.layouts import Floats
from planner.problem.problem import Question

SLACK = 1e-5
"""Rows this much beyond the near-tie band are kept: more than rounding times to units can move a step."""


def cheap_bound(question: Question, costs: RowCosts) -> Floats:
    """Time of each row if nothing were recomputed and layers could be cut at will. [s]"""
    total = question.architecture.num_hidden_layers
    bound = np.zeros(len(costs.layouts))
    for c, heavy, light in costs.time.values():
        fastest = np.where(costs.exists > 0, c.layer, np.inf).min(axis=1)
        ends = (c.end * costs.exists).sum(axis=1)
        bound += heavy * slowest_stage_bound(c, costs.exists, total) + light * (fastest * total + ends)
    return bound


def slowest_stage_bound(c: Coefficients, exists: Floats, total: int) -> Floats:
    """Least time of the slowest stage of each row if layers could be cut at will: all stages finish together. [s]

    max over stages >= sum of w_s (layer_s n_s + end_s) with w_s = (1 / layer_s) / sum of 1 / layer_s.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = np.where(exists > 0, 1.0 / c.layer, 0.0)
        together = (total + (c.end * speed).sum(axis=1)) / speed.sum(axis=1)
    mean = (c.end * exists).sum(axis=1) / exists.sum(axis=1)
    return np.asarray(np.where(np.isfinite(together), together, mean))
