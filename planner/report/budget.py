"""The cheapest offers for a budget as blocks and as data."""

from __future__ import annotations

import shlex
from pathlib import Path

from planner.analysis.budget.budget import Booking, BudgetAnswer, JobOption
from planner.analysis.whatif import compact
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Text
from planner.report.json_text import JsonObject
from planner.report.short import LEGEND, provenance, short_layout, short_wishes
from planner.search.decisions import layout_document
from planner.units import number


def budget_blocks(answer: BudgetAnswer) -> list[Block]:
    """The choice, every option with its verdict, and what they rest on."""
    budget = answer.budget
    blocks: list[Block] = []
    if answer.bookings:
        finish = max(booking.finish_hour for booking in answer.bookings)
        proof = "proved cheapest of the listed options" if answer.status == "optimal" else "best found, not proved"
        text = f"{budget.name}: {number(answer.usd, 0)} USD, done after {number(finish / 24, 1)} days; {proof}"
        blocks += [Headline(text), Heading("Choice"), _choice(answer)]
    else:
        blocks += [
            Headline(f"{budget.name}: no choice of the listed offers keeps every limit (proved)", good=False),
            Heading("What would do"),
            Bullets(answer.remedies),
        ]
    for job in budget.jobs:
        terms = f"{job.name}: {number(job.tokens / 1e9, 1)} billion tokens within {job.deadline_days:g} days"
        blocks += [Heading(terms), _options(answer, job.name)]
    limits = [f"goodput {budget.goodput:g} (share of the time that is really trained, as the file states)"]
    if any(o.plan is not None and o.plan.goodput is not None for o in answer.options):
        limits[0] += ", times the goodput of faults: in the scenario on each number of GPUs"
    if budget.max_usd is not None:
        limits.append(f"max_usd {number(budget.max_usd, 0)}")
    if budget.max_nodes_at_once is not None:
        limits.append(f"max_nodes_at_once {budget.max_nodes_at_once}")
    blocks += [
        Heading("Basis"),
        Text("Limits: " + "; ".join(limits) + "."),
        Bullets((*_sources(answer), "US dollars, list prices without tax; billed to the second while training")),
        Bullets(
            (
                "the schedule counts whole hours: a job takes its duration rounded up, a deadline is rounded down",
                LEGEND,
                *(f"{text}; durations and costs carry that error" for text in _known_errors(answer)),
            )
        ),
    ]
    return [*blocks, _next(answer)]


def _next(answer: BudgetAnswer) -> Command:
    if not answer.bookings:
        return Command("planner catalog list prices", "more offers")
    option = answer.bookings[0].option
    job = next(j for j in answer.budget.jobs if j.name == option.job)
    name = answer.document.name
    path = (Path() if name == "<stdin>" else Path(name).parent) / job.scenario

    sets = [f"{key}={compact(value)}" for key, value in job.set.items()]
    sets += [f"cluster.node={option.price.node}", f"cluster.num_gpus={option.num_gpus}", "cluster.max_gpus=null"]

    parts = [str(path), *(part for text in sets for part in ("--set", text))]
    return Command("planner solve " + " ".join(map(shlex.quote, parts)), f"the layout of {job.name} in full")


def _choice(answer: BudgetAnswer) -> Block:
    rows = []
    for booking in answer.bookings:
        option = booking.option
        plan = option.plan
        assert plan is not None
        assert option.hours is not None
        job = next(j for j in answer.budget.jobs if j.name == option.job)
        slack = answer.deadline_hours(job.name) - booking.finish_hour

        rows += [
            (f"{job.name}: offer", f"{option.price.provider} {option.price.instance} ({option.price.id})"),
            (
                "  machines",
                f"{option.nodes} nodes, {option.num_gpus} x {plan.problem.gpu.name}, "
                f"{number(option.usd_per_gpu_hour, 4)} USD a GPU-hour ({option.terms.replace('_', ' ')})",
            ),
            ("  layout", short_layout(plan)),
            ("  throughput", f"{number(plan.tokens_per_second, 0)} tokens/s, {number(plan.headroom_gib, 1)} GiB free"),
            (
                "  duration",
                f"{number(option.hours / 24, 1)} days, from hour {booking.start_hour:,} to {booking.finish_hour:,}, "
                f"{number(slack / 24, 1)} days before the deadline",
            ),
            (
                "  cost",
                f"{number(option.usd, 2)} USD, {number(option.usd / job.tokens * 1e6, 4)} USD a million tokens",
            ),
        ]
        if option.price.notes is not None:
            rows.append(("  note", option.price.notes))
        wishes = plan.wish.given_up
        if wishes:
            rows.append(("  gives up", short_wishes(plan)))
    return Grid((), tuple(rows), left=frozenset({0, 1}))


def _options(answer: BudgetAnswer, job: str) -> Block:
    options = [option for option in answer.options if option.job == job]
    options.sort(key=lambda o: (o.hours is None, o.cents if o.hours is not None else 0, o.price.id, o.terms, o.nodes))
    rows, chosen = [], set()
    for place, option in enumerate(options):
        verdict = answer.verdict(option)
        if verdict == "chosen":
            chosen.add(place)
        plan, hours = option.plan, option.hours
        fitting = plan is not None and hours is not None
        rows.append(
            (
                option.price.id + ("" if option.terms == "on_demand" else f" ({option.terms})"),
                str(option.nodes),
                str(option.num_gpus),
                short_layout(plan) if plan is not None else "-",
                number(hours / 24, 1) if hours is not None else "-",
                number(option.usd, 0) if fitting else "-",
                verdict,
            )
        )
    return Grid(
        ("offer", "nodes", "GPUs", "layout", "days", "USD", "verdict"),
        tuple(rows),
        left=frozenset({0, 3, 6}),
        strong=frozenset(chosen),
    )


def _sources(answer: BudgetAnswer) -> tuple[str, ...]:
    """One line a source, with its date and the offers that rest on it."""
    by_source: dict[tuple[str, str], list[str]] = {}
    for option in answer.options:
        source = option.price.sources[0]
        names = by_source.setdefault((source.ref, str(source.date)), [])
        if option.price.id not in names:
            names.append(option.price.id)
    return tuple(f"{', '.join(names)}: {ref}, {date}" for (ref, date), names in by_source.items())


def _known_errors(answer: BudgetAnswer) -> list[str]:
    problems = [option.outcome.question for option in answer.options if option.outcome is not None]
    texts = (text for p in problems for text in p.known_error_texts)
    return [text for text in dict.fromkeys(texts) if text.startswith("step time")]


def budget_document(answer: BudgetAnswer) -> JsonObject:
    """The same for programs."""
    return {
        "status": answer.status,
        "budget": answer.budget.name,
        "currency": "USD",
        "usd": round(answer.usd, 2) if answer.bookings else None,
        "jobs": [_booking(answer, booking) for booking in answer.bookings],
        "would_do": list(answer.remedies),
        "options": [_option(answer, option) for option in answer.options],
        "limits": {
            "max_usd": answer.budget.max_usd,
            "max_nodes_at_once": answer.budget.max_nodes_at_once,
            "goodput": answer.budget.goodput,
            "deadline_days": {job.name: job.deadline_days for job in answer.budget.jobs},
        },
        "layouts_solved": answer.solved,
        "known_error": _known_errors(answer),
        "provenance": provenance([answer.document], answer.provenance),
    }


def _booking(answer: BudgetAnswer, booking: Booking) -> JsonObject:
    option = booking.option
    job = next(j for j in answer.budget.jobs if j.name == option.job)
    return {
        **_option(answer, option),
        "start_hour": booking.start_hour,
        "finish_hour": booking.finish_hour,
        "usd_per_million_tokens": round(option.usd / job.tokens * 1e6, 9),
    }


def _option(answer: BudgetAnswer, option: JobOption) -> JsonObject:
    plan = option.plan
    out: JsonObject = {
        "job": option.job,
        "offer": option.price.id,
        "provider": option.price.provider,
        "instance": option.price.instance,
        "terms": option.terms,
        "usd_per_gpu_hour": option.usd_per_gpu_hour,
        "price_source": {"ref": option.price.sources[0].ref, "date": str(option.price.sources[0].date)},
        "node": option.price.node,
        "nodes": option.nodes,
        "num_gpus": option.num_gpus,
        "verdict": answer.verdict(option),
    }
    if plan is None or option.hours is None:
        return out
    return {
        **out,
        "layout_status": option.outcome.status if option.outcome is not None else "unknown",
        "hours": round(option.hours, 6),
        "days": round(option.hours / 24, 6),
        "usd": round(option.usd, 2),
        "tokens_per_second": round(plan.tokens_per_second, 9),
        "peak_gib": round(plan.peak_gib, 9),
        "headroom_gib": round(plan.headroom_gib, 9),
        "layout": layout_document(plan),
    }
