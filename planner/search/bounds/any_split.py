"""Does any split of layers over free stages fit: decided by memory alone, without times and without the solver.

Rows on which some stage cannot hold its least layers, or the stages together not all of them, go first, all at once.
Of a row that is left every stage has a table of layer counts that fit; whether some of them add up to all layers is
decided exactly, as a set of reachable sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from planner.costs.coefficients import ONLY_WHERE_RECOMPUTED, Coefficients, RowCosts
from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Problem
from planner.problem.stage_choices import even_layers, is_free, named_levels, recompute_kind


def to_spare(costs: RowCosts, memory: Mapping[str, Coefficients], limit: float) -> Floats:
    """Layers that the stages of each row could hold beyond all there are; negative where no split can fit. [layers]

    Each stage is taken by itself, and each line of `memory` with the recomputed layers that suit it best; `limit` is
    what a stage may use, in the unit of `memory`.
    """
    question, layouts = costs.question, costs.layouts
    total = question.architecture.num_hidden_layers
    always = [c for name, c in memory.items() if name not in ONLY_WHERE_RECOMPUTED]
    may = np.array([kinds(problem) for problem in question.problems])[layouts.variant]
    none, some = (may[:, column, None] for column in (0, 1))
    most = np.where(none, _held(always, limit, total, again=False), -1.0)
    most = np.maximum(most, np.where(some, _held(memory.values(), limit, total, again=True), -1.0))
    least = np.maximum(layouts.virtual_pipeline, 1)[:, None] * np.ones(costs.stages)
    if not is_free(question.first):
        # Listed ends may hold fewer layers than chunks.
        least = even_layers(question.first, layouts, costs.stages).astype(float)
    elif question.architecture.is_moe:
        least[:, 0] = np.maximum(least[:, 0], question.parameters.num_dense_layers)
    exists = costs.exists > 0
    impossible = (exists & (most < least)).any(axis=1)
    return np.where(impossible, -1.0, np.where(exists, most, 0.0).sum(axis=1) - total)


def kinds(problem: Problem) -> tuple[bool, bool]:
    """(may a stage recompute nothing, may it recompute something)"""
    if recompute_kind(problem) == "all":
        return False, True
    levels = named_levels(problem, problem.architecture.num_hidden_layers)
    return 0 in levels, any(levels)


def _held(lines: Iterable[Coefficients], limit: float, total: int, *, again: bool) -> Floats:
    """Most layers that keep these lines on each stage, with none or (`again`) with any of them recomputed. [layers]"""
    most: Floats | float = float(total)
    for c in lines:
        slope = np.minimum(c.layer, c.layer + c.recomputed) if again else c.layer
        with np.errstate(divide="ignore", invalid="ignore"):
            held = np.floor((limit - c.end) / slope)
        fits = np.where(c.end <= limit, float(total), -1.0)
        most = np.minimum(most, np.where(slope > 0, held, np.where(slope < 0, float(total), fits)))
    return np.asarray(most)


def adds_up(fits: np.ndarray, counts: Ints, total: int, largest: int | None = None) -> bool:
    """Do counts that fit, one of each stage, add up to all layers; some stage with at least `largest` where given.

    `fits` has shape [stages, counts]. Sums reached so far are the bits of an integer.
    """
    below, reached = 1, 0
    for stage in fits:
        before = below, reached
        below = reached = 0
        for count in counts[stage].tolist():
            reached |= before[1] << count
            if largest is not None and count >= largest:
                reached |= before[0] << count
            else:
                below |= before[0] << count
    return bool((below * (largest is None) | reached) >> total & 1)


def adds_up_alike(fits: np.ndarray, counts: Ints, total: int, largest: int | None = None) -> bool:
    """The same where all stages between the first and the last hold the same number of layers."""
    if len(fits) <= 3:
        return adds_up(fits, counts, total, largest)
    for place in np.flatnonzero(fits[1:-1].all(axis=0)).tolist():
        one = np.zeros_like(fits)
        one[0], one[-1] = fits[0], fits[-1]
        one[1:-1, place] = True
        if adds_up(one, counts, total, largest):
            return True
    return False
