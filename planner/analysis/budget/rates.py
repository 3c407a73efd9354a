"""What the machines of an offer cost, and what they draw."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass

from planner.analysis.budget.offers import BY_TERM, BY_USE, OWNED, Supply
from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.schema.budget import Offer
from planner.schema.catalog import Price

HOURS_PER_MONTH = 730
HOURS_PER_YEAR = 8_760
STALE_DAYS = 90
"""An older price is marked."""


@dataclass(frozen=True)
class Terms:
    """An offer of the file with what the catalog knows of it."""

    offer: Offer
    price: Price
    usd_per_gpu_hour: float | None
    """None of bought machines."""
    gpu_kilowatts: float | None
    """Of one GPU at its power limit; None where the catalog does not know it."""

    @property
    def name(self) -> str:
        """Price id and terms, as reports name it."""
        return self.price.id + ("" if self.offer.terms == "on_demand" else f" ({self.offer.terms.replace('_', ' ')})")

    @property
    def usd_per_node_hour(self) -> float:
        """Rent of a node; 0 of a bought one. [USD]"""
        return (self.usd_per_gpu_hour or 0.0) * self.price.gpus_per_instance

    @property
    def node_kilowatts(self) -> float | None:
        """Power of a node: stated, or that of its GPUs alone. [kW]"""
        if self.offer.purchase is not None:
            return self.offer.purchase.kilowatts_per_node
        if self.offer.kilowatts_per_node is not None:
            return self.offer.kilowatts_per_node
        return None if self.gpu_kilowatts is None else self.gpu_kilowatts * self.price.gpus_per_instance

    @property
    def power_is_stated(self) -> bool:
        """False where energy counts GPUs alone."""
        return self.offer.purchase is not None or self.offer.kilowatts_per_node is not None

    @property
    def price_date(self) -> str:
        """Of the quote, or of the catalog's source: YYYY-MM or YYYY-MM-DD."""
        return self.offer.quoted_on or self.price.sources[0].date

    def age_days(self, today: datetime.date) -> int:
        """Age of the price; of a month, from its first day."""
        return (today - day_of(self.price_date)).days

    def own_usd(self, period_hours: float) -> float:
        """What one bought node is charged for the period: its share of the life, and hosting. [USD]"""
        bought = self.offer.purchase
        assert bought is not None
        lost = bought.usd_per_node * (1 - bought.resale_share)
        share = period_hours / (bought.lifetime_years * HOURS_PER_YEAR)
        return lost * share + bought.hosting_usd_per_node_month * period_hours / HOURS_PER_MONTH

    def usd_of_use(self, nodes: int, hours: float) -> float:
        """What a job pays for its own hours: rent by use, or the energy of bought machines. [USD]"""
        if self.offer.purchase is not None:
            return self.offer.purchase.kilowatts_per_node * self.offer.purchase.usd_per_kwh * nodes * hours
        return 0.0 if self.offer.minimum_days is not None else self.usd_per_node_hour * nodes * hours

    def supply(self, period_hours: float) -> Supply:
        """The same for the choice, in cents rounded up."""
        capacity = self.offer.capacity_nodes
        if self.offer.purchase is not None:
            return Supply(OWNED, capacity, cents_per_node=up_to_cents(self.own_usd(period_hours)))
        if self.offer.minimum_days is not None:
            least = math.ceil(self.offer.minimum_days * 24 - 1e-9)
            return Supply(BY_TERM, capacity, least, up_to_cents(self.usd_per_node_hour))
        return Supply(BY_USE, capacity)


def up_to_cents(usd: float) -> int:
    """Dollars as whole cents, rounded up."""
    return math.ceil(usd * 100 - 1e-6)


def day_of(date: str) -> datetime.date:
    """YYYY-MM-DD, or the first day of YYYY-MM. Raises ValueError for a day that does not exist."""
    return datetime.date.fromisoformat(date if len(date) > 7 else f"{date}-01")


def terms_of(offer: Offer, where: Place, catalog: Catalog) -> Terms:
    """The offer with its price. Raises InputError where it cannot be planned on or has no such price."""
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
    for day in (offer.quoted_on, offer.confirmed_on):
        try:
            day_of(day or "2026-01-01")
        except ValueError:
            raise InputError(Mistake(f"{day} is no day", where, attempt="YYYY-MM-DD")) from None
    tdp = catalog.find("gpus", price.gpu).tdp_w
    kilowatts = None if tdp is None else tdp / 1000
    if offer.purchase is not None:
        return Terms(offer, price, None, kilowatts)
    usd = offer.usd_per_gpu_hour
    if usd is None:
        usd = getattr(price, f"{offer.terms}_usd_per_gpu_hour")
    if usd is None:
        known = [t for t in ("on_demand", "spot", "reserved") if getattr(price, f"{t}_usd_per_gpu_hour") is not None]
        raise InputError(
            Mistake(
                f"offer {price.id} has no {offer.terms} price",
                where,
                f"the catalog knows {', '.join(known) or 'no price'} of it",
                f"terms: {known[0]}" if known else "usd_per_gpu_hour and quoted_on: your own quote",
            )
        )
    return Terms(offer, price, usd, kilowatts)
