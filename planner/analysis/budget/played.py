"""A booked schedule as it may go: jobs that take longer than booked hold up those that wait for their machines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner.analysis.budget.duration import Duration
from planner.analysis.budget.offers import BY_USE, BudgetProblem, Picked, rented, runs

Hours = NDArray[np.float64]


def ends(problem: BudgetProblem, picked: Picked, hours: Sequence[Hours]) -> list[Hours]:
    """When everything ends, in the order of `runs`, each draw apart. [h]

    `hours` are those really taken, by run. A job starts at its booked hour, or as soon as its machines are free after
    those booked before it; nobody starts earlier than booked.
    """
    work = runs(problem, picked)
    held = rented(problem, picked)
    draws = len(hours[0])
    pools: dict[int | None, Hours] = {}
    for place, supply in enumerate(problem.supplies):
        own = held[place]
        nodes = supply.capacity if supply.paid == BY_USE else (own.nodes if own is not None else None)
        if nodes is not None:
            pools[place] = np.zeros((draws, nodes))
    if problem.limits.max_nodes is not None:
        pools[None] = np.zeros((draws, problem.limits.max_nodes))
    out: list[Hours] = [np.zeros(draws)] * len(work)
    for place in sorted(range(len(work)), key=lambda index: (work[index].start, index)):
        run = work[place]
        start = np.full(draws, float(run.start))
        used = [key for key in (run.choice.supply, None) if key in pools]
        for key in used:
            pools[key].sort(axis=1)
            start = np.maximum(start, pools[key][:, run.choice.nodes - 1])
        out[place] = start + hours[place]
        for key in used:
            pools[key][:, : run.choice.nodes] = out[place][:, None]
    return out


def kept(problem: BudgetProblem, picked: Picked, hours: Sequence[Hours]) -> tuple[float, ...]:
    """Share of draws in which each job keeps its deadline; of a repeated job, the deadline kept least often."""
    finished = ends(problem, picked, hours)
    shares, place = [], 0
    for need in problem.needs:
        own = []
        for _, deadline in need.windows:
            own.append(float(np.mean(finished[place] <= deadline + 1e-6)))
            place += 1
        shares.append(min(own))
    return tuple(shares)


def drawn_hours(durations: Sequence[tuple[str, Duration, int]], draws: int, seed: int) -> list[Hours]:
    """Hours of every run: (what shares its speed, its duration, times it is done) by job.

    What shares a speed is right or wrong together; interruptions come to each run by itself.
    """
    chance = np.random.default_rng(seed)
    ratios: dict[str, Hours] = {}
    out = []
    for shared, duration, times in durations:
        if shared not in ratios:
            ratios[shared] = chance.permutation(np.array(duration.spread.strata(draws)))
        for _ in range(times):
            out.append(with_interruptions(duration, ratios[shared] * duration.work_hours, chance))
    return out


def with_interruptions(duration: Duration, work: Hours, chance: np.random.Generator) -> Hours:
    """Hours until work is done: interruptions also come while a job restarts, until none is left."""
    stops = duration.interruptions
    if stops.load == 0:
        return work
    total = work.copy()
    exposed: Hours = work
    while exposed.max() > 0:
        counts = chance.poisson(stops.per_hour * exposed)
        draw = np.repeat(np.arange(len(work)), counts)
        each = chance.uniform(0, stops.checkpoint_hours, size=len(draw))
        lost = np.bincount(draw, weights=each, minlength=len(work))
        exposed = (counts * stops.restart_hours + lost).astype(np.float64)
        total += exposed
    return total
