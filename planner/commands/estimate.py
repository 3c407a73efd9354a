"""`planner estimate`: the ledgers of one pinned layout, or the rules of thumb for a model."""

from __future__ import annotations

import click

from planner import clock
from planner.commands import completing
from planner.commands.common import Output, answer_options, one_layout, print_timings, set_option, timings_option
from planner.errors import InputError, Mistake, Place

MOST = 2**31
"""Sequences, or tokens of one."""


@click.command(epilog="Example: planner estimate example:qwen7b_rl_8gpu")
@click.argument("scenario", metavar="[SCENARIO]", required=False, shell_complete=completing.scenarios)
@click.option(
    "--rules",
    "model",
    metavar="MODEL",
    shell_complete=completing.models,
    help="Print each rule of thumb beside our own figure for MODEL.",
)
@click.option("--batch", type=click.IntRange(1, MOST), default=1, show_default=True, help="With --rules: sequences.")
@click.option(
    "--seq", type=click.IntRange(1, MOST), help="With --rules: tokens.  [default: 4096, or all learned positions]"
)
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp16", "fp32"]),
    default="bf16",
    show_default=True,
    help="With --rules: precision of training.",
)
@set_option
@answer_options
@timings_option
def command(
    scenario: str | None,
    model: str | None,
    batch: int,
    seq: int | None,
    precision: str,
    overrides: tuple[str, ...],
    timings: bool,
    output: Output,
) -> None:
    """Cost the one layout that SCENARIO pins, without a search and whether it fits or not (the verdict says so)."""
    started = clock.now()
    if scenario is not None and model is None:
        _estimate(scenario, overrides, output)
    elif model is not None and scenario is None:
        _rules(model, batch, seq, precision, output)
    else:
        raise InputError(
            Mistake(
                "estimate needs a scenario or --rules MODEL, one of them",
                Place("the command line"),
                attempt="planner estimate --rules qwen2.5-7b",
            )
        )
    if timings:
        print_timings([("estimate", clock.now() - started)])


def _estimate(scenario: str, overrides: tuple[str, ...], output: Output) -> None:
    from planner.inputs.catalog import default_catalog
    from planner.report.estimate import estimate_blocks, estimate_screen
    from planner.report.plan_figures import plan_figures
    from planner.report.plan_json import estimate_document

    plan = one_layout(scenario, overrides, default_catalog())
    output.write(
        lambda: estimate_blocks(plan),
        lambda: estimate_document(plan),
        screen=lambda: estimate_screen(plan),
        figures=lambda: plan_figures(plan),
    )


def _rules(model: str, batch: int, seq: int | None, precision: str, output: Output) -> None:
    from planner.analysis.rules_of_thumb import RuleBook
    from planner.inputs.catalog import default_catalog
    from planner.report.rule_book import rule_blocks, rule_document

    catalog = default_catalog()
    positions = catalog.find("models", model, Place("--rules")).learned_positions
    book = RuleBook(model, catalog, batch, seq or min(4096, positions or 4096), precision)
    output.write(lambda: rule_blocks(book), lambda: rule_document(book))
