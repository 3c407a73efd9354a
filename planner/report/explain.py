"""What binds a plan, what other decisions would do, and why nothing fits: as blocks and as data."""

from __future__ import annotations

import shlex

from planner.analysis.explanation import Explanation, WhyNot
from planner.analysis.infeasible.conflict import Conflict
from planner.analysis.neighbours import Alternative, same_decisions, slower_items
from planner.report.blocks import Block, Bullets, Grid, Heading, Text
from planner.report.json_text import JsonObject
from planner.report.short import provenance, short_layout
from planner.report.summary import error_blocks, headline, moment_name
from planner.search.plan import Plan, given_up
from planner.search.search import Outcome, why_nothing_fits
from planner.units import number, percent, signed


def explain_blocks(explanation: Explanation) -> list[Block]:
    """What binds, what was asked, and where nothing fits the limits that contradict each other with their repairs."""
    outcome, plan = explanation.outcome, explanation.outcome.plan
    blocks: list[Block] = [headline(outcome)]
    if explanation.conflict is not None:
        blocks += _conflict_blocks(explanation.conflict)
    if explanation.nearest is not None:
        blocks += [Heading("How far from fitting"), Bullets(explanation.nearest.sentences)]
    if plan is not None:
        blocks += [Heading("What binds"), Bullets(tuple(_binding(plan, outcome)))]
        if explanation.neighbours:
            blocks += [
                Heading("What other decisions would do, each solved again"),
                _alternatives(plan, explanation.neighbours),
            ]
    for question in explanation.asked:
        alternative = question.alternative
        blocks += [Heading(f"Why not {alternative.text}?"), Bullets(tuple(_why_not(plan, question)))]
        if alternative.plan is not None and plan is not None:
            blocks.append(Bullets((f"It would be {short_layout(alternative.plan)}.",)))
    return [*blocks, *error_blocks(outcome.question)]


def _conflict_blocks(conflict: Conflict) -> list[Block]:
    blocks: list[Block]
    if conflict.hopeless:
        text = "Not even dropping every limit and pin of the scenario lets a layout fit."
        blocks = [Heading("Conflict"), Text(text)]
        return [*blocks, Bullets(conflict.rules)] if conflict.rules else blocks
    blocks = [
        Heading("These contradict each other; without any one of them something would fit"),
        Bullets(tuple(limit.text for limit in conflict.limits)),
    ]
    if conflict.rules:
        blocks += [Heading("Rules that they break"), Bullets(conflict.rules)]
    if not conflict.repairs:
        return blocks
    rows = []
    for repair in conflict.repairs:
        plan, cost = repair.plan, conflict.throughput_cost(repair)
        rows.append(
            (
                repair.text,
                short_layout(plan),
                number(plan.headroom_gib, 1),
                number(plan.tokens_per_second, 0),
                f"{signed(cost * 100, 1)} %" if abs(cost) >= 5e-4 else percent(0.0),
            )
        )
    blocks.append(Heading("Repairs in playbook order, each solved again"))
    columns = ("change", "layout", "free GiB", "tokens/s", "speed")
    blocks.append(Grid(columns, tuple(rows), left=frozenset({0, 1})))
    speed = f"{number(conflict.reference_tokens_per_second, 0)} tokens/s"
    if conflict.asked is not None:
        against = f"Speed against {speed}, what the scenario as it stands would reach if memory were no limit."
    else:
        against = f"Speed against {speed} of the fastest repair; the scenario as it stands breaks rules, not memory."
    blocks.append(Text(against))
    typed = tuple(" ".join(f"--set {shlex.quote(text)}" for text in repair.arguments) for repair in conflict.repairs)
    return [*blocks, Heading("To type, in the same order"), Bullets(typed)]


def _binding(plan: Plan, outcome: Outcome) -> list[str]:
    worst = plan.binding
    items = sorted(worst.items, key=lambda item: -item.amount)[:3]
    times = sorted(plan.time, key=lambda entry: -entry.amount)[:3]
    demanded = plan.demanded_gib
    said = [
        f"Memory peaks in {moment_name(worst, plan)}: {worst.total_gib:.2f} GiB of {plan.usable_gib:.2f}, "
        f"{plan.headroom_gib - demanded:.2f} GiB more free than the {demanded:.2f} demanded. Largest: "
        + ", ".join(f"{item.name} {item.amount:.2f}" for item in items)
        + " GiB.",
        "Time goes to "
        + ", ".join(f"{e.name} {e.amount:.2f} s ({percent(e.amount / plan.step_seconds, 0)})" for e in times)
        + f" of {plan.step_seconds:.2f} s.",
    ]
    removed = sorted(outcome.proof.removed, key=lambda entry: -entry.count)[:3]
    if removed:
        counts = ", ".join(f"{entry.rule} {entry.count:,}" for entry in removed)
        said.append(f"Of {outcome.proof.candidates:,} candidates most were removed by {counts}.")
    return said


def _alternatives(base: Plan, alternatives: tuple[Alternative, ...]) -> Block:
    rows = []
    for each in alternatives:
        change, free = each.throughput_change(base), each.headroom_change_gib(base)
        if each.plan is None or change is None or free is None:
            reason = each.refused if each.outcome is None else "does not fit: " + why_nothing_fits(each.outcome)
            rows.append((each.text, reason, "", ""))
            continue
        layout = short_layout(each.plan)
        lost = given_up(each.plan)
        if lost and lost != given_up(base):
            layout += f"; gives up {', '.join(lost)}"
        speed = f"{signed(change * 100, 1)} %" if abs(change) >= 5e-4 else percent(0.0)
        rows.append((each.text, layout, speed, f"{signed(free, 1)} ({number(each.plan.headroom_gib, 1)})"))
    return Grid(("change", "best layout under it", "tokens/s", "free GiB"), tuple(rows), left=frozenset({0, 1}))


def _why_not(base: Plan | None, question: WhyNot) -> list[str]:
    alternative, nearest = question.alternative, question.nearest
    if alternative.outcome is None:
        return [f"It contradicts the scenario: {alternative.refused}."]
    if alternative.plan is None:
        return ["Nothing fits with it.", *(nearest.sentences if nearest is not None else ())]
    if base is None:
        return ["It would fit, where the scenario as it stands does not."]
    change = alternative.throughput_change(base) or 0.0
    if same_decisions(alternative.plan, base):
        return ["The plan has it already."]
    word = "slower" if change < 0 else "faster"
    gap = f"{percent(abs(change))} {word}" if abs(change) >= 5e-4 else "as fast"
    free = alternative.plan.headroom_gib - base.headroom_gib
    said = [f"It is {gap}, with {signed(free, 2)} GiB headroom ({alternative.plan.headroom_gib:.2f} GiB)."]
    near_tie = abs(change) <= base.problem.scenario.search.near_tie
    if change > 0 or near_tie:
        given = set(alternative.plan.wish.given_up) - set(base.wish.given_up)
        if given:
            said.append("It gives up a wish: " + ", ".join(sorted(given)) + ".")
        elif near_tie:
            said.append("Within the near-tie band the plan with more headroom, then the simpler one, is taken.")
    items = [item for item in slower_items(base, alternative.plan) if abs(item.change) > 0][:4]
    if items:
        text = ", ".join(f"{item.name} {signed(item.change, 3)} s" for item in items)
        said.append(f"Largest differences for the same work: {text}.")
    return said


def explain_document(explanation: Explanation) -> JsonObject:
    """The same for programs."""
    outcome, conflict, base = explanation.outcome, explanation.conflict, explanation.outcome.plan

    def alternative(each: Alternative) -> JsonObject:
        return {
            "change": dict(each.changes),
            "status": each.outcome.status if each.outcome is not None else "refused",
            "refused": each.refused or None,
            "layout": short_layout(each.plan) if each.plan is not None else None,
            "throughput_change": each.throughput_change(base) if base is not None else None,
            "headroom_gib": each.plan.headroom_gib if each.plan is not None else None,
        }

    return {
        "schema_version": 1,
        "status": outcome.status,
        "binding": None
        if base is None
        else {
            "phase": base.binding.phase,
            "stage": base.binding.stage,
            "items": [{"name": item.name, "gib": item.amount} for item in base.binding.items],
        },
        "conflict": None
        if conflict is None
        else {
            "hopeless": conflict.hopeless,
            "limits": [{"name": limit.name, "text": limit.text} for limit in conflict.limits],
            "rules": list(conflict.rules),
            "asked_tokens_per_second": conflict.asked.tokens_per_second if conflict.asked is not None else None,
            "repairs": [
                {
                    "text": repair.text,
                    "change": dict(repair.changes),
                    "set": list(repair.arguments),
                    "headroom_gib": repair.plan.headroom_gib,
                    "step_seconds": repair.plan.step_seconds,
                    "tokens_per_second": repair.plan.tokens_per_second,
                    "throughput_change": conflict.throughput_cost(repair),
                }
                for repair in conflict.repairs
            ],
        },
        "alternatives": [alternative(each) for each in explanation.neighbours],
        "why_not": [alternative(question.alternative) for question in explanation.asked],
        "provenance": provenance([outcome.question.document], outcome.question.provenance),
    }
