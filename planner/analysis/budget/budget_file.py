"""What the schema of a budget file alone cannot refuse, and its days as whole hours."""

from __future__ import annotations

import math

from planner.analysis.budget.rates import day_of
from planner.errors import InputError, Mistake
from planner.inputs.document import Document
from planner.schema.budget import Budget, Job

MAX_DAYS = 36_500
MAX_TOKENS = 1e20
MAX_USD = 1e15
MAX_OPTIONS = 512
"""Layouts to solve: jobs x offers x node counts."""
MAX_RUNS = 1_000
"""Times that all jobs together are done."""


def deadline_hours(job: Job) -> int:
    """Whole hours until a job must be done (a repeated one, the first time)."""
    return math.floor(job.deadline_days * 24 + 1e-9)


def windows(job: Job) -> tuple[tuple[int, int], ...]:
    """(earliest start, deadline) of each time a job is done. [h]"""
    start, due = math.ceil(job.earliest_start_days * 24 - 1e-9), deadline_hours(job)
    if job.repeat is None:
        return ((start, due),)
    every = job.repeat.every_days * 24
    return tuple((start + math.ceil(k * every), due + math.floor(k * every)) for k in range(job.repeat.times))


def check_budget(document: Document, budget: Budget) -> None:
    """Raise InputError with everything that is wrong."""
    wrong = [mistake for place in range(len(budget.jobs)) for mistake in _job(document, budget, place)]
    if budget.max_usd is not None and not budget.max_usd <= MAX_USD:
        wrong.append(Mistake(f"max_usd {budget.max_usd:g} is more than {MAX_USD:g}", document.place(("max_usd",))))
    if budget.starts_on is not None:
        try:
            day_of(budget.starts_on)
        except ValueError:
            wrong.append(Mistake(f"starts_on {budget.starts_on} is no day", document.place(("starts_on",))))
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
    times = sum(job.repeat.times if job.repeat is not None else 1 for job in budget.jobs)
    if times > MAX_RUNS:
        what = f"the jobs are done {times} times in all, more than {MAX_RUNS}"
        wrong.append(Mistake(what, document.place(("jobs",)), attempt="fewer repetitions"))
    if wrong:
        raise InputError(wrong)


def _job(document: Document, budget: Budget, place: int) -> list[Mistake]:
    job, wrong = budget.jobs[place], []
    if job.name in [other.name for other in budget.jobs[:place]]:
        wrong.append(Mistake(f"two jobs are called {job.name}", document.place(("jobs", place, "name"))))
    tokens = job.tokens or (job.epochs or 0.0) * (job.data_set_tokens or 0.0) or job.steps or 0.0
    if not tokens / budget.goodput <= MAX_TOKENS:
        name = "tokens" if job.tokens is not None else "epochs" if job.epochs is not None else "steps"
        what = f"{tokens:g} {name if name == 'steps' else 'tokens'} at goodput {budget.goodput:g}"
        wrong.append(Mistake(f"{what} are more than {MAX_TOKENS:g}", document.place(("jobs", place, name))))
    last = job.deadline_days + (job.repeat.every_days * job.repeat.times if job.repeat is not None else 0.0)
    where = document.place(("jobs", place, "deadline_days"))
    if not last <= MAX_DAYS:
        wrong.append(Mistake(f"deadline_days {last:g} is more than {MAX_DAYS:,}", where))
    elif deadline_hours(job) < 1:
        what = f"deadline_days {job.deadline_days:g} is less than an hour"
        wrong.append(Mistake(what, where, "the schedule counts whole hours"))
    elif any(due <= start for start, due in windows(job)):
        what = f"{job.name} is due on day {job.deadline_days:g} and may not start before {job.earliest_start_days:g}"
        wrong.append(Mistake(what, where))
    return wrong
