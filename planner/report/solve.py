"""The answer of one search as blocks and as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.analysis.infeasible.nearest import Nearest
from planner.analysis.option_gains import OptionGain
from planner.analysis.other_methods import Method
from planner.analysis.placements import Placed
from planner.analysis.published_columns import PublishedColumns
from planner.analysis.safer import Safer
from planner.analysis.uniform import Uniform
from planner.problem.defaults import held_line
from planner.problem.named_attention import OPTION
from planner.problem.option_sets import turned_on
from planner.report.blocks import Block, Bullets, Command, Heading, Text
from planner.report.json_text import JsonObject
from planner.report.methods import method_command, method_notes
from planner.report.near_ties import near_tie_text
from planner.report.options import option_blocks, option_line
from planner.report.placements import placement_blocks, placement_line
from planner.report.plan_json import outcome_document
from planner.report.published_columns import comparison_blocks, comparison_result
from planner.report.safer import safer_blocks, safer_document, safer_rows
from planner.report.screen import ONE_LINE, Screen, plan_rows, screen_blocks, seconds_text
from planner.report.short import typed
from planner.report.summary import (
    error_blocks,
    headline,
    next_command,
    plan_blocks,
    proof_blocks,
    scenario_argument,
)
from planner.report.uniform import uniform_blocks
from planner.search.plan import Plan, verdict
from planner.search.search import Outcome
from planner.units import number


@dataclass(frozen=True)
class Solved:
    """An outcome, and what was solved beside it."""

    outcome: Outcome
    comparison: PublishedColumns | None = None
    """The scenario's `compare:` columns."""
    nearest: Nearest | None = None
    """What would nearly fit, where nothing does."""
    uniform: Uniform | None = None
    """The best plan with stages that are alike, where the scenario leaves them free."""
    methods: tuple[Method, ...] = ()
    """Other ways to train that would fit, where nothing does."""
    options: tuple[OptionGain, ...] = ()
    """What options of the engine do at the plan's layout, where the scenario leaves some open."""
    placements: tuple[Placed, ...] = ()
    """The placements of trainer and rollout engine, where the scenario leaves them open."""
    assumed: tuple[str, ...] = ()
    """What was taken for a question that was told in a few words, in words."""
    command: Command | None = None
    """What to type next, where that is not about a scenario file."""
    safer: Safer | None = None
    """What would make the plan safe, where it is not."""
    robust: bool = False
    """Whether the layout with the best worst case was asked for."""


def solve_screen(solved: Solved) -> list[Block]:
    """The plan on one screen."""
    outcome, nearest = solved.outcome, solved.nearest
    asked = outcome.question.scenario.question
    lead = [asked.strip()] if asked else []
    lead += [assumed_text(solved.assumed)] if solved.assumed else []
    if solved.comparison is not None:
        lead += comparison_result(solved.comparison)
    command = _next(solved)
    if outcome.plan is None:
        notes = (*method_notes(solved.methods), *(nearest.sentences if nearest is not None else ()))
        return screen_blocks(Screen(headline(outcome), tuple(lead), notes=notes, command=command))
    command = replace(command, purpose=f"{command.purpose} (-v: ledgers; -vv: proof as well)")
    said = (("placement", placement_line(solved.placements)), ("options", option_line(solved.options)))
    rows = (*plan_rows(outcome.plan, outcome.near_ties), *safer_rows(solved.safer, outcome.plan))
    rows += tuple(row for row in said if row[1])
    rows += (("robust", robust_text(outcome.plan)),) if solved.robust else ()
    beside = held_line(outcome.proof.held, ONE_LINE)
    rows += (("held", beside),) if beside is not None else ()
    return screen_blocks(Screen(headline(outcome), tuple(lead), rows, command=command))


def solve_ledgers(solved: Solved) -> list[Block]:
    """The plan with its ledgers and what it is compared with."""
    outcome, nearest = solved.outcome, solved.nearest
    blocks: list[Block] = [headline(outcome)]
    question = outcome.question.scenario.question
    if question:
        blocks.append(Text(question.strip()))
    blocks += [Text(assumed_text(solved.assumed))] if solved.assumed else []
    if outcome.plan is not None:
        blocks += [Text(f"Robust: {robust_text(outcome.plan)}.")] if solved.robust else []
        blocks += [*plan_blocks(outcome.plan), *safer_blocks(solved.safer, outcome.plan, outcome.question.document)]
        blocks += [*placement_blocks(solved.placements), *option_blocks(solved.options)]
    if nearest is not None:
        blocks += [Heading("Nearest"), Bullets((*method_notes(solved.methods), *nearest.sentences))]
    blocks += uniform_blocks(solved.uniform)
    if solved.comparison is not None:
        blocks += comparison_blocks(solved.comparison)
    return [*blocks, _next(solved)]


def solve_blocks(solved: Solved) -> list[Block]:
    """The plan with its ledgers, what it is compared with, the proof, known errors, and what to type next."""
    *blocks, command = solve_ledgers(solved)
    known, ties = error_blocks(solved.outcome.question), solved.outcome.near_ties
    if ties is not None:
        text, where = near_tie_text(ties), " planner near lists them." if len(ties.ties) > 1 else ""
        known.append(Text(f"{text[0].upper()}{text[1:]}.{where}"))
    return [*blocks, *proof_blocks(solved.outcome), *known, command]


def robust_text(plan: Plan) -> str:
    """What is the worst case of a plan that was chosen for it."""
    memory, step = plan.interval_gib, plan.step_interval_seconds
    said = [] if memory is None else [f"{number(memory[1], 1)} of {number(plan.usable_gib, 1)} GiB"]
    said += [] if step is None else [f"{seconds_text(step[1])} a step"]
    return f"most memory free of the near ties; at worst (95 of 100) {' and '.join(said)}"


def assumed_text(assumed: Sequence[str]) -> str:
    """What nobody asked for, as a sentence."""
    return f"Assumed: {'; '.join(assumed)}. Change any with --set."


def _next(solved: Solved) -> Command:
    if solved.command is not None:
        return solved.command
    plan = solved.outcome.plan
    named = plan.problem.named_attention if plan is not None else None
    if plan is not None and named is not None and named.kernel is None:
        on = ",".join(turned_on(plan.problem.engine, plan.problem.scenario.engine_options, OPTION))
        again = typed(solved.outcome.question.document, (f"engine_options=[{on}]",))
        return Command(f"planner solve {again}", "the same with eager attention, which trains there")
    if plan is not None and solved.safer is not None and solved.safer.plan is not None and verdict(plan) != "likely":
        again = typed(solved.outcome.question.document, solved.safer.arguments)
        return Command(f"planner solve {again}", "the safe layout in full")
    if solved.methods and solved.methods[0].plan.critical:
        explain = f"planner explain {scenario_argument(solved.outcome.question.document)}"
        return Command(explain, "what makes it fit with more room, each solved again")
    if solved.methods:
        return method_command(solved.outcome.question.document, solved.methods[0])
    headroom_gib = solved.nearest.feasible_headroom_gib if solved.nearest is not None else None
    return next_command(solved.outcome.question, headroom_gib, solved.outcome.status)


def solve_document(solved: Solved) -> JsonObject:
    """The same for programs."""
    document = outcome_document(solved.outcome, solved.comparison, solved.nearest, solved.uniform, solved.methods)
    return {**document, "safer": safer_document(solved.safer, solved.outcome.plan)}
