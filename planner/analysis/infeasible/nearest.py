"""What comes nearest where nothing fits: the least-memory legal layout, and the largest headroom that is feasible."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.analysis.changes import less_headroom
from planner.costs.coefficients import RolloutTable, RowCosts
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.problem.layouts import Ints, Layouts
from planner.problem.problem import Question
from planner.problem.stage_choices import even_layers, recompute_levels
from planner.search.plan import PHASES, Plan, make_plan
from planner.search.search import Outcome, plan
from planner.search.space import Space, build_space
from planner.search.tables import choice_keys, row_keys


@dataclass(frozen=True)
class Nearest:
    """The nearest thing that would fit."""

    sentences: tuple[str, ...]
    plan: Plan | None
    """The layout that needs least memory, whether it fits or not."""
    feasible_headroom_gib: float | None
    """Largest limits.headroom_gib, to 0.1 GiB, with which a solved plan exists."""


def nearest(outcome: Outcome, catalog: Catalog) -> Nearest:
    """Say what an infeasible problem lacks. Anything it suggests has been solved."""
    question = outcome.question
    space = build_space(question)
    if not len(space.layouts) or (space.rollouts is not None and not len(space.rollouts)):
        what, of_rollout = ("rollout engine", True) if len(space.layouts) else ("layout", False)
        reasons = [r for r in space.removed if r.rule.startswith("rollout") == of_rollout]
        reasons.sort(key=lambda r: -r.count)
        said = tuple(f"No {what} is legal: {r.count:,} candidates break {r.rule} ({r.text})." for r in reasons[:3])
        return Nearest(said, None, None)
    least = _least_memory(question, space)
    if least is None:
        return Nearest(("No layout and rollout engine use the same GPUs and wishes.",), None, None)
    worst, usable = least.binding, least.usable_gib
    demanded = least.machines(worst).headroom_gib
    items = sorted(worst.items, key=lambda item: -item.amount)[:3]
    largest = ", ".join(f"{item.name} {item.amount:.1f}" for item in items)
    where = f"stage {worst.stage}, {PHASES[worst.phase]}" if worst.stage is not None else PHASES[worst.phase]
    lay = least.layout
    said = (
        f"The layout that needs least ({_gpus(lay['num_gpus'])}, TP{lay['tensor_parallel']} "
        f"PP{lay['pipeline_parallel']} DP{lay['data_parallel']} CP{lay['context_parallel']}, micro-batch "
        f"{lay['micro_batch_size']}, {max(least.recomputed)} of {max(least.layers)} layers recomputed) needs "
        f"{least.peak_gib:.1f} GiB of {usable - demanded:.1f} ({usable:.1f} usable less "
        f"{demanded:.1f} headroom): {least.peak_gib - usable + demanded:.1f} GiB too much.",
        f"It is fullest in {where}: {largest} GiB.",
    )
    headroom = math.floor(least.headroom_gib * 10) / 10
    if headroom <= 0:
        return Nearest((*said, "No headroom at all would let it fit."), least, None)
    less = dict(less_headroom(question.first, headroom))
    again = plan(override(question.document, less), catalog, check_points=0)
    if again.plan is None:
        return Nearest(said, least, None)
    changed = ", ".join(f"{path}: {str(value).lower() if value is False else value}" for path, value in less.items())
    fits = f"{changed} fits (solved: {again.plan.headroom_gib:.1f} GiB free, {again.plan.step_seconds:.1f} s a step)."
    return Nearest((*said, fits), least, headroom)


def least_headroom_gib(question: Question) -> float | None:
    """What the layout that needs least memory leaves free, below zero where it does not fit; None without one. [GiB]"""
    space = build_space(question)
    if not len(space.layouts) or (space.rollouts is not None and not len(space.rollouts)):
        return None
    least = _least_memory(question, space)
    return least.headroom_gib if least is not None else None


def _gpus(count: int) -> str:
    return "one GPU" if count == 1 else f"{count} GPUs"


def _least_memory(question: Question, space: Space) -> Plan | None:
    """The layout with the smallest peak; stages even where the scenario leaves them free."""
    layouts = space.layouts
    costs = RowCosts(question, layouts)
    layers = even_layers(question.first, layouts, costs.stages)
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
    rollouts, choice = space.rollouts, None
    total = best
    if rollouts is not None:
        least, picked = _beside(RolloutTable(question, rollouts), layouts)
        total = np.maximum(best, least)
    uneven = layers.sum(axis=1) != question.architecture.num_hidden_layers
    total = np.where(uneven, math.inf, total)
    row = int(np.argmin(total))
    if not math.isfinite(float(total[row])):
        return None
    if rollouts is not None:
        choice = int(picked[row])
    stages = int(layouts.pipeline_parallel[row])
    split, rebuilt = (tuple(int(n) for n in values[row, :stages]) for values in (layers, again))
    return make_plan(question, layouts, row, split, rebuilt, rollouts, choice)


def _beside(table: RolloutTable, layouts: Layouts) -> tuple[Ints, Ints]:
    """(least peak of a rollout engine beside each row [bytes], which choice that is)."""
    best: dict[int, tuple[float, int]] = {}
    for index, key in enumerate(choice_keys(table.choices).tolist()):
        best[key] = min(best.get(key, (math.inf, -1)), (float(table.peak_bytes[index]), index))
    found = [best.get(key, (math.inf, -1)) for key in row_keys(layouts).tolist()]
    return np.array([peak for peak, _ in found]), np.array([index for _, index in found])
