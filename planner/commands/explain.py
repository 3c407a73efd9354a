"""`planner explain`: what binds a plan, what other decisions would cost, and why nothing fits where nothing does."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from planner.commands.common import (
    emit,
    format_option,
    out_option,
    progress,
    render_blocks,
    scenario_argument,
    set_option,
)
from planner.errors import NoLayoutFits

if TYPE_CHECKING:
    from planner.analysis.infeasible.conflict import Conflict
    from planner.analysis.neighbours import Alternative
    from planner.inputs.document import Document
    from planner.report.blocks import Block
    from planner.search.plan import Plan
    from planner.search.search import Outcome


@click.command(epilog="Example: planner explain scenarios/qwen7b_rl.yaml --why-not layout.tensor_parallel=4")
@scenario_argument
@set_option
@click.option(
    "--why-not",
    "questions",
    metavar="PATH=VALUE",
    multiple=True,
    help="Ask why this value was not chosen; repeatable.",
)
@click.option("--no-neighbours", is_flag=True, help="Do not solve the neighbouring decisions.")
@format_option("table", "json", "markdown")
@out_option
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    overrides: tuple[str, ...],
    questions: tuple[str, ...],
    no_neighbours: bool,
    style: str,
    out: str | None,
    force: bool,
) -> None:
    """Say what binds the plan of SCENARIO, or which limits contradict each other where nothing fits.

    Every change that is named has been solved again. Exit code 0: a plan; 1: proved that nothing fits.
    """
    from planner.analysis.infeasible.conflict import explain_conflict
    from planner.analysis.neighbours import ask, neighbours
    from planner.inputs.catalog import default_catalog
    from planner.inputs.document import load
    from planner.search.search import plan

    catalog = default_catalog()
    document = load(scenario, overrides)
    changes = _questions(document, questions)
    outcome = plan(document, catalog, check_points=0)
    conflict = None
    if outcome.status == "infeasible":
        conflict = explain_conflict(document, catalog, progress=progress)
    around = [] if no_neighbours else neighbours(outcome, catalog, progress)
    asked = [ask(outcome, question, change, catalog) for question, change in changes]
    if style == "json":
        from planner.report.json_text import dumps

        emit(dumps(_document(outcome, conflict, around, asked)), out, force)
    else:
        emit(render_blocks(_blocks(outcome, conflict, around, asked, catalog), style), out, force)
    if outcome.status == "infeasible":
        context.exit(NoLayoutFits.exit_code)


def _questions(document: Document, questions: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """(as it was asked, what it changes) of each --why-not; a wrong one is refused before anything is solved."""
    from planner.inputs.document import validate, value_at, with_overrides
    from planner.schema.scenario import Scenario

    out = []
    for question in questions:
        changed = with_overrides(document, [question])
        validate(changed, Scenario)
        path = question.partition("=")[0].strip()
        out.append((question, {path: value_at(changed, path)}))
    return out


def _blocks(
    outcome: Outcome, conflict: Conflict | None, around: list[Alternative], asked: list[Alternative], catalog: Any
) -> list[Block]:
    from planner.analysis.infeasible.nearest import nearest
    from planner.report.blocks import Bullets, Heading
    from planner.report.short import short_layout
    from planner.report.summary import error_blocks, headline

    blocks: list[Block] = [headline(outcome)]
    plan = outcome.plan
    if conflict is not None:
        blocks += _conflict_blocks(conflict)
        blocks += [Heading("How far from fitting"), Bullets(nearest(outcome, catalog).sentences)]
    if plan is not None:
        blocks += [Heading("What binds"), Bullets(tuple(_binding(plan, outcome)))]
        if around:
            blocks += [
                Heading("What other decisions would do, each solved again"),
                _alternatives(plan, around),
            ]
    for alternative in asked:
        blocks += [Heading(f"Why not {alternative.text}?"), Bullets(tuple(_why_not(plan, alternative, catalog)))]
        if alternative.plan is not None and plan is not None:
            blocks.append(Bullets((f"It would be {short_layout(alternative.plan)}.",)))
    return [*blocks, *error_blocks(outcome.question)]


def _conflict_blocks(conflict: Conflict) -> list[Block]:
    from planner.report.blocks import Bullets, Grid, Heading, Text
    from planner.report.short import short_layout
    from planner.units import number, percent, signed

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
    from planner.report.summary import moment_name
    from planner.units import percent

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


def _alternatives(base: Plan, around: list[Alternative]) -> Block:
    from planner.report.blocks import Grid
    from planner.report.short import short_layout
    from planner.search.plan import given_up
    from planner.search.search import why_nothing_fits
    from planner.units import number, percent, signed

    rows = []
    for each in around:
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


def _why_not(base: Plan | None, alternative: Alternative, catalog: Any) -> list[str]:
    from planner.analysis.infeasible.nearest import nearest
    from planner.analysis.neighbours import same_decisions, slower_items
    from planner.units import percent, signed

    if alternative.outcome is None:
        return [f"It contradicts the scenario: {alternative.refused}."]
    if alternative.plan is None:
        return ["Nothing fits with it.", *nearest(alternative.outcome, catalog).sentences]
    if base is None:
        return ["It would fit, where the scenario as it stands does not."]
    change = alternative.throughput_change(base) or 0.0
    if same_decisions(alternative.plan, base):
        return ["The plan has it already."]
    word = "slower" if change < 0 else "faster"
    gap = f"{percent(abs(change))} {word}" if abs(change) >= 5e-4 else "as fast"
    free = alternative.plan.headroom_gib - base.headroom_gib
    said = [f"It is {gap}, with {signed(free, 2)} GiB headroom ({alternative.plan.headroom_gib:.2f} GiB)."]
    if change > 0 or abs(change) <= base.problem.scenario.search.near_tie:
        given = set(alternative.plan.wish.given_up) - set(base.wish.given_up)
        if given:
            said.append("It gives up a wish: " + ", ".join(sorted(given)) + ".")
        elif abs(change) <= base.problem.scenario.search.near_tie:
            said.append("Within the near-tie band the plan with more headroom, then the simpler one, is taken.")
    items = [item for item in slower_items(base, alternative.plan) if abs(item.change) > 0][:4]
    if items:
        text = ", ".join(f"{item.name} {signed(item.change, 3)} s" for item in items)
        said.append(f"Largest differences for the same work: {text}.")
    return said


def _document(
    outcome: Outcome, conflict: Conflict | None, around: list[Alternative], asked: list[Alternative]
) -> dict[str, Any]:
    from planner.report.short import provenance, short_layout

    base = outcome.plan

    def alternative(each: Alternative) -> dict[str, Any]:
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
        "alternatives": [alternative(each) for each in around],
        "why_not": [alternative(each) for each in asked],
        "provenance": provenance([outcome.question.document], outcome.question.provenance),
    }
