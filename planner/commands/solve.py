"""`planner solve`: the best layout of a scenario, its proof, and what it is compared with."""

from __future__ import annotations

import click

from planner import clock, streams
from planner.commands.common import (
    Number,
    Output,
    answer_options,
    note,
    print_timings,
    progress,
    scenario_argument,
    set_option,
    timings_option,
)
from planner.errors import NoLayoutFits, NoVerdict

WHOLE_S = 600
"""Deadline of the command where no limit is given. [s]"""
SLACK = 0.1
"""What a plan is compared with may take so much longer than the search, as a share of its time limit."""
LEAST = 0.5
"""Share of the time limit that the search gets, however long modules and files took to read."""


@click.command(epilog="Example: planner solve example:qwen7b_rl")
@scenario_argument
@set_option
@answer_options
@click.option(
    "--time-limit",
    metavar="SECONDS",
    type=Number(min=0, min_open=True, max=1e6),
    help="Stop searching; the command ends by twice that and 5 s.  [default: search.time_limit_s, 60 where it is not "
    "written, and 600 for the command]",
)
@click.option(
    "--robust",
    is_flag=True,
    help="Of the layouts that the known error of a step cannot tell from the fastest, take the one whose worst case "
    "leaves most memory free.",
)
@click.option("--no-check", is_flag=True, help="Do not enumerate small spaces as a second check of the solver.")
@click.option("--no-compare", is_flag=True, help="Leave out the scenario's compare: columns.")
@timings_option
@click.pass_context
def command(
    context: click.Context,
    scenario: str,
    overrides: tuple[str, ...],
    time_limit: float | None,
    robust: bool,
    no_check: bool,
    no_compare: bool,
    timings: bool,
    output: Output,
) -> None:
    """Find the best layout of SCENARIO, prove it, and print its memory and time ledgers.

    Exit code 0: a plan; 1: proved that nothing fits; 3: no verdict within the time limit.
    """
    started = clock.now()  # modules that are loaded now count, for whoever waits
    from planner.analysis.infeasible.nearest import nearest
    from planner.analysis.option_gains import opened_options
    from planner.analysis.other_methods import enough_gpus, other_methods
    from planner.analysis.placements import placements
    from planner.analysis.published_columns import compare_columns
    from planner.analysis.robust import robust_document
    from planner.analysis.safer import safer
    from planner.analysis.uniform import uniform
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import load
    from planner.report.plan_figures import plan_figures
    from planner.report.solve import Solved, solve_blocks, solve_document, solve_ledgers, solve_screen
    from planner.search.enumerate import DEFAULT_POINTS
    from planner.search.search import plan

    context.with_resource(streams.deadline(WHOLE_S if time_limit is None else 2 * time_limit + 5))

    def left() -> float:
        return started + (WHOLE_S if time_limit is None else time_limit * (1 + SLACK)) - clock.now()

    catalog = default_catalog()
    document = load(scenario, overrides)
    document = robust_document(document, catalog) if robust else document
    read = clock.now() - started
    progress(f"searching {scenario}")
    points = 0 if no_check else DEFAULT_POINTS
    limited = None if time_limit is None else max(started + time_limit - clock.now(), LEAST * time_limit)
    outcome = plan(document, catalog, check_points=points, time_limit_s=limited, ties=True)
    searched = clock.now() - started
    limit = outcome.question.scenario.search.time_limit_s
    seconds = (limit if time_limit is None else time_limit) - searched
    progress("what it is compared with")
    lacks, base = outcome.status == "infeasible", outcome.plan
    solved = Solved(
        outcome,
        None if no_compare else streams.within(left(), lambda: compare_columns(outcome, catalog)),
        streams.within(left(), lambda: nearest(outcome, catalog, time_limit_s=min(limit, left()))) if lacks else None,
        streams.within(seconds, lambda: uniform(outcome, catalog, time_limit_s=seconds)),
        (*other_methods(outcome, catalog, progress, left), *enough_gpus(outcome, catalog, progress, left)),
        streams.within(left(), lambda: opened_options(outcome, catalog)) or (),
        streams.within(left(), lambda: placements(outcome, time_limit_s=min(limit, left()))) or (),
        safer=streams.within(left(), lambda: None if base is None else safer(base, catalog, time_limit_s=left())),
        robust=robust,
    )
    if left() <= 0:
        note("time is up: what the answer is compared with, or what would fit, may be missing")
    compared = clock.now() - started
    output.write(
        lambda: solve_blocks(solved),
        lambda: solve_document(solved),
        screen=lambda: solve_screen(solved),
        ledgers=lambda: solve_ledgers(solved),
        figures=lambda: plan_figures(outcome.plan) if outcome.plan is not None else [],
    )
    if timings:
        resolve = searched - read - sum(seconds for _, seconds in outcome.timings)
        rest = [("compare", compared - searched), ("render", clock.now() - started - compared)]
        print_timings([("read", read), ("resolve", resolve), *outcome.timings, *rest])
    if outcome.status == "infeasible":
        context.exit(NoLayoutFits.exit_code)
    if outcome.plan is None:
        note("no verdict: a longer --time-limit, or fewer open decisions, may give one")
        context.exit(NoVerdict.exit_code)
