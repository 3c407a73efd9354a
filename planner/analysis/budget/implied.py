"""What every schedule on offers keeps although no rule says it: sums over choices that a linear relaxation sees.

The schedule itself (no more nodes at work than there are) says nothing about choices before hours are decided. Two
consequences do: the energy that jobs cannot move out of a span of hours (energetic reasoning: Baptiste, Le Pape and
Nuijten, Constraint-Based Scheduling, 2001, section 3.3), and two jobs that nowhere fit one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from planner.analysis.budget.offers import BY_USE, BudgetProblem, Need, OfferChoice

MOST_JOBS = 16
"""Jobs whose releases and deadlines make spans: rows grow with the square; the largest jobs first."""

Place = tuple[int, int]
"""(job, position of a choice that is left to it)."""


@dataclass(frozen=True)
class Energy:
    """Node-hours in a span of hours that a choice takes at least, whenever the job starts."""

    supply: int | None
    """Whose machines are meant; None: all machines together."""
    begin: int
    hours: int
    """Of the span, from the hour `begin` on."""
    least: tuple[tuple[Place, int], ...]


def energies(problem: BudgetProblem, left: Sequence[Sequence[int]]) -> Iterator[Energy]:
    """Energy by span and offer, where it can be too much for the nodes there are (or is paid by node).

    Spans lead from a release or a latest start of a job that is done once to a deadline or an earliest end of one.
    `left` lists the options of each job that keep every limit by themselves, one at least.
    """
    begins, ends = _spans(problem, left)
    if not begins.size or not ends.size:
        return
    table = {
        (job, place): _least(problem.needs[job], problem.needs[job].choices[place], begins, ends)
        for job, own in enumerate(left)
        for place in own
    }
    long = ends[None, :] - begins[:, None]
    supplies = [(place, s.capacity, s.paid != BY_USE) for place, s in enumerate(problem.supplies)]
    for supply, nodes, paid in (*supplies, (None, problem.limits.max_nodes, False)):
        own = {
            place: energy
            for place, energy in table.items()
            if supply is None or problem.needs[place[0]].choices[place[1]].supply == supply
        }
        if not own or (nodes is None and not paid):
            continue
        most = _most_together(own)
        tight = (most > 0) if paid else (most > long * (nodes or 0))
        for row, column in np.argwhere(tight & (long > 0)):
            least = tuple((place, int(energy[row, column])) for place, energy in own.items() if energy[row, column])
            yield Energy(supply, int(begins[row]), int(long[row, column]), least)


def _spans(problem: BudgetProblem, left: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hours at which spans begin, and at which they end, each in order."""
    once = [
        (need.windows[0], [need.choices[place] for place in own])
        for need, own in zip(problem.needs, left, strict=True)
        if len(need.windows) == 1
    ]
    once.sort(key=lambda job: -min(c.nodes * c.hours for c in job[1]))
    begins, ends = set(), set()
    for (release, deadline), choices in once[:MOST_JOBS]:
        shortest = min(c.hours for c in choices)
        begins |= {release, deadline - shortest}
        ends |= {deadline, release + shortest}
    return np.array(sorted(begins), dtype=np.int64), np.array(sorted(ends), dtype=np.int64)


def _least(need: Need, choice: OfferChoice, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Node-hours of all times of a job inside each span, pushed out of it as far as its windows allow."""
    total = np.zeros((begins.size, ends.size), dtype=np.int64)
    for release, deadline in need.windows:
        early = release + choice.hours - begins[:, None]
        late = ends[None, :] - (deadline - choice.hours)
        inside = np.minimum(np.minimum(early, late), np.minimum(choice.hours, ends[None, :] - begins[:, None]))
        total += np.maximum(inside, 0)
    return total * choice.nodes


def _most_together(own: dict[Place, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Energy if each job takes its largest choice."""
    largest: dict[int, NDArray[np.int64]] = {}
    for (job, _), energy in own.items():
        largest[job] = np.maximum(largest[job], energy) if job in largest else energy
    together: NDArray[np.int64] = np.sum(list(largest.values()), axis=0)
    return together


@dataclass(frozen=True)
class Meeting:
    """Choices of two jobs that never fit one after the other."""

    one: Place
    other: Place
    supply: int | None
    """Whose machines both need at the same time; None: different machines."""
    nodes: int
    """Both together."""


def meetings(problem: BudgetProblem, left: Sequence[Sequence[int]]) -> Iterator[Meeting]:
    """Meetings on one offer, and any others where the nodes of all offers together are limited."""
    anywhere = problem.limits.max_nodes is not None
    for one, other in combinations(range(len(problem.needs)), 2):
        a, b = problem.needs[one], problem.needs[other]
        met: dict[tuple[int, int], bool] = {}
        for i, j in product(left[one], left[other]):
            a_choice, b_choice = a.choices[i], b.choices[j]
            same = a_choice.supply == b_choice.supply
            if not same and not anywhere:
                continue
            hours = a_choice.hours, b_choice.hours
            if hours not in met:
                met[hours] = always_meet(a, hours[0], b, hours[1]) or always_meet(b, hours[1], a, hours[0])
            if met[hours]:
                nodes = a_choice.nodes + b_choice.nodes
                yield Meeting((one, i), (other, j), a_choice.supply if same else None, nodes)


def always_meet(a: Need, a_hours: int, b: Need, b_hours: int) -> bool:
    """Whether some time of job `a` meets a time of job `b` wherever it starts.

    A start of `a` meets a time of `b` for certain if that can neither end before it nor begin after it: the starts
    between those two hours. The times of `b` together may leave no start free.
    """
    meets = sorted((due - b_hours - a_hours + 1, early + b_hours - 1) for early, due in b.windows)
    for release, deadline in a.windows:
        free, last = release, deadline - a_hours
        for first_met, last_met in meets:
            if first_met <= free <= last_met:
                free = last_met + 1
        if free > last:
            return True
    return False


def term_hours(need: Need, choice: OfferChoice) -> int:
    """Least hours from the first time of a job to its last, as a term that it lies in must cover them. [h]"""
    last_end = max(release for release, _ in need.windows) + choice.hours
    first_start = min(deadline for _, deadline in need.windows) - choice.hours
    return max(choice.hours, last_end - first_start)
