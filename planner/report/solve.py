"""The answer of one search as blocks and as data."""

from __future__ import annotations

from dataclasses import dataclass

from planner.analysis.infeasible.nearest import Nearest
from planner.analysis.published_columns import PublishedColumns
from planner.analysis.uniform import Uniform
from planner.report.blocks import Block, Bullets, Heading, Text
from planner.report.json_text import JsonObject
from planner.report.plan_json import outcome_document
from planner.report.published_columns import comparison_blocks
from planner.report.summary import error_blocks, headline, next_command, plan_blocks, proof_blocks
from planner.report.uniform import uniform_blocks
from planner.search.search import Outcome


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


def solve_blocks(solved: Solved) -> list[Block]:
    """The plan with its ledgers, what it is compared with, the proof, known errors, and what to type next."""
    outcome, nearest = solved.outcome, solved.nearest
    blocks: list[Block] = [headline(outcome)]
    question = outcome.question.scenario.question
    if question:
        blocks.append(Text(question.strip()))
    if outcome.plan is not None:
        blocks += plan_blocks(outcome.plan)
    if nearest is not None:
        blocks += [Heading("Nearest"), Bullets(nearest.sentences)]
    blocks += uniform_blocks(solved.uniform)
    if solved.comparison is not None:
        blocks += comparison_blocks(solved.comparison)
    blocks += proof_blocks(outcome)
    blocks += error_blocks(outcome.question)
    headroom_gib = nearest.feasible_headroom_gib if nearest is not None else None
    return [*blocks, next_command(outcome.question, headroom_gib, outcome.status)]


def solve_document(solved: Solved) -> JsonObject:
    """The same for programs."""
    return outcome_document(solved.outcome, solved.comparison, solved.nearest, solved.uniform)
