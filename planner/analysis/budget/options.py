"""Every way to do every job: a layout on so many nodes of an offer, how long it takes, what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from planner.analysis.budget.amounts import job_tokens
from planner.analysis.budget.duration import UNINTERRUPTED, Duration, Interruptions
from planner.analysis.budget.known_layouts import KnownLayouts
from planner.analysis.budget.rates import Terms, up_to_cents
from planner.errors import InputError, Mistake
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override, read_document
from planner.inputs.examples import file_of, typed_beside
from planner.inputs.known_durations import duration_spread
from planner.problem.resolve import question_of
from planner.schema.budget import Budget, Job, Offer
from planner.schema.catalog import Price
from planner.search.plan import Plan
from planner.search.search import Outcome


@dataclass(frozen=True)
class JobOption:
    """One job on so many nodes of one offer."""

    job: str
    terms_of_offer: Terms
    offer: int
    """Position in the file."""
    nodes: int
    outcome: Outcome | None
    refused: str | None
    """Why the scenario cannot be asked on these machines at all."""
    tokens: float
    """Each time the job is done; 0 where no layout fits."""
    duration: Duration | None
    """None where no layout fits."""
    booked: float
    """Hours that are enough with the confidence of the budget; 0 where no layout fits. [h]"""

    @property
    def price(self) -> Price:
        """The catalog's entry of the offer."""
        return self.terms_of_offer.price

    @property
    def terms(self) -> str:
        """on_demand, spot, reserved or purchase."""
        return self.terms_of_offer.offer.terms

    @property
    def held_machines(self) -> bool:
        """Whether its machines are paid for a term or bought, beside what the job pays for its own hours."""
        return self.terms == "purchase" or self.terms_of_offer.offer.minimum_days is not None

    @property
    def num_gpus(self) -> int:
        """On all its nodes."""
        return self.nodes * self.price.gpus_per_instance

    @property
    def plan(self) -> Plan | None:
        """The layout, where one fits whose speed can be promised: none that waits for its allocator to give back."""
        found = self.outcome.plan if self.outcome is not None else None
        return found if found is not None and found.given_back_gib == 0 else None

    @property
    def hours(self) -> float | None:
        """Expected at the predicted speed, interruptions included; None where no layout fits. [h]"""
        return None if self.duration is None else self.duration.hours

    @property
    def whole_hours(self) -> int:
        """Booked in the schedule, rounded up. [h]"""
        return max(1, math.ceil(self.booked - 1e-9))

    @property
    def usd(self) -> float:
        """Expected each time, beside what a term or owned machines cost. [USD]"""
        return self.terms_of_offer.usd_of_use(self.nodes, self.hours or 0.0)

    @property
    def cents(self) -> int:
        """The same, rounded up to a cent."""
        return up_to_cents(self.usd)

    @property
    def most_cents(self) -> int:
        """If all booked hours are used."""
        return max(self.cents, up_to_cents(self.terms_of_offer.usd_of_use(self.nodes, self.booked)))

    @property
    def energy_kwh(self) -> float | None:
        """Each time, at the predicted speed. [kWh]"""
        power = self.terms_of_offer.node_kilowatts
        return None if power is None else power * self.nodes * (self.hours or 0.0)


def job_options(
    budget: Budget,
    terms: Sequence[Terms],
    bases: Sequence[Document],
    catalog: Catalog,
    layouts: KnownLayouts,
    progress: Callable[[str], None],
) -> list[JobOption]:
    """All options; those on the same machines share a layout search."""
    options: list[JobOption] = []
    for job, base in zip(budget.jobs, bases, strict=True):
        for place, each in enumerate(terms):
            node = each.price.node
            assert node is not None
            for nodes in dict.fromkeys(each.offer.nodes):
                gpus = nodes * each.price.gpus_per_instance
                said = f"{job.name}: {nodes} x {each.price.instance} ({gpus} GPUs)"
                found = layouts.of(base, node, gpus, catalog, partial(progress, said))
                options.append(_option(budget, job, each, place, nodes, found, catalog))
    return options


def _option(
    budget: Budget, job: Job, terms: Terms, place: int, nodes: int, found: Outcome | str, catalog: Catalog
) -> JobOption:
    if isinstance(found, str):
        return JobOption(job.name, terms, place, nodes, None, found, 0.0, None, 0.0)
    plan = found.plan
    if plan is None:
        return JobOption(job.name, terms, place, nodes, found, None, 0.0, None, 0.0)
    own = plan.goodput
    share = budget.goodput * (own.share if own is not None else 1.0)
    tokens = job_tokens(job, plan)
    engine = plan.problem.engine
    names = (engine.id, *([engine.scored_as] if engine.scored_as else []))
    work = tokens / (plan.tokens_per_second * share) / 3600 if share > 0 else math.inf
    spread = duration_spread(catalog, names, plan.problem.gpu.chip, rl=plan.problem.is_rl)
    duration = Duration(work, spread, _interruptions(terms.offer, nodes))
    booked = duration.at(budget.confidence) if math.isfinite(work) else math.inf
    return JobOption(job.name, terms, place, nodes, found, None, tokens, duration, booked)


def _interruptions(offer: Offer, nodes: int) -> Interruptions:
    each = offer.mean_hours_between_interruptions_per_node
    if each is None:
        return UNINTERRUPTED
    return Interruptions(nodes / each, (offer.restart_minutes or 0.0) / 60, offer.checkpoint_interval_minutes / 60)


def job_scenario(document: Document, place: int, job: Job, catalog: Catalog) -> Document:
    """The scenario of a job with its own changes, checked on its own cluster."""
    name = typed_beside(document.name, job.scenario)
    if not file_of(name).is_file():
        raise InputError(
            Mistake(
                f"{name}: no such file",
                document.place(("jobs", place, "scenario")),
                "the scenario of a job is found relative to the budget file",
            )
        )
    base = override(read_document(name), dict(job.set))
    question_of(base, catalog)
    return base
