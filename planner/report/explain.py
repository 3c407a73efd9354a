"""What binds a plan, what other decisions would do, and why nothing fits: as blocks and as data."""

from __future__ import annotations

import math
import shlex

from planner.analysis.explanation import Explanation, WhyNot
from planner.analysis.infeasible.conflict import Conflict
from planner.analysis.infeasible.limits import Limit
from planner.analysis.infeasible.repairs import Repair
from planner.analysis.neighbours import Alternative, same_decisions, slower_items
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Text
from planner.report.critical import free_cell
from planner.report.envelope import enveloped
from planner.report.json_text import JsonObject
from planner.report.methods import method_command, method_notes
from planner.report.options import option_blocks, option_line, options_document
from planner.report.plan_json import methods_document
from planner.report.safer import safer_blocks, safer_document, safer_rows
from planner.report.screen import (
    Row,
    Screen,
    binding_text,
    kernel_rows,
    memory_text,
    moment_name,
    risk_text,
    screen_blocks,
    time_text,
)
from planner.report.short import short_layout, typed
from planner.report.summary import error_blocks, headline, next_command
from planner.search.plan import Plan
from planner.search.search import Outcome, why_nothing_fits
from planner.search.untried import NOT_TRIED
from planner.units import number, percent, signed

UNFINISHED = "The time was up before it was known which limits contradict each other (--time-limit gives it more)."


def explain_blocks(explanation: Explanation) -> list[Block]:
    """What binds, what was asked, and where nothing fits the limits that contradict each other with their repairs."""
    outcome, plan = explanation.outcome, explanation.outcome.plan
    blocks: list[Block] = [headline(outcome)]
    if explanation.conflict is not None:
        blocks += _conflict_blocks(explanation.conflict)
    elif outcome.status == "infeasible":
        blocks.append(Text(UNFINISHED))
    if explanation.methods:
        blocks += [Heading("Other methods"), Bullets(method_notes(explanation.methods))]
    if explanation.nearest is not None:
        blocks += [Heading("How far from fitting"), Bullets(explanation.nearest.sentences)]
    if plan is not None:
        blocks += [Heading("What binds"), Bullets(tuple(_binding(plan, outcome)))]
        blocks += safer_blocks(explanation.safer, plan, outcome.question.document)
        if explanation.neighbours:
            blocks += [
                Heading("What other decisions would do, each solved again"),
                alternatives_grid(plan, explanation.neighbours),
            ]
        blocks += option_blocks(explanation.options)
    for question in explanation.asked:
        alternative = question.alternative
        blocks += [Heading(f"Why not {alternative.text}?"), Bullets(tuple(_why_not(plan, question)))]
        if alternative.plan is not None and plan is not None:
            blocks.append(Bullets((f"It would be {short_layout(alternative.plan)}.",)))
    return [*blocks, *error_blocks(outcome.question)]


def explain_screen(explanation: Explanation) -> list[Block]:
    """The same on one screen: the changes with what they would do, without their layouts."""
    outcome, plan, conflict = explanation.outcome, explanation.outcome.plan, explanation.conflict
    rows: tuple[Row, ...] = ()
    notes: list[str] = []
    table = None
    if plan is not None:
        parts = (("layout", short_layout(plan)), ("memory", memory_text(plan)), ("time", time_text(plan)))
        rows = parts if explanation.asked else (*parts, ("binds", binding_text(plan)), ("risk", risk_text(plan)))
        rows = (*rows, *kernel_rows(plan), *safer_rows(explanation.safer, plan))
        if option_line(explanation.options) and not explanation.asked:
            rows = (*rows, ("options", option_line(explanation.options)))
        if explanation.neighbours:
            table = _narrow(plan, explanation.neighbours)
    if conflict is not None:
        notes += [_hopeless(conflict)] * conflict.hopeless
        notes += [f"contradict each other: {'; '.join(limit.text for limit in conflict.limits)}"] * bool(
            conflict.limits
        )
        notes += [_enough(conflict)] * bool(conflict.limits)
        table = _repairs(conflict) if conflict.repairs else None
    for question in explanation.asked:
        notes.append(f"why not {question.alternative.text}? {' '.join(_why_not(plan, question))}")
    if explanation.nearest is not None:
        notes += explanation.nearest.sentences
    if conflict is None and outcome.status == "infeasible":
        notes.append(UNFINISHED)
    notes = [*method_notes(explanation.methods), *notes]
    command = next_command(outcome.question, None, outcome.status)
    repair = _first_with_room(conflict.repairs) if conflict is not None and conflict.repairs else None
    if explanation.methods and (repair is None or not explanation.methods[0].plan.critical):
        command = method_command(outcome.question.document, explanation.methods[0])
    elif repair is not None:
        scenario = typed(outcome.question.document, repair.arguments)
        command = Command(f"planner solve {scenario}", f"{repair.text}: in full (-v: all repairs, to type)")
    elif conflict is not None:
        command = Command(f"planner explain {typed(outcome.question.document)} -v", "the rules that are broken")
    elif explanation.nearest is not None:
        command = next_command(outcome.question, explanation.nearest.feasible_headroom_gib, outcome.status)
    return screen_blocks(Screen(headline(outcome), rows=rows, table=table, notes=tuple(notes), command=command))


def _first_with_room(repairs: tuple[Repair, ...]) -> Repair:
    """The first repair that is not one spike of the allocator away from running out, else the roomiest."""
    roomiest = max(repairs, key=lambda repair: repair.plan.headroom_gib)
    return next((repair for repair in repairs if not repair.plan.critical), roomiest)


def _narrow(base: Plan, alternatives: tuple[Alternative, ...]) -> Grid:
    """Changes solved again: of defaults that nobody wrote, of what was asked, what does not fit; most gain first."""
    rows: list[tuple[bool, float, tuple[str, ...]]] = []
    for each in alternatives:
        change, free = each.throughput_change(base), each.headroom_change_gib(base)
        if each.plan is None or change is None or free is None:
            rows.append((False, -math.inf, (each.text, "does not fit", "-")))
        else:
            more = f"{signed(free, 1)} ({free_cell(each.plan)})"
            rows.append((each.lifted and change > 0, change, (each.text, _speed(change), more)))
    rows.sort(key=lambda row: (not row[0], -row[1]))
    return Grid(("what another decision would do", "speed", "free GiB"), tuple(row for _, _, row in rows))


def _speed(change: float) -> str:
    return f"{signed(change * 100, 1)} %" if abs(change) >= 5e-4 else percent(0.0)


def _repairs(conflict: Conflict) -> Grid:
    """Repairs in playbook order, each solved again."""
    rows = [
        (
            repair.text,
            free_cell(repair.plan),
            number(repair.plan.tokens_per_second, 0),
            _speed(conflict.throughput_cost(repair)),
        )
        for repair in conflict.repairs
    ]
    return Grid(("what makes it fit, solved again", "free GiB", "tokens/s", "speed"), tuple(rows))


def _hopeless(conflict: Conflict) -> str:
    names = ", ".join(limit.name for limit in conflict.every)
    return f"Nothing fits even with all of these let go of: {names}."


def _whatever_else(conflict: Conflict) -> str:
    others = [limit.name for limit in conflict.every if limit not in conflict.limits]
    if not others:
        return "The scenario has no other limit or pin."
    return f"Tried with these let go of: {', '.join(others)}. With one of the above let go of too, something fits."


def _alone(limit: Limit, fits: bool | None) -> str:
    verdict = {True: "something fits", False: "still nothing fits", None: "not decided in time"}[fits]
    return f"{limit.falls_back_to}: {verdict}"


def _enough(conflict: Conflict) -> str:
    """Which of them is enough by itself."""
    names = [limit.name for limit, fits in zip(conflict.limits, conflict.alone, strict=True) if fits]
    if not names:
        return "letting go of one of them alone is not enough: other limits of the file stand in the way too"
    return f"enough by itself to let go of: {' or '.join(names)}"


def _conflict_blocks(conflict: Conflict) -> list[Block]:
    blocks: list[Block]
    if conflict.hopeless:
        blocks = [Heading("Conflict"), Text(_hopeless(conflict))]
        return [*blocks, Bullets(conflict.rules)] if conflict.rules else blocks
    blocks = [
        Heading("These contradict each other, whatever else is let go of"),
        Bullets(tuple(limit.text for limit in conflict.limits)),
        Text(_whatever_else(conflict)),
        Heading("Each let go of alone, all else as it stands"),
        Bullets(tuple(_alone(limit, fits) for limit, fits in zip(conflict.limits, conflict.alone, strict=True))),
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
                free_cell(plan),
                number(plan.tokens_per_second, 0),
                _speed(cost),
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
    counted = (entry for entry in outcome.proof.removed if entry.rule != NOT_TRIED)
    removed = sorted(counted, key=lambda entry: -entry.count)[:3]
    if removed:
        counts = ", ".join(f"{entry.rule} {entry.count:,}" for entry in removed)
        said.append(f"Of {outcome.proof.candidates:,} candidates most were removed by {counts}.")
    return said


def alternatives_grid(base: Plan, alternatives: tuple[Alternative, ...]) -> Grid:
    """What each change would do, or why it does not fit."""
    rows = []
    for each in alternatives:
        change, free = each.throughput_change(base), each.headroom_change_gib(base)
        if each.plan is None or change is None or free is None:
            reason = each.refused if each.outcome is None else "does not fit: " + why_nothing_fits(each.outcome)
            rows.append((each.text, reason, "", ""))
            continue
        layout = short_layout(each.plan)
        rows.append((each.text, layout, _speed(change), f"{signed(free, 1)} ({free_cell(each.plan)})"))
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

    document: JsonObject = {
        "scenario": outcome.question.name,
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
            "limits": [
                {"name": limit.name, "text": limit.text, "without": dict(limit.without), "fits_without_it_alone": fits}
                for limit, fits in zip(conflict.limits, conflict.alone, strict=True)
            ],
            "let_go_of": [limit.name for limit in conflict.every],
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
        "other_methods": methods_document(explanation.methods),
        "options": options_document(explanation.options),
        "safer": safer_document(explanation.safer, base),
        "known_error": list(outcome.question.known_error_texts),
    }
    question = outcome.question
    return enveloped("explain", outcome.status, document, asked=[question], catalog=question.provenance)
