"""The layout that needs least memory, whether it fits or not."""

from __future__ import annotations

import math

import numpy as np

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Question
from planner.problem.stage_choices import nearly_even_layers, recompute_levels
from planner.search.plan import Plan, make_plan
from planner.search.space import Space
from planner.search.tables import choice_keys, row_keys


def least_memory(question: Question, space: Space) -> Plan | None:
    """The layout with the smallest peak, None where none is legal; free stages are as even as they get."""
    layouts = space.layouts
    if not len(layouts) or (space.rollouts is not None and not len(space.rollouts)):
        return None
    costs = RowCosts(question, layouts)
    splits = nearly_even_layers(question.first, layouts, costs.stages)
    tried = [(_recomputed(costs, split), split) for split in splits]
    best = np.min([peak for (peak, _), _ in tried], axis=0)
    rollouts, choice = space.rollouts, None
    total = best
    if rollouts is not None:
        least, picked = _beside(RolloutTable(question, rollouts), layouts)
        total = np.maximum(best, least)
    row = int(np.argmin(total))
    if not math.isfinite(float(total[row])):
        return None
    if rollouts is not None:
        choice = int(picked[row])
    (_, again), layers = next(found for found in tried if found[0][0][row] == best[row])
    stages = int(layouts.pipeline_parallel[row])
    split, rebuilt = (tuple(int(n) for n in values[row, :stages]) for values in (layers, again))
    return make_plan(question, layouts, row, split, rebuilt, rollouts, choice)


def _recomputed(costs: RowCosts, layers: Ints) -> tuple[Floats, Ints]:
    """(least peak of each row with so many layers on its stages [bytes], infinite where these are not all layers;
    layers recomputed on each stage)"""
    question, layouts = costs.question, costs.layouts
    best = np.full(len(layouts), math.inf)
    again = np.zeros_like(layers)
    most = layers.max(axis=1, initial=0)
    kinds = np.stack([layouts.variant, layouts.virtual_pipeline, most], axis=1)
    unique, of_row = np.unique(kinds, axis=0, return_inverse=True)
    for index, (variant, chunks, count) in enumerate(unique.tolist()):
        group = np.flatnonzero(of_row.reshape(-1) == index)
        for level in recompute_levels(question.problems[variant], count, chunks):
            recomputed = np.minimum(layers[group], level)
            peak = costs.peak_bytes(group, layers[group], recomputed)
            better = peak < best[group]
            best[group[better]] = peak[better]
            again[group[better]] = recomputed[better]
    illegal = layers.sum(axis=1) != question.architecture.num_hidden_layers
    if question.architecture.is_moe:
        illegal |= (layouts.pipeline_parallel > 1) & (layers[:, 0] < question.parameters.num_dense_layers)
    return np.where(illegal, math.inf, best), again


def _beside(table: RolloutTable, layouts: Layouts) -> tuple[Ints, Ints]:
    """(least peak of a rollout engine beside each row [bytes], which choice that is)."""
    best: dict[int, tuple[float, int]] = {}
    for index, key in enumerate(choice_keys(table.choices).tolist()):
        best[key] = min(best.get(key, (math.inf, -1)), (float(table.peak_bytes[index]), index))
    found = [best.get(key, (math.inf, -1)) for key in row_keys(layouts).tolist()]
    return np.array([peak for peak, _ in found]), np.array([index for _, index in found])
