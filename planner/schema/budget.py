"""Shape of a budget file: work with deadlines, and offers of machines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from planner.schema.base import Frozen, OneLine
from planner.schema.choices import PositiveInt
from planner.schema.scenario import one_line

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
"""YYYY-MM-DD; quote it in YAML or not."""


def _as_text(value: object) -> object:
    """A YAML date as its text."""
    return value.isoformat() if hasattr(value, "isoformat") else value


class Repeat(Frozen):
    """A job that comes again: each time on the same machines, with its own deadline."""

    every_days: Positive
    """From one earliest start to the next. [days]"""
    times: Annotated[int, Field(ge=2, le=366)]


class Job(Frozen):
    """Work with a deadline; its amount is `tokens`, or `epochs` of `data_set_tokens`, or `steps`."""

    name: OneLine
    scenario: str
    """Scenario file, relative to the budget file; its cluster is replaced by each offer."""
    tokens: Positive | None = None
    """Tokens to train on (RL: prompt and response tokens of trained samples)."""
    epochs: Positive | None = None
    data_set_tokens: Positive | None = None
    """Tokens of one epoch."""
    steps: Positive | None = None
    """Steps of the optimizer (RL: of the whole loop of rollout and training)."""
    earliest_start_days: NotNegative = 0.0
    """Not begun before this day of the schedule. [days]"""
    deadline_days: Positive
    """Day of the schedule by whose end it must be done; of a repeated job, the first time. [days]"""
    repeat: Repeat | None = None
    priority: Annotated[int, Field(ge=1, le=100)] = 1
    """Where the cost is the same, a job of priority 3 counts three times in the sum of finishing hours."""
    set: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_amount(self) -> Job:
        given = [name for name in ("tokens", "epochs", "steps") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"the amount of work is one of tokens, epochs, steps; given: {', '.join(given) or 'none of them'}"
            )
        if (self.epochs is None) != (self.data_set_tokens is None):
            raise ValueError("epochs and data_set_tokens go together: tokens = epochs x data_set_tokens")
        return self


class Purchase(Frozen):
    """Machines that are bought: straight-line over their life, less what they sell for."""

    usd_per_node: Positive
    """Price of one node with its share of network and installation. [USD]"""
    lifetime_years: Positive
    resale_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Of the price, at the end of the life."""
    kilowatts_per_node: Positive
    """Drawn while training, cooling included. [kW]"""
    usd_per_kwh: NotNegative
    hosting_usd_per_node_month: NotNegative = 0.0
    """Space, staff and network, whether it trains or not. [USD a month of 730 hours]"""


class Offer(Frozen):
    """Machines that can be had."""

    price: str
    """Id of a price in the catalog; of bought machines, which node it is."""
    nodes: Annotated[list[PositiveInt], Field(min_length=1)]
    """Node counts that one job may use."""
    terms: Literal["on_demand", "spot", "reserved", "purchase"] = "on_demand"
    usd_per_gpu_hour: Positive | None = None
    """A quote of one's own, instead of the catalog's list price. [USD]"""
    quoted_on: Annotated[Day, BeforeValidator(_as_text)] | None = None
    """Date of that quote."""
    capacity_nodes: PositiveInt | None = None
    """Nodes that can be had at the same time, over all jobs."""
    confirmed_on: Annotated[Day, BeforeValidator(_as_text)] | None = None
    """When the provider confirmed that capacity."""
    minimum_days: Positive | None = None
    """Least term (reserved): nodes are paid from the first job on them to the last, at least so long. [days]"""
    mean_hours_between_interruptions_per_node: Positive | None = None
    """Of spot machines, demanded there: how long one node stays on average. [h]"""
    restart_minutes: NotNegative | None = None
    """From an interruption until the job trains again, demanded with it. [min]"""
    checkpoint_interval_minutes: Positive = 60.0
    """What an interruption costs on top: on average half of this. [min]"""
    purchase: Purchase | None = None
    region: str | None = None
    kilowatts_per_node: Positive | None = None
    """Power of a rented node; without it energy counts the GPUs alone, at their limit. [kW]"""
    grams_co2_per_kwh: NotNegative | None = None

    @model_validator(mode="after")
    def _complete(self) -> Offer:
        rate, restart = self.mean_hours_between_interruptions_per_node, self.restart_minutes
        if self.terms == "spot" and (rate is None or restart is None):
            raise ValueError(
                "spot machines are taken away: mean_hours_between_interruptions_per_node and restart_minutes must be "
                "stated (ask the provider, or read them from your own runs)"
            )
        if (rate is None) != (restart is None):
            raise ValueError("mean_hours_between_interruptions_per_node and restart_minutes go together")
        if (self.terms == "purchase") != (self.purchase is not None):
            raise ValueError("terms: purchase and the block purchase: go together")
        if self.minimum_days is not None and self.terms != "reserved":
            raise ValueError(f"minimum_days is a term of reserved machines, not of {self.terms}")
        if (self.usd_per_gpu_hour is None) != (self.quoted_on is None):
            raise ValueError("usd_per_gpu_hour is your own quote and needs its date, quoted_on")
        if self.terms == "purchase" and self.usd_per_gpu_hour is not None:
            raise ValueError("usd_per_gpu_hour is a rent; what is bought has purchase.usd_per_node")
        if self.confirmed_on is not None and self.capacity_nodes is None:
            raise ValueError("confirmed_on says when capacity_nodes was confirmed, which is not stated")
        return self


class Budget(Frozen):
    """Which offers meet every deadline at the least cost."""

    name: OneLine
    question: Annotated[str, BeforeValidator(one_line)] | None = None
    starts_on: Annotated[Day, BeforeValidator(_as_text)] | None = None
    """Calendar day of hour 0; prices are as old as this day finds them (else as the newest price of the catalog)."""
    jobs: Annotated[list[Job], Field(min_length=1)]
    offers: Annotated[list[Offer], Field(min_length=1)]
    objective: Literal["cheapest", "earliest"] = "cheapest"
    """Least cost in time, or the earliest end of all work within `max_usd`."""
    confidence: Annotated[float, Field(ge=0.5, le=0.99)] = 0.9
    """Chance with which each deadline must hold, by the known error of the predicted speed."""
    max_usd: Positive | None = None
    """Holds at the confidence too: what is paid if every job takes as long as is booked for it."""
    max_nodes_at_once: PositiveInt | None = None
    """Machines rented at the same time, over all jobs."""
    period_days: Positive | None = None
    """What bought machines are charged for; by default to the last deadline. [days]"""
    goodput: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the time that is really trained (restarts, checkpoints); stated, not guessed."""
