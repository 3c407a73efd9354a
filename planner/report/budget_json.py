"""The choice of offers as data."""

from __future__ import annotations

from planner.analysis.budget.budget import Booking, BudgetAnswer
from planner.analysis.budget.options import JobOption
from planner.report.budget_assumptions import assumptions
from planner.report.envelope import enveloped
from planner.report.json_text import JsonObject
from planner.search.decisions import layout_document


def budget_document(answer: BudgetAnswer) -> JsonObject:
    """The same for programs."""
    bound = answer.picked.bound
    cheapest = answer.budget.objective == "cheapest"
    document: JsonObject = {
        "budget": answer.budget.name,
        "objective": answer.budget.objective,
        "currency": "USD",
        "usd": round(answer.usd, 2) if answer.bookings else None,
        "most_usd": round(answer.most_usd, 2) if answer.bookings else None,
        "bound_usd": bound / 100 if bound is not None and cheapest and answer.bookings else None,
        "jobs": [_booking(answer, booking) for booking in answer.bookings],
        "machines": _machines(answer),
        "conflict": list(answer.conflict),
        "would_do": list(answer.remedies),
        "front": _front(answer),
        "sensitivity": [
            {
                "name": row.name,
                "usd": None if row.cents is None else row.cents / 100,
                "done_days": None if row.hours is None else round(row.hours / 24, 6),
                "late": [answer.budget.jobs[job].name for job in row.late],
                "other_choice": row.picks is not None,
            }
            for row in answer.sensitivities
        ],
        "options": [_option(answer, option) for option in answer.options],
        "limits": {
            "max_usd": answer.budget.max_usd,
            "max_nodes_at_once": answer.budget.max_nodes_at_once,
            "goodput": answer.budget.goodput,
            "confidence": answer.budget.confidence,
            "deadline_days": {job.name: job.deadline_days for job in answer.budget.jobs},
        },
        "layouts_solved": answer.searched,
        "assumptions": list(assumptions(answer)),
    }
    return enveloped("budget", answer.status, document, asked=[answer.document], catalog=answer.provenance)


def _machines(answer: BudgetAnswer) -> list[JsonObject]:
    return [
        {
            "offer": terms.price.id,
            "terms": terms.offer.terms,
            "nodes": each.nodes,
            "start_hour": each.start,
            "hours": each.hours,
            "usd": each.cents / 100,
        }
        for terms, each in zip(answer.terms, answer.rented, strict=bool(answer.rented))
        if each is not None
    ]


def _front(answer: BudgetAnswer) -> list[JsonObject]:
    if answer.front is None:
        return []
    knee = answer.front.knee
    return [
        {"done_hours": point.hours, "usd": point.cents / 100, "knee": place == knee}
        for place, point in enumerate(answer.front.points)
    ]


def _booking(answer: BudgetAnswer, booking: Booking) -> JsonObject:
    option = booking.option
    energy, usd = option.energy_kwh, answer.usd_each(booking)
    return {
        **_facts(option, "chosen"),
        "start_hours": list(booking.starts),
        "finish_hour": booking.finish_hour,
        "in_time_share": round(booking.sure, 4),
        "energy_kwh": None if energy is None else round(energy * len(booking.starts), 3),
        "usd_with_machines": round(usd, 2),
        "usd_per_million_tokens": round(usd / option.tokens * 1e6, 9),
    }


def _option(answer: BudgetAnswer, option: JobOption) -> JsonObject:
    return _facts(option, answer.verdict(option))


def _facts(option: JobOption, verdict: str) -> JsonObject:
    plan = option.plan
    out: JsonObject = {
        "job": option.job,
        "offer": option.price.id,
        "provider": option.price.provider,
        "instance": option.price.instance,
        "terms": option.terms,
        "usd_per_gpu_hour": option.terms_of_offer.usd_per_gpu_hour,
        "price_source": {"ref": option.price.sources[0].ref, "date": option.terms_of_offer.price_date},
        "node": option.price.node,
        "nodes": option.nodes,
        "num_gpus": option.num_gpus,
        "verdict": verdict,
    }
    if plan is None or option.hours is None:
        return out
    return {
        **out,
        "layout_status": option.outcome.status if option.outcome is not None else "unknown",
        "hours": round(option.hours, 6),
        "booked_hours": option.whole_hours,
        "days": round(option.hours / 24, 6),
        "usd": round(option.usd, 2),
        "tokens_per_second": round(plan.tokens_per_second, 9),
        "peak_gib": round(plan.peak_gib, 9),
        "headroom_gib": round(plan.headroom_gib, 9),
        "layout": layout_document(plan),
    }
