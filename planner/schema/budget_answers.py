"""JSON answer of `planner budget`."""

from __future__ import annotations

from typing import Literal

from planner.schema.answers import Envelope, LayoutDecisions
from planner.schema.base import Frozen
from planner.schema.question_answers import Searched


class PriceSource(Frozen):
    """Where a price comes from."""

    ref: str
    date: str


class OfferOption(Frozen):
    """One job on so many nodes of one offer."""

    job: str
    offer: str
    provider: str
    instance: str
    terms: str
    usd_per_gpu_hour: float | None
    """None of bought machines."""
    price_source: PriceSource
    node: str
    nodes: int
    num_gpus: int
    verdict: str
    """`chosen`, or why it lost."""
    layout_status: Searched | None = None
    hours: float | None = None
    """Expected each time, at the predicted speed. [h]"""
    booked_hours: int | None = None
    """Enough with the confidence of the budget. [h]"""
    days: float | None = None
    usd: float | None = None
    """Expected each time, beside what a term or bought machines cost. [USD]"""
    tokens_per_second: float | None = None
    peak_gib: float | None = None
    headroom_gib: float | None = None
    layout: LayoutDecisions | None = None


class BookedOption(OfferOption):
    """The option of a job that was chosen."""

    start_hours: list[int]
    """One each time it is done."""
    finish_hour: int
    in_time_share: float
    """Share of drawn schedules in which its deadline holds."""
    energy_kwh: float | None
    usd_with_machines: float
    """Expected each time, with its share by booked node-hours of the term or of the bought machines. [USD]"""
    usd_per_million_tokens: float
    """The same."""


class HeldMachines(Frozen):
    """Machines of a term, or bought ones."""

    offer: str
    terms: str
    nodes: int
    start_hour: int
    hours: int
    usd: float


class CostPointDocument(Frozen):
    """The cheapest choice that ends no later."""

    done_hours: int
    usd: float
    knee: bool


class SensitivityDocument(Frozen):
    """One assumption changed."""

    name: str
    usd: float | None
    done_days: float | None
    late: list[str]
    """Jobs that miss a deadline."""
    other_choice: bool
    """Whether the choice, made again, is another one."""


class BudgetLimitsDocument(Frozen):
    """What the budget file demands."""

    max_usd: float | None
    max_nodes_at_once: int | None
    goodput: float
    confidence: float
    deadline_days: dict[str, float]


class BudgetDocument(Envelope):
    """`planner budget --format json`."""

    command: Literal["budget"]
    status: Literal["optimal", "feasible", "infeasible"]
    budget: str
    objective: Literal["cheapest", "earliest"]
    currency: Literal["USD"]
    usd: float | None
    """Expected. [USD]"""
    most_usd: float | None
    """If all booked hours are used. [USD]"""
    bound_usd: float | None
    """No choice costs less, as far as is proved. [USD]"""
    jobs: list[BookedOption]
    machines: list[HeldMachines]
    conflict: list[str]
    """Limits of which each is needed for the contradiction; only where infeasible."""
    would_do: list[str]
    front: list[CostPointDocument]
    sensitivity: list[SensitivityDocument]
    options: list[OfferOption]
    limits: BudgetLimitsDocument
    layouts_solved: int
    assumptions: list[str]
