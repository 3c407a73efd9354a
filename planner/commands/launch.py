"""`planner launch`: the flags of a plan as a shell fragment."""

from __future__ import annotations

import click

from planner.commands.common import emit, out_option, scenario_argument, set_option


@click.command(epilog="Example: planner launch scenarios/qwen7b_rl.yaml --to slime --out plan.sh")
@scenario_argument
@click.option("--to", "launcher", metavar="LAUNCHER", required=True, help="slime or megatron.")
@set_option
@out_option
def command(scenario: str, launcher: str, overrides: tuple[str, ...], out: str | None, force: bool) -> None:
    """Solve SCENARIO and print the flags of its plan as bash arrays, each checked against the engine's own options."""
    from planner.errors import NoLayoutFits, NoVerdict
    from planner.inputs.catalog import Catalog, default_catalog
    from planner.inputs.document import load
    from planner.launch.registry import find, refuse_other_engines
    from planner.problem.resolve import question_of
    from planner.report.short import typed
    from planner.search.search import search, why_nothing_fits

    module = find(launcher)
    catalog: Catalog = default_catalog()
    document = load(scenario, overrides)
    question = question_of(document, catalog)
    refuse_other_engines(launcher, question.first, catalog)
    outcome = search(question)
    if outcome.status == "infeasible":
        raise NoLayoutFits(
            f"no layout fits, so there is nothing to launch: {why_nothing_fits(outcome)}\n"
            f"  try:     planner solve {typed(document)}"
        )
    if outcome.plan is None:
        raise NoVerdict("no plan within search.time_limit_s")
    emit(module.fragment(outcome, catalog), out, force)
