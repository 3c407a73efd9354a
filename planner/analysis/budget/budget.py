"""Which offers meet every deadline at the least cost: options from the planner, the choice among them by CP-SAT."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.analysis.budget.offers import BudgetLimits, NearestOffer, Need, OfferChoice, nearest, pick
from planner.errors import InputError, Mistake, NoVerdict, Place
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, load, override, read_document, validate
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.schema.budget import Budget, Job, Offer
from planner.schema.catalog import Price
from planner.search.plan import Plan
from planner.search.search import Outcome, search, why_nothing_fits

MAX_DAYS = 36_500
"""A century; also keeps hours in the model small."""
MAX_TOKENS = 1e20
MAX_USD = 1e15
MAX_OPTIONS = 512
"""Layouts to solve: jobs x offers x node counts."""


@dataclass(frozen=True)
class JobOption:
    """One job on one offer with one node count."""

    job: str
    price: Price
    terms: str
    usd_per_gpu_hour: float
    nodes: int
    num_gpus: int
    outcome: Outcome | None
    refused: str | None
    """Why the scenario cannot be asked on these machines at all."""
    hours: float | None
    """Tokens / (tokens per second * goodput of the budget * goodput of the scenario's faults). [h]"""

    @property
    def plan(self) -> Plan | None:
        """The layout, where one fits."""
        return self.outcome.plan if self.outcome is not None else None

    @property
    def whole_hours(self) -> int:
        """Duration in the schedule, rounded up. [h]"""
        assert self.hours is not None
        return max(1, math.ceil(self.hours - 1e-9))

    @property
    def usd(self) -> float:
        """Hours * GPUs * price, billed to the second. [USD]"""
        assert self.hours is not None
        return self.hours * self.num_gpus * self.usd_per_gpu_hour

    @property
    def cents(self) -> int:
        """Cost, rounded up to a cent."""
        return math.ceil(self.usd * 100 - 1e-6)


@dataclass(frozen=True)
class Booking:
    """What was chosen for one job."""

    option: JobOption
    start_hour: int
    """After which the job begins, counted from the start of the schedule."""

    @property
    def finish_hour(self) -> int:
        """Hour by whose end the job is done."""
        return self.start_hour + self.option.whole_hours


@dataclass(frozen=True)
class BudgetAnswer:
    """The cheapest choice, or what stands in the way."""

    document: Document
    budget: Budget
    options: tuple[JobOption, ...]
    status: str
    """optimal, feasible or infeasible."""
    bookings: tuple[Booking, ...]
    """One a job, in the order of the file; empty where infeasible."""
    remedies: tuple[str, ...]
    """Changes of one limit that make it feasible, each solved; only where infeasible."""
    provenance: tuple[tuple[str, str], ...]
    solved: int
    """Layout searches made; offers on the same machines share one."""

    @property
    def usd(self) -> float:
        """Cost of all bookings. [USD]"""
        return sum(booking.option.usd for booking in self.bookings)

    def deadline_hours(self, job: str) -> int:
        """Whole hours until a job must be done."""
        return _deadline(next(j for j in self.budget.jobs if j.name == job))

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
        dearer = option.cents - booking.option.cents
        if dearer > 0:
            return f"dearer by {dearer / 100:,.2f} USD"
        if dearer < 0:
            return f"cheaper by {-dearer / 100:,.2f} USD, but not together with the other jobs"
        if option.whole_hours > booking.option.whole_hours:
            return "costs the same, takes longer"
        return "costs the same, lost the tie"

    def _unfit(self, option: JobOption) -> str | None:
        """Why this option is out of the question whatever the other jobs do."""
        if option.refused is not None:
            return option.refused
        assert option.outcome is not None
        if option.plan is None:
            return f"no layout fits: {why_nothing_fits(option.outcome)}"
        late = option.whole_hours - self.deadline_hours(option.job)
        if late > 0:
            return f"late by {late / 24:,.1f} days"
        most = self.budget.max_nodes_at_once
        if most is not None and option.nodes > most:
            return f"needs {option.nodes} nodes, max_nodes_at_once is {most}"
        if self.budget.max_usd is not None and option.cents > self.budget.max_usd * 100:
            return f"{option.usd - self.budget.max_usd:,.2f} USD over max_usd"
        return None


def solve_budget(
    path: str,
    overrides: tuple[str, ...] = (),
    catalog: Catalog | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
    time_limit_s: float = 60.0,
) -> BudgetAnswer:
    """Read a budget file, lay out every option, and choose one for each job.

    Raises InputError for a wrong file, NoVerdict where the time limit came first.
    """
    catalog = catalog or default_catalog()
    document, catalog = load(path, overrides), catalog.recording()
    budget = validate(document, Budget)
    _check(document, budget)
    folder = Path(path).parent if path != "-" else Path()
    bases = [_scenario(document, place, job, folder, catalog) for place, job in enumerate(budget.jobs)]
    prices = [_price(document, place, offer, catalog) for place, offer in enumerate(budget.offers)]
    solved: dict[tuple[str, str, int], tuple[Question | str, Outcome | None]] = {}
    options: list[JobOption] = []
    for job, base in zip(budget.jobs, bases, strict=True):
        identity = json.dumps([job.scenario, job.set], sort_keys=True)
        for offer, (price, usd) in zip(budget.offers, prices, strict=True):
            assert price.node is not None
            for nodes in dict.fromkeys(offer.nodes):
                gpus = nodes * price.gpus_per_instance
                key = (identity, price.node, gpus)
                if key not in solved:
                    progress(f"{job.name}: {nodes} x {price.instance} ({gpus} GPUs)")
                    solved[key] = _lay_out(base, price.node, gpus, catalog)
                problem, outcome = solved[key]
                options.append(
                    JobOption(
                        job=job.name,
                        price=price,
                        terms=offer.terms,
                        usd_per_gpu_hour=usd,
                        nodes=nodes,
                        num_gpus=gpus,
                        outcome=outcome,
                        refused=problem if isinstance(problem, str) else None,
                        hours=_hours(job, outcome, budget.goodput),
                    )
                )
    status, bookings, remedies = _choose(budget, options, time_limit_s)
    return BudgetAnswer(
        document=document,
        budget=budget,
        options=tuple(options),
        status=status,
        bookings=bookings,
        remedies=remedies,
        provenance=tuple(catalog.used().items()),
        solved=len(solved),
    )


def _choose(
    budget: Budget, options: list[JobOption], time_limit_s: float
) -> tuple[str, tuple[Booking, ...], tuple[str, ...]]:
    """(status, bookings, remedies) of what the solver says."""
    ranked = sorted(
        (o for o in options if o.hours is not None and o.hours <= MAX_DAYS * 24),
        key=lambda o: (o.price.id, o.terms, o.nodes),
    )
    by_job = {job.name: [o for o in ranked if o.job == job.name] for job in budget.jobs}
    empty = [name for name, fitting in by_job.items() if not fitting]
    if empty:
        sentence = "no layout of {} fits any offer: list more nodes, larger GPUs, or leave its scenario more freedom"
        return "infeasible", (), tuple(sentence.format(name) for name in empty)
    needs = [
        Need(_deadline(job), tuple(OfferChoice(o.cents, o.whole_hours, o.nodes) for o in by_job[job.name]))
        for job in budget.jobs
    ]
    limits = BudgetLimits(
        max_cents=None if budget.max_usd is None else math.floor(budget.max_usd * 100 + 1e-6),
        max_nodes=budget.max_nodes_at_once,
    )
    answer = pick(needs, limits, time_limit_s=time_limit_s)
    if answer.status == "unknown":
        raise NoVerdict(f"no choice of offers found within {time_limit_s:g} s")
    if answer.status == "infeasible":
        near = nearest(needs, limits, time_limit_s=time_limit_s)
        return "infeasible", (), _remedies(budget, near)
    chosen = zip(budget.jobs, answer.picks, answer.starts, strict=True)
    bookings = tuple(Booking(by_job[job.name][place], start) for job, place, start in chosen)
    return answer.status, bookings, ()


def _remedies(budget: Budget, near: NearestOffer) -> tuple[str, ...]:
    """What would do, as sentences."""
    lines = []
    if near.cents is not None:
        lines.append(f"max_usd: {math.ceil(near.cents / 100)} alone would do")
    if near.deadlines is not None:
        lines.append(f"later deadlines alone would do, fewest days in all: {_later(budget, near.deadlines)}")
    if near.nodes is not None:
        lines.append(f"max_nodes_at_once: {near.nodes} alone would do")
    if near.together is not None:
        cents, deadlines, nodes = near.together
        parts = [f"max_usd: {math.ceil(cents / 100)}"] if budget.max_usd is not None else []
        parts += [_later(budget, deadlines)] if _later(budget, deadlines) else []
        parts += [f"max_nodes_at_once: {nodes}"] if nodes is not None else []
        lines.append("no limit alone is enough; together these would do: " + ", ".join(parts))
    return tuple(lines)


def _later(budget: Budget, deadlines: tuple[int, ...]) -> str:
    """Deadlines that have to move, in days rounded up to a tenth."""
    jobs = zip(budget.jobs, deadlines, strict=True)
    return ", ".join(
        f"{job.name} deadline_days: {math.ceil(hours / 2.4 - 1e-9) / 10:g}"
        for job, hours in jobs
        if hours > _deadline(job)
    )


def _deadline(job: Job) -> int:
    return math.floor(job.deadline_days * 24 + 1e-9)


def _hours(job: Job, outcome: Outcome | None, goodput: float) -> float | None:
    if outcome is None or outcome.plan is None:
        return None
    own = outcome.plan.goodput
    share = goodput * (own.share if own is not None else 1.0)
    never = 1e9  # more failures than progress
    return min(never, job.tokens / (outcome.plan.tokens_per_second * share) / 3600) if share > 0 else never


def _lay_out(base: Document, node: str, gpus: int, catalog: Catalog) -> tuple[Question | str, Outcome | None]:
    """The best layout of a scenario on other machines, or the reason why it cannot be asked there.

    What the scenario says of its own machines does not hold there; rollouts that had a pool of their own share these.
    """
    changes: dict[str, Any] = {"cluster": {"node": node, "num_gpus": gpus}}
    order = (base.data.get("cluster") or {}).get("rank_order")
    if order is not None:
        changes["cluster"]["rank_order"] = order
    if (base.data.get("rl") or {}).get("rollout"):
        changes["rl.rollout.node"] = None
    moved = override(base, changes)
    try:
        question = question_of(moved, catalog)
    except InputError as error:
        return "; ".join(p.what + (f" ({p.because})" if p.because else "") for p in error.problems), None
    outcome = search(question, check_points=0)
    if outcome.status == "unknown":
        raise NoVerdict(f"no verdict on {base.name} with {gpus} GPUs of {node} within search.time_limit_s")
    return question, outcome


def _check(document: Document, budget: Budget) -> None:
    """What the schema alone cannot refuse."""
    wrong: list[Mistake] = []
    for place, job in enumerate(budget.jobs):
        if job.name in [other.name for other in budget.jobs[:place]]:
            wrong.append(Mistake(f"two jobs are called {job.name}", document.place(("jobs", place, "name"))))
        if not job.tokens / budget.goodput <= MAX_TOKENS:
            wrong.append(
                Mistake(
                    f"{job.tokens:g} tokens at goodput {budget.goodput:g} are more than {MAX_TOKENS:g}",
                    document.place(("jobs", place, "tokens")),
                )
            )
        if not job.deadline_days <= MAX_DAYS:
            wrong.append(
                Mistake(
                    f"deadline_days {job.deadline_days:g} is more than {MAX_DAYS:,}",
                    document.place(("jobs", place, "deadline_days")),
                )
            )
        elif _deadline(job) < 1:
            wrong.append(
                Mistake(
                    f"deadline_days {job.deadline_days:g} is less than an hour",
                    document.place(("jobs", place, "deadline_days")),
                    "the schedule counts whole hours",
                )
            )
    if budget.max_usd is not None and not budget.max_usd <= MAX_USD:
        wrong.append(Mistake(f"max_usd {budget.max_usd:g} is more than {MAX_USD:g}", document.place(("max_usd",))))
    count = len(budget.jobs) * sum(len(offer.nodes) for offer in budget.offers)
    if count > MAX_OPTIONS:
        wrong.append(
            Mistake(
                f"{count} options are more than {MAX_OPTIONS}",
                document.place(("offers",)),
                f"{len(budget.jobs)} jobs x the node counts of all offers, and a layout is solved for each",
                "fewer node counts",
            )
        )
    if wrong:
        raise InputError(wrong)


def _scenario(document: Document, place: int, job: Job, folder: Path, catalog: Catalog) -> Document:
    """The scenario of a job with its own changes, checked on its own cluster."""
    path = folder / job.scenario
    if not path.is_file():
        raise InputError(
            Mistake(
                f"{path}: no such file",
                document.place(("jobs", place, "scenario")),
                "the scenario of a job is found relative to the budget file",
            )
        )
    changed: dict[str, Any] = dict(job.set)
    base = override(read_document(path), changed)
    question_of(base, catalog)
    return base


def _price(document: Document, place: int, offer: Offer, catalog: Catalog) -> tuple[Price, float]:
    """The catalog's price of an offer and its USD a GPU-hour."""
    where: Place = document.place(("offers", place, "price"))
    price: Price = catalog.find("prices", offer.price, where)
    if price.node is None:
        raise InputError(
            Mistake(
                f"offer {price.id} cannot be planned on",
                where,
                "the catalog has no node type for this instance, so its links are not known",
                "an offer whose catalog file names a node: planner catalog list prices",
            )
        )
    usd: float | None = getattr(price, f"{offer.terms}_usd_per_gpu_hour")
    if usd is None:
        known = [t for t in ("on_demand", "spot", "reserved") if getattr(price, f"{t}_usd_per_gpu_hour") is not None]
        raise InputError(
            Mistake(
                f"offer {price.id} has no {offer.terms} price",
                where,
                f"the catalog knows {', '.join(known) or 'no price'} of it",
                f"terms: {known[0]}" if known else None,
            )
        )
    return price, usd
