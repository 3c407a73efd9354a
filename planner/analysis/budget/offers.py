"""The choice of offers as integers: what may be chosen, what it costs, and a check that asks no solver.

Money is whole cents, time is whole hours, machines are whole nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.errors import InternalError

BY_USE, BY_TERM, OWNED = "use", "term", "owned"


@dataclass(frozen=True)
class Supply:
    """Machines of one offer and how they are paid."""

    paid: str
    """`use` (each job pays its own hours), `term` (from the first job on them to the last) or `owned`."""
    capacity: int | None = None
    """Nodes at the same time."""
    minimum_hours: int = 0
    """Least term. [h]"""
    cents_per_node_hour: int = 0
    """Of a term."""
    cents_per_node: int = 0
    """Of an owned node, for the whole period of the budget."""


@dataclass(frozen=True)
class OfferChoice:
    """One way to do a job once."""

    supply: int
    """Position of its machines."""
    nodes: int
    hours: int
    """Booked. [h]"""
    cents: int
    """Expected, beside what the supply is paid for a term or for owning it."""
    most_cents: int
    """The same if all booked hours are used."""


@dataclass(frozen=True)
class Need:
    """A job and the ways to do it."""

    windows: tuple[tuple[int, int], ...]
    """(earliest start, deadline) of each time it is done. [h]"""
    choices: tuple[OfferChoice, ...]
    priority: int = 1


@dataclass(frozen=True)
class BudgetLimits:
    """Limits over all jobs."""

    max_cents: int | None = None
    """Of all booked hours."""
    max_nodes: int | None = None


@dataclass(frozen=True)
class BudgetProblem:
    """Jobs, machines and limits."""

    needs: tuple[Need, ...]
    supplies: tuple[Supply, ...]
    limits: BudgetLimits = field(default_factory=BudgetLimits)


@dataclass(frozen=True)
class Rented:
    """What is paid for the machines of one supply beside the jobs' own hours."""

    nodes: int
    """Most at once."""
    start: int
    hours: int
    """Paid, the least term included."""
    cents: int


@dataclass(frozen=True)
class Picked:
    """Position of the chosen option of each job, and its starting hours."""

    status: str
    """optimal (of the first goal), feasible, infeasible or unknown."""
    picks: tuple[int, ...] = ()
    starts: tuple[tuple[int, ...], ...] = ()
    """One a time that the job is done."""
    bound: int | None = None
    """No choice costs less (or, where the end is the goal, ends earlier), as far as is proved. [cents or h]"""


@dataclass(frozen=True)
class Run:
    """One job at work."""

    job: int
    choice: OfferChoice
    start: int

    @property
    def end(self) -> int:
        """Hour by whose end its booking is over."""
        return self.start + self.choice.hours


def runs(problem: BudgetProblem, picked: Picked) -> list[Run]:
    """Everything that is done, in the order of jobs."""
    return [
        Run(job, need.choices[place], start)
        for job, (need, place, starts) in enumerate(zip(problem.needs, picked.picks, picked.starts, strict=True))
        for start in starts
    ]


def busiest(work: Sequence[Run]) -> int:
    """Most nodes at the same time."""
    return max((sum(r.choice.nodes for r in work if r.start <= one.start < r.end) for one in work), default=0)


def rented(problem: BudgetProblem, picked: Picked) -> list[Rented | None]:
    """What terms and owned machines cost, a supply each; None where it is paid by use or not used."""
    work, out = runs(problem, picked), list[Rented | None]()
    for place, supply in enumerate(problem.supplies):
        own = [run for run in work if run.choice.supply == place]
        if supply.paid == BY_USE or not own:
            out.append(None)
            continue
        start, nodes = min(run.start for run in own), busiest(own)
        hours = max(max(run.end for run in own) - start, supply.minimum_hours)
        each = supply.cents_per_node if supply.paid == OWNED else supply.cents_per_node_hour * hours
        out.append(Rented(nodes, start, hours, nodes * each))
    return out


def bill(problem: BudgetProblem, picked: Picked, *, most: bool = False) -> int:
    """Expected cost of a choice, or what it costs if all booked hours are used. [cents]"""
    own = sum(run.choice.most_cents if most else run.choice.cents for run in runs(problem, picked))
    return own + sum(each.cents for each in rented(problem, picked) if each is not None)


def latest(problem: BudgetProblem, picked: Picked) -> int:
    """Hour by whose end all work is done."""
    return max(run.end for run in runs(problem, picked))


def check(problem: BudgetProblem, picked: Picked) -> None:
    """Raise InternalError unless the choice keeps every limit; no solver is asked."""
    broken, work, limits = [], runs(problem, picked), problem.limits
    for need, place, starts in zip(problem.needs, picked.picks, picked.starts, strict=True):
        hours = need.choices[place].hours
        for (release, deadline), start in zip(need.windows, starts, strict=True):
            if start < release or start + hours > deadline:
                broken.append(f"a job runs from hour {start} to {start + hours}, allowed {release} to {deadline}")
    for place, supply in enumerate(problem.supplies):
        busy = busiest([run for run in work if run.choice.supply == place])
        if supply.capacity is not None and busy > supply.capacity:
            broken.append(f"{busy} nodes of offer {place + 1} are used at once, {supply.capacity} can be had")
    if limits.max_nodes is not None and busiest(work) > limits.max_nodes:
        broken.append(f"{busiest(work)} nodes are used at once, at most {limits.max_nodes} may be")
    cents = bill(problem, picked, most=True)
    if limits.max_cents is not None and cents > limits.max_cents:
        broken.append(f"{cents} cents are spent, at most {limits.max_cents} may be")
    if broken:
        raise InternalError("the chosen offers break a limit: " + "; ".join(broken))


def alone(problem: BudgetProblem, need: Need, choice: OfferChoice) -> bool:
    """Whether a choice keeps every limit by itself."""
    limits, supply = problem.limits, problem.supplies[choice.supply]
    least = choice.most_cents * len(need.windows)
    if supply.paid == BY_TERM:
        least += choice.nodes * max(choice.hours, supply.minimum_hours) * supply.cents_per_node_hour
    elif supply.paid == OWNED:
        least += choice.nodes * supply.cents_per_node
    return (
        all(choice.hours <= deadline - release for release, deadline in need.windows)
        and (supply.capacity is None or choice.nodes <= supply.capacity)
        and (limits.max_nodes is None or choice.nodes <= limits.max_nodes)
        and (limits.max_cents is None or least <= limits.max_cents)
    )
