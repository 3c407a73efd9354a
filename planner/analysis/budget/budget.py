"""Which offers keep every deadline at the least cost: options from the planner, the choice among them by CP-SAT."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from planner import clock
from planner.analysis.budget.budget_file import check_budget, deadline_hours, windows
from planner.analysis.budget.front import CostFront, cost_front
from planner.analysis.budget.known_layouts import KnownLayouts
from planner.analysis.budget.model import COST, LATEST, choose
from planner.analysis.budget.offers import BudgetLimits, BudgetProblem, Need, OfferChoice, Picked, Rented, bill, rented
from planner.analysis.budget.options import JobOption, job_options, job_scenario
from planner.analysis.budget.played import drawn_hours, kept
from planner.analysis.budget.rates import Terms, day_of, terms_of, up_to_cents
from planner.analysis.budget.remedies import remedies_of
from planner.analysis.budget.sensitivity import Sensitivity, sensitivities
from planner.errors import NoVerdict
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, load, validate
from planner.schema.budget import Budget
from planner.search.plan import spare
from planner.search.search import why_nothing_fits
from planner.search.shown import Shown
from planner.units import percent, span

MAX_HOURS = 36_500 * 24
"""A century; also keeps hours in the model small."""
DRAWS = 2_000
"""Of the schedule, to see how sure each deadline is."""
TOLERANCE = 0.003
"""Of a share of so many draws, once whole hours are counted."""
ROUNDS = 4
LEAST_CONFIDENCE = 0.5
CHOICE_SECONDS = 60.0
"""Longest choice among offers. [s]"""
FRONT_RUNS = 40
"""With more runs than these the front is left out: each of its points is another search."""


@dataclass(frozen=True)
class Booking:
    """What was chosen for one job."""

    option: JobOption
    starts: tuple[int, ...]
    """Hours after which it begins, one each time it is done."""
    sure: float
    """Share of drawn schedules in which its deadline (the least sure of a repeated job) holds."""

    @property
    def start_hour(self) -> int:
        """The first start, counted from the start of the schedule."""
        return self.starts[0]

    @property
    def finish_hour(self) -> int:
        """Hour by whose end it is booked to be done for the last time."""
        return self.starts[-1] + self.option.whole_hours


@dataclass(frozen=True, repr=False)
class BudgetAnswer(Shown):
    """The best choice, or what stands in the way."""

    document: Document
    budget: Budget
    terms: tuple[Terms, ...]
    """One an offer of the file."""
    options: tuple[JobOption, ...]
    status: str
    """optimal, feasible or infeasible."""
    problem: BudgetProblem | None
    """None where a job fits no offer."""
    picked: Picked
    bookings: tuple[Booking, ...]
    """One a job, in the order of the file; empty where infeasible."""
    rented: tuple[Rented | None, ...]
    """What terms and owned machines cost, one an offer."""
    conflict: tuple[str, ...]
    """Limits that contradict each other; only where infeasible."""
    remedies: tuple[str, ...]
    """Changes of one limit that make it feasible, each solved; only where infeasible."""
    front: CostFront | None
    sensitivities: tuple[Sensitivity, ...]
    today: datetime.date
    """What prices are as old as."""
    provenance: tuple[tuple[str, str], ...]
    searched: int
    """Layout searches made for this answer: offers on the same machines share one, and some were known before."""
    timings: tuple[tuple[str, float], ...]
    """(part, seconds): layout searches, and the choice among offers with its front and sensitivity."""

    def __str__(self) -> str:
        if not self.bookings:
            return f"{self.budget.name}: no choice of offers keeps every limit"
        days = max(booking.finish_hour for booking in self.bookings) / 24
        sure = min(booking.sure for booking in self.bookings)
        what = "proved optimal" if self.status == "optimal" else "not proved optimal"
        in_time = f"in time with {percent(sure, 0)}"
        return f"{self.budget.name}: {self.usd:,.2f} USD, done by day {days:.1f}, {in_time}; {what}"

    def __repr__(self) -> str:
        return f"<BudgetAnswer {self}>"

    @property
    def usd(self) -> float:
        """Expected cost of all bookings, terms and owned machines. [USD]"""
        own = sum(booking.option.usd * len(booking.starts) for booking in self.bookings)
        return own + sum(each.cents for each in self.rented if each is not None) / 100

    @property
    def most_usd(self) -> float:
        """The same if all booked hours are used. [USD]"""
        return bill(self.problem, self.picked, most=True) / 100 if self.problem is not None and self.bookings else 0.0

    def deadline_hours(self, job: str) -> int:
        """Whole hours until a job must be done (a repeated one, the first time)."""
        return deadline_hours(next(j for j in self.budget.jobs if j.name == job))

    def verdict(self, option: JobOption) -> str:
        """`chosen`, or why it lost."""
        reason = self._unfit(option)
        if reason is not None:
            return reason
        booking = next((b for b in self.bookings if b.option.job == option.job), None)
        if booking is None:
            return "meets this job's own limits"
        if booking.option == option:
            return "chosen"
        longer = option.whole_hours - booking.option.whole_hours
        if self.budget.objective == "earliest" and longer:
            return f"takes {span(longer)} longer" if longer > 0 else "faster, but all work does not end earlier with it"
        dearer = self._dearer(option)
        machines = option.held_machines or booking.option.held_machines
        if dearer > 0:
            return f"dearer by {dearer / 100:,.2f} USD" + (" with the machines held for it" if machines else "")
        if dearer < 0 and machines:
            return "not in the best choice of all jobs together"
        if dearer < 0:
            return f"cheaper by {-dearer / 100:,.2f} USD, but not together with the other jobs"
        return "costs the same, takes longer" if longer > 0 else "costs the same, lost the tie"

    def _dearer(self, option: JobOption) -> int:
        """What all costs more with this option at the same starts, terms and bought machines included. [cents]"""
        assert self.problem is not None
        job = next(place for place, job in enumerate(self.budget.jobs) if job.name == option.job)
        picks = list(self.picked.picks)
        picks[job] = next(place for place, each in enumerate(_left(self.options, option.job)) if each is option)
        return bill(self.problem, replace(self.picked, picks=tuple(picks))) - bill(self.problem, self.picked)

    def usd_each(self, booking: Booking) -> float:
        """What one time of a job costs, with its share by booked node-hours of term or bought machines. [USD]"""
        held = self.rented[booking.option.offer]
        if held is None:
            return booking.option.usd
        same = [other for other in self.bookings if other.option.offer == booking.option.offer]
        hours = sum(other.option.nodes * other.option.whole_hours * len(other.starts) for other in same)
        return booking.option.usd + held.cents / 100 * booking.option.nodes * booking.option.whole_hours / hours

    def _unfit(self, option: JobOption) -> str | None:
        """Why this option is out of the question whatever the other jobs do."""
        if option.refused is not None:
            return option.refused
        assert option.outcome is not None
        if option.plan is None and option.outcome.plan is not None:
            return f"critical, so that no speed is promised: {spare(option.outcome.plan)}"
        if option.plan is None:
            return f"no layout fits: {why_nothing_fits(option.outcome)}"
        job = next(j for j in self.budget.jobs if j.name == option.job)
        room = min(deadline - release for release, deadline in windows(job))
        late = option.whole_hours - room
        if late > 0:
            expected = math.ceil((option.hours or 0.0) - 1e-9)
            if expected <= room:
                sure = option.duration.chance_within(room) if option.duration is not None else 0.0
                asked = percent(self.budget.confidence, 0)
                return f"in time with {percent(sure, 0)} only: {span(late)} short of {asked}"
            return f"late by {span(expected - room)}"
        most = self.budget.max_nodes_at_once
        if most is not None and option.nodes > most:
            return f"needs {option.nodes} nodes, max_nodes_at_once is {most}"
        capacity = option.terms_of_offer.offer.capacity_nodes
        if capacity is not None and option.nodes > capacity:
            return f"needs {option.nodes} nodes, capacity_nodes is {capacity}"
        if self.budget.max_usd is not None and option.most_cents > self.budget.max_usd * 100:
            return f"{option.most_cents / 100 - self.budget.max_usd:,.2f} USD over max_usd"
        return None


def solve_budget(
    path: str,
    overrides: tuple[str, ...] = (),
    catalog: Catalog | None = None,
    *,
    layouts: KnownLayouts | None = None,
    progress: Callable[[str], None] = lambda text: None,
    time_limit_s: float = CHOICE_SECONDS,
) -> BudgetAnswer:
    """Read a budget file, lay out every option, and choose one for each job. Raises like `answer_budget`."""
    known = layouts if layouts is not None else KnownLayouts()
    document, catalog = load(path, overrides), catalog or default_catalog()
    return answer_budget(document, catalog, known, progress=progress, time_limit_s=time_limit_s)


def answer_budget(
    document: Document,
    catalog: Catalog,
    layouts: KnownLayouts,
    *,
    progress: Callable[[str], None] = lambda text: None,
    time_limit_s: float = CHOICE_SECONDS,
) -> BudgetAnswer:
    """Lay out every option of a budget and choose one for each job.

    Scenarios of its jobs stand beside it; `layouts` keeps what was searched; `time_limit_s` is that of each choice
    among offers. Raises InputError for a wrong file, NoVerdict where a time limit came first.
    """
    catalog = catalog.recording()
    budget = validate(document, Budget)
    check_budget(document, budget)
    bases = [job_scenario(document, place, job, catalog) for place, job in enumerate(budget.jobs)]
    terms = [
        terms_of(offer, document.place(("offers", place, "price")), catalog)
        for place, offer in enumerate(budget.offers)
    ]
    before = layouts.searched, layouts.seconds
    options = job_options(budget, terms, bases, catalog, layouts, progress)
    spent = (("layout searches", layouts.seconds - before[1]),)
    progress("choosing among the offers")
    empty = BudgetAnswer(
        document=document,
        budget=budget,
        terms=tuple(terms),
        options=tuple(options),
        status="infeasible",
        problem=None,
        picked=Picked("infeasible"),
        bookings=(),
        rented=(),
        conflict=(),
        remedies=(),
        front=None,
        sensitivities=(),
        today=_today(budget, catalog),
        provenance=tuple(catalog.used().items()),
        searched=layouts.searched - before[0],
        timings=spent,
    )
    started = clock.now()
    answer = _chosen(empty, time_limit_s)
    return replace(answer, timings=(*spent, ("choice of offers", clock.now() - started)))


def _chosen(answer: BudgetAnswer, time_limit_s: float) -> BudgetAnswer:
    """The same with the choice, or with what stands in its way."""
    budget = answer.budget
    by_job = {job.name: _left(answer.options, job.name) for job in budget.jobs}
    empty = [name for name, fitting in by_job.items() if not fitting]
    if empty:
        sentence = "no layout of {} fits any offer: list more nodes, larger GPUs, or leave its scenario more freedom"
        return replace(answer, remedies=tuple(sentence.format(name) for name in empty))
    goal = _goal(budget)
    levels = {job.name: budget.confidence for job in budget.jobs}
    best: BudgetAnswer | None = None
    for _ in range(ROUNDS):
        problem = _problem(budget, answer.terms, by_job, levels)
        picked = choose(problem, goal, time_limit_s=time_limit_s)
        if picked.status == "unknown":
            raise NoVerdict(f"no choice of offers found within {time_limit_s:g} s")
        if picked.status == "infeasible":
            if best is not None:
                break
            offers = [terms.name for terms in answer.terms]
            against, lines = remedies_of(problem, budget, offers, time_limit_s=time_limit_s)
            lines += _less_sure(budget, answer.terms, by_job, time_limit_s)
            return replace(answer, problem=problem, conflict=against, remedies=lines)
        best = _booked(answer, problem, picked, by_job)
        unsure = [b.option.job for b in best.bookings if b.sure < budget.confidence - TOLERANCE]
        if not unsure:
            break
        levels |= {name: (1 + levels[name]) / 2 for name in unsure}
    assert best is not None
    return _with_outlook(best, time_limit_s)


def _left(options: Sequence[JobOption], job: str) -> list[JobOption]:
    """Options of a job that can be laid out and end within a century: those that are chosen from."""
    return [o for o in options if o.job == job and o.hours is not None and o.booked <= MAX_HOURS]


def _goal(budget: Budget) -> str:
    return LATEST if budget.objective == "earliest" else COST


def _less_sure(
    budget: Budget, terms: tuple[Terms, ...], by_job: dict[str, list[JobOption]], time_limit_s: float
) -> tuple[str, ...]:
    """The greatest lower confidence that a choice keeps, in steps of 5 %, as a sentence."""
    level = math.ceil(budget.confidence * 20 - 1e-9) - 1
    while level >= LEAST_CONFIDENCE * 20:
        problem = _problem(budget, terms, by_job, {job.name: level / 20 for job in budget.jobs})
        if choose(problem, time_limit_s=time_limit_s, settle=False).picks:
            return (f"confidence: {level / 20:g} alone would do",)
        level -= 1
    return ()


def _booked(
    answer: BudgetAnswer, problem: BudgetProblem, picked: Picked, by_job: dict[str, list[JobOption]]
) -> BudgetAnswer:
    chosen = [by_job[job.name][place] for job, place in zip(answer.budget.jobs, picked.picks, strict=True)]
    durations = []
    for job, option in zip(answer.budget.jobs, chosen, strict=True):
        assert option.duration is not None
        shared = json.dumps([job.scenario, job.set, option.price.gpu], sort_keys=True)
        durations.append((shared, option.duration, len(windows(job))))
    shares = kept(problem, picked, drawn_hours(durations, DRAWS, seed=0))
    booked = zip(chosen, picked.starts, shares, strict=True)
    return replace(
        answer,
        status=picked.status,
        problem=problem,
        picked=picked,
        bookings=tuple(Booking(option, starts, sure) for option, starts, sure in booked),
        rented=tuple(rented(problem, picked)),
    )


def _with_outlook(answer: BudgetAnswer, time_limit_s: float) -> BudgetAnswer:
    """The same with its front and what it does if assumptions are wrong."""
    problem, options = answer.problem, [booking.option for booking in answer.bookings]
    assert problem is not None
    durations = [option.duration for option in options if option.duration is not None]

    def price(job: int, _: int, hours: float) -> int:
        return up_to_cents(options[job].terms_of_offer.usd_of_use(options[job].nodes, hours))

    few = sum(len(need.windows) for need in problem.needs) <= FRONT_RUNS
    return replace(
        answer,
        front=cost_front(problem, time_limit_s=time_limit_s) if few else None,
        sensitivities=sensitivities(
            problem, answer.picked, durations, price, _goal(answer.budget), time_limit_s=time_limit_s
        ),
    )


def _problem(
    budget: Budget, terms: tuple[Terms, ...], by_job: dict[str, list[JobOption]], levels: dict[str, float]
) -> BudgetProblem:
    """Jobs, machines and limits in whole hours and cents, with the hours of each job booked for its own confidence."""
    needs = []
    for job in budget.jobs:
        choices = []
        for option in by_job[job.name]:
            if levels[job.name] != budget.confidence and option.duration is not None:
                option = replace(option, booked=option.duration.at(levels[job.name]))
            choices.append(OfferChoice(option.offer, option.nodes, option.whole_hours, option.cents, option.most_cents))
        needs.append(Need(windows(job), tuple(choices), job.priority))
    end = max(deadline for need in needs for _, deadline in need.windows)
    period = end if budget.period_days is None else budget.period_days * 24
    limits = BudgetLimits(
        max_cents=None if budget.max_usd is None else math.floor(budget.max_usd * 100 + 1e-6),
        max_nodes=budget.max_nodes_at_once,
    )
    return BudgetProblem(tuple(needs), tuple(each.supply(period) for each in terms), limits)


def _today(budget: Budget, catalog: Catalog) -> datetime.date:
    """The first day of the schedule; where the file states none, the day of the newest price of the catalog."""
    if budget.starts_on is not None:
        return day_of(budget.starts_on)
    return max(day_of(source.date) for price in catalog.all("prices") for source in price.sources)
