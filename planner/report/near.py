"""The best distinct layouts as blocks and as data."""

from __future__ import annotations

from planner.problem.problem import Question
from planner.report.blocks import Block, Grid, Headline, Text
from planner.report.critical import critical_note, free_cell
from planner.report.envelope import enveloped, together
from planner.report.json_text import JsonObject
from planner.report.near_ties import variants_text
from planner.report.screen import Screen, model_text, risk_text, screen_blocks
from planner.report.short import LEGEND, short_binding, short_layout
from planner.report.summary import next_command, plan_error_blocks
from planner.search.decisions import layout_document
from planner.search.near_ties import DEGREES, NearTies, Tie, machines_of
from planner.search.plan import Plan
from planner.search.search import Outcome
from planner.units import number, percent, signed

TRY_THREE = "On public sweeps the best of the first three is the real best more often than the first alone: try three."


def near_blocks(name: str, outcomes: list[Outcome], within: float) -> list[Block]:
    """One row a layout, how far each is from the best (`within` was asked for), and what is known of the error."""
    plans = _plans(outcomes)
    if not plans:
        return [_none(name)]
    unproved = sum(outcome.status != "optimal" for outcome in outcomes)
    return [
        _headline(name, plans, within),
        near_table(plans, outcomes[0].near_ties),
        *critical_note(plans),
        *([Text(f"Not proved within the time limit: {unproved} of {len(plans)}.")] if unproved else []),
        Text(LEGEND),
        Text(TRY_THREE),
        *plan_error_blocks(plans[0]),
    ]


def near_screen(name: str, outcomes: list[Outcome], within: float) -> list[Block]:
    """The same on one screen."""
    plans = _plans(outcomes)
    if not plans:
        return screen_blocks(Screen(_none(name)))
    best = plans[0]
    unproved = sum(outcome.status != "optimal" for outcome in outcomes)
    rows = (("model", model_text(best)), ("risk", risk_text(best)))
    return screen_blocks(
        Screen(
            _headline(name, plans, within),
            table=near_table(plans, outcomes[0].near_ties, counted=True),
            notes=(
                *(note.text for note in critical_note(plans)),
                *([f"Not proved within the time limit: {unproved} of {len(plans)}."] if unproved else []),
            ),
            after=rows,
            command=next_command(outcomes[0].question, None, outcomes[0].status),
        )
    )


def _plans(outcomes: list[Outcome]) -> list[Plan]:
    return [outcome.plan for outcome in outcomes if outcome.plan is not None]


def _none(name: str) -> Headline:
    return Headline(f"{name}: no layout fits (proved)", good=False)


def _headline(name: str, plans: list[Plan], within: float) -> Headline:
    layouts = "layout" if len(plans) == 1 else "layouts"
    return Headline(f"{name}: {len(plans)} {layouts} within {percent(within)} of the best")


def near_table(plans: list[Plan], ties: NearTies | None, *, counted: bool = False) -> Grid:
    """One row a layout; variants are those that the first search knows to lie in the band, `counted` or named."""
    best, rows = plans[0], []
    for place, plan in enumerate(plans, 1):
        slower = plan.step_seconds / best.step_seconds - 1
        rows.append(
            (
                str(place),
                short_layout(plan),
                number(plan.step_seconds, 2),
                f"{signed(slower * 100, 1)} %",
                free_cell(plan),
                *(() if counted else (short_binding(plan),)),
                _variants(plan, ties, counted),
            )
        )
    header = ("", "layout", "step s", "slower", "free GiB", *(() if counted else ("fullest in",)), "variants")
    return Grid(header, tuple(rows), left=frozenset({1} if counted else {1, 5, 6}))


def tie_of(plan: Plan, ties: NearTies | None) -> Tie | None:
    """What the search knows of the variants of a layout."""
    found = ties.ties if ties is not None else ()
    same = (tie for tie in found if all(tie.layout[name] == plan.layout[name] for name in DEGREES))
    return next((tie for tie in same if tie.machines == machines_of(plan.problem)), None)


def _variants(plan: Plan, ties: NearTies | None, counted: bool) -> str:
    tie = tie_of(plan, ties)
    if tie is None:
        return "1"
    return str(tie.variants) if counted else variants_text(tie)


def near_document(question: Question, outcomes: list[Outcome]) -> JsonObject:
    """The same for programs."""
    document: JsonObject = {
        "scenario": question.name,
        "plans": [
            {
                "status": outcome.status,
                "layout": layout_document(outcome.plan),
                "step_seconds": outcome.plan.step_seconds,
                "tokens_per_second": outcome.plan.tokens_per_second,
                "headroom_gib": outcome.plan.headroom_gib,
                "given_back_gib": round(outcome.plan.given_back_gib, 9),
                "variants": 1 if (tie := tie_of(outcome.plan, outcomes[0].near_ties)) is None else tie.variants,
            }
            for outcome in outcomes
            if outcome.plan is not None
        ],
        "known_error": list(question.known_error_texts),
    }
    status = together(outcome.status for outcome in outcomes)
    return enveloped("near", status, document, asked=[question], catalog=question.provenance)
