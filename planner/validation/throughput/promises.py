"""A budget's promises against drawn runs: single published runs instead of the table that the promise was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.analysis.budget.budget import BudgetAnswer
from planner.analysis.budget.budget_file import windows
from planner.analysis.budget.offers import OfferChoice
from planner.analysis.budget.options import JobOption
from planner.analysis.budget.played import kept, with_interruptions
from planner.validation.throughput.durations import LEAST_GROUPS, RL, Groups, draws, generation_of

DRAWS = 10_000
Measured = Mapping[tuple[str, str], Groups]
"""Measured over predicted time as `durations.residuals` gives it."""


def drawn_shares(
    answer: BudgetAnswer, options: Sequence[JobOption], measured: Measured, count: int = DRAWS
) -> tuple[float, ...]:
    """Share of drawn schedules in which each job keeps its deadline, with these options at the booked hours.

    A speed is that of one published run of the engine and GPU generation, a group by chance and then one of its rows;
    jobs of one scenario on one GPU share it. Interruptions come one by one.
    """
    assert answer.problem is not None
    chance = np.random.default_rng(7)
    hours: list[NDArray[np.float64]] = []
    needs = []
    ratios: dict[tuple[str, str, str], NDArray[np.float64]] = {}
    for job, option, need in zip(answer.budget.jobs, options, answer.problem.needs, strict=True):
        duration = option.duration
        assert duration is not None
        shared = (job.scenario, str(job.set), option.price.gpu)
        if shared not in ratios:
            ratios[shared] = draws(_runs_like(option, measured), count, len(ratios))
        hours += [with_interruptions(duration, ratios[shared] * duration.work_hours, chance) for _ in windows(job)]
        changed = OfferChoice(option.offer, option.nodes, option.whole_hours, option.cents, option.most_cents)
        needs.append(replace(need, choices=(changed,)))
    moved = replace(answer.problem, needs=tuple(needs))
    return kept(moved, replace(answer.picked, picks=(0,) * len(needs)), hours)


def _runs_like(option: JobOption, measured: Measured) -> Groups:
    """Runs of the engine on that GPU generation, or on all where there are too few groups of them."""
    assert option.plan is not None
    problem = option.plan.problem
    if problem.is_rl:
        return measured[RL]
    names = (problem.engine.id, problem.engine.scored_as or "")
    keys = [(name, of) for name in names for of in (generation_of(problem.gpu.chip), "all")]
    return measured[next(key for key in keys if len(measured.get(key, {})) >= LEAST_GROUPS)]
