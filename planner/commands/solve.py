"""`planner solve`: the best layout of a scenario, its proof, and what it is compared with."""

from __future__ import annotations

import time
from dataclasses import dataclass

import click

from planner.analysis.infeasible.nearest import Nearest, nearest
from planner.analysis.published_columns import PublishedColumns, compare_columns
from planner.analysis.uniform import Uniform, uniform
from planner.commands.common import (
    emit,
    format_option,
    note,
    out_option,
    print_timings,
    progress,
    render_blocks,
    scenario_argument,
    set_option,
    timings_option,
)
from planner.errors import NoLayoutFits, NoVerdict
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.report.blocks import Block, Bullets, Heading, Text
from planner.report.json_text import dumps
from planner.report.published_columns import comparison_blocks
from planner.report.summary import error_blocks, headline, next_command, plan_blocks, proof_blocks
from planner.report.uniform import uniform_blocks
from planner.search.enumerate import DEFAULT_POINTS
from planner.search.search import Outcome, plan


@click.command()
@scenario_argument
@set_option
@format_option("table", "json", "markdown")
@out_option
@click.option("--time-limit", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True), help="Stop searching.")
@click.option("--no-check", is_flag=True, help="Do not enumerate small spaces as a second check of the solver.")
@click.option("--no-compare", is_flag=True, help="Leave out the scenario's compare: columns.")
@timings_option
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    overrides: tuple[str, ...],
    style: str,
    out: str | None,
    force: bool,
    time_limit: float | None,
    no_check: bool,
    no_compare: bool,
    timings: bool,
) -> None:
    """Find the best layout of SCENARIO, prove it, and print its memory and time ledgers.

    Exit code 0: a plan; 1: proved that nothing fits; 3: no verdict within the time limit.
    """
    started = time.monotonic()
    catalog = default_catalog()
    document = load(scenario, overrides)
    read = time.monotonic() - started
    progress(f"planner: searching {scenario} ...")
    outcome = plan(document, catalog, check_points=0 if no_check else DEFAULT_POINTS, time_limit_s=time_limit)
    searched = time.monotonic() - started
    comparison = None if no_compare else compare_columns(outcome, catalog)
    missing = nearest(outcome, catalog) if outcome.status == "infeasible" else None
    alike = uniform(outcome, catalog, time_limit_s=time_limit)
    compared = time.monotonic() - started
    emit(_render(outcome, SolvedBeside(comparison, missing, alike), style), out, force)
    if timings:
        resolve = searched - read - sum(seconds for _, seconds in outcome.timings)
        rest = [("compare", compared - searched), ("render", time.monotonic() - started - compared)]
        print_timings([("read", read), ("resolve", resolve), *outcome.timings, *rest])
    if outcome.status == "infeasible":
        context.exit(NoLayoutFits.exit_code)
    if outcome.plan is None:
        note("no verdict: a longer --time-limit, or fewer open decisions, may give one")
        context.exit(NoVerdict.exit_code)


@dataclass(frozen=True)
class SolvedBeside:
    """What is solved beside the plan."""

    comparison: PublishedColumns | None
    missing: Nearest | None
    alike: Uniform | None


def _render(outcome: Outcome, beside: SolvedBeside, style: str) -> str:
    if style == "json":
        from planner.report.plan_json import outcome_document

        return dumps(outcome_document(outcome, beside.comparison, beside.missing, beside.alike))
    return render_blocks(_blocks(outcome, beside), style)


def _blocks(outcome: Outcome, beside: SolvedBeside) -> list[Block]:
    missing = beside.missing
    blocks: list[Block] = [headline(outcome)]
    question = outcome.question.scenario.question
    if question:
        blocks.append(Text(question.strip()))
    if outcome.plan is not None:
        blocks += plan_blocks(outcome.plan)
    if missing is not None:
        blocks += [Heading("Nearest"), Bullets(missing.sentences)]
    blocks += uniform_blocks(beside.alike)
    if beside.comparison is not None:
        blocks += comparison_blocks(beside.comparison)
    blocks += proof_blocks(outcome)
    blocks += error_blocks(outcome.question)
    return [
        *blocks,
        next_command(outcome.question, missing.feasible_headroom_gib if missing is not None else None, outcome.status),
    ]
