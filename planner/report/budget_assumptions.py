"""What the figures of a budget rest on, with dates: prices, speeds, limits, and what nobody checked."""

from __future__ import annotations

from planner.analysis.budget.budget import BudgetAnswer
from planner.analysis.budget.rates import STALE_DAYS, Terms
from planner.report.short import LEGEND
from planner.units import number, percent


def assumptions(answer: BudgetAnswer) -> tuple[str, ...]:
    """Everything that the figures rest on, with dates."""
    budget, lines = answer.budget, []
    spreads = [o.duration.spread.sentence for o in answer.options if o.duration is not None]
    lines += list(dict.fromkeys(spreads))
    lines.append(
        f"a deadline must hold with {percent(budget.confidence, 0)}: that much of the known error of the speed is "
        "booked; what shares scenario and GPU is fast or slow together"
    )
    lines.append(f"goodput {budget.goodput:g} (share of the time that is really trained, as the file states)")
    if any(o.plan is not None and o.plan.goodput is not None for o in answer.options):
        lines[-1] += ", times the goodput of faults: in the scenario on each number of GPUs"
    limits = [f"max_usd {number(budget.max_usd, 0)}, also if all booked hours are used"] if budget.max_usd else []
    limits += [f"max_nodes_at_once {budget.max_nodes_at_once}"] if budget.max_nodes_at_once is not None else []
    lines += [f"limits: {'; '.join(limits)}"] if limits else []
    lines += [text for place, terms in enumerate(answer.terms) for text in of_offer(answer, place, terms)]
    of = "the first day of the schedule" if budget.starts_on is not None else "the newest price; or starts_on"
    lines.append(f"ages of prices are counted to {answer.today.isoformat()} ({of})")
    lines += [*_sources(answer), "US dollars, list prices without tax; use is billed to the second while training"]
    lines.append("the schedule counts whole hours: what is booked is rounded up, a deadline is rounded down")
    return (*lines, LEGEND)


def of_offer(answer: BudgetAnswer, place: int, terms: Terms) -> list[str]:
    """What the file says of an offer and nobody checked."""
    offer, lines = terms.offer, []
    chosen = any(booking.option.offer == place for booking in answer.bookings)
    if offer.mean_hours_between_interruptions_per_node is not None:
        lines.append(
            f"{terms.name}: a node is taken away every {offer.mean_hours_between_interruptions_per_node:g} h on "
            f"average, {offer.restart_minutes:g} min to train again, half of {offer.checkpoint_interval_minutes:g} min "
            "lost (as the file states)"
        )
    if offer.minimum_days is not None:
        lines.append(f"{terms.name}: paid from the first job on it to the last, at least {offer.minimum_days:g} days")
    if chosen and offer.terms != "purchase":
        if offer.confirmed_on is not None:
            lines.append(
                f"{terms.name}: {offer.capacity_nodes} nodes confirmed by the provider on {offer.confirmed_on}"
            )
        else:
            lines.append(f"{terms.name}: nobody has confirmed that the provider has these nodes")
    age = terms.age_days(answer.today)
    if age > STALE_DAYS and offer.purchase is None:
        lines.append(f"{terms.name}: the price is {age} days old ({terms.price_date}); ask for a new one")
    return lines


def _sources(answer: BudgetAnswer) -> tuple[str, ...]:
    """One line a source, with its date and the offers that rest on it."""
    by_source: dict[tuple[str, str], list[str]] = {}
    for terms in answer.terms:
        if terms.offer.purchase is not None:
            source = ("purchase: of the budget file", "as stated")
        elif terms.offer.quoted_on is not None:
            source = ("your own quote", terms.offer.quoted_on)
        else:
            source = (terms.price.sources[0].ref, terms.price.sources[0].date)
        names = by_source.setdefault(source, [])
        if terms.price.id not in names:
            names.append(terms.price.id)
    return tuple(f"{', '.join(names)}: {ref}, {date}" for (ref, date), names in by_source.items())
