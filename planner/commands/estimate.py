"""`planner estimate`: the ledgers of one pinned layout, or the rules of thumb for a model."""

from __future__ import annotations

import time
from typing import Any

import click

from planner.analysis.rules_of_thumb import RuleBook
from planner.commands.common import (
    emit,
    format_option,
    out_option,
    print_timings,
    render_blocks,
    set_option,
    timings_option,
)
from planner.errors import InputError, Mistake, Place
from planner.formulas import rules_of_thumb as rules
from planner.inputs.catalog import default_catalog
from planner.report.blocks import Block, Bullets, Command, Grid, Headline, Text
from planner.report.json_text import dumps
from planner.report.summary import plan_blocks, plan_error_blocks, scenario_argument, spare
from planner.search.plan import Plan, verdict
from planner.units import number


@click.command()
@click.argument("scenario", metavar="[SCENARIO]", required=False)
@click.option("--rules", "model", metavar="MODEL", help="Print each rule of thumb beside our own figure for MODEL.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="With --rules: sequences.")
@click.option(
    "--seq", type=click.IntRange(min=1), help="With --rules: tokens.  [default: 4096, or all learned positions]"
)
@click.option(
    "--precision",
    type=click.Choice(["bf16", "fp16", "fp32"]),
    default="bf16",
    show_default=True,
    help="With --rules: precision of training.",
)
@set_option
@format_option("table", "json", "markdown")
@out_option
@timings_option
def command(
    scenario: str | None,
    model: str | None,
    batch: int,
    seq: int | None,
    precision: str,
    overrides: tuple[str, ...],
    style: str,
    out: str | None,
    force: bool,
    timings: bool,
) -> None:
    """Cost the one layout that SCENARIO pins, without a search and whether it fits or not (the verdict says so)."""
    started = time.monotonic()
    if (scenario is None) == (model is None):
        raise InputError(
            Mistake(
                "estimate needs a scenario or --rules MODEL, one of them",
                Place("the command line"),
                attempt="planner estimate --rules qwen2.5-7b",
            )
        )
    if model is not None:
        positions = default_catalog().find("models", model).learned_positions
        book = RuleBook(model, default_catalog(), batch, seq or min(4096, positions or 4096), precision)
        text = dumps(_rules_document(book)) if style == "json" else render_blocks(_rules_blocks(book), style)
    else:
        assert scenario is not None
        from planner.inputs.document import load
        from planner.search.estimate import estimate

        plan = estimate(load(scenario, overrides), default_catalog())
        text = dumps(_document(plan)) if style == "json" else render_blocks(_blocks(plan), style)
    emit(text, out, force)
    if timings:
        print_timings([("estimate", time.monotonic() - started)])


def _document(plan: Plan) -> dict[str, Any]:
    from planner.report.plan_json import estimate_document

    return estimate_document(plan)


def _blocks(plan: Plan) -> list[Block]:
    answer = verdict(plan)
    name = plan.problem.scenario.name
    text = f"{name}: the pinned layout on {plan.layout['num_gpus']} GPUs: {answer}, {spare(plan)}"
    scenario = scenario_argument(plan.problem.document)
    return [
        Headline(text, good=answer == "safe"),
        *plan_blocks(plan),
        *plan_error_blocks(plan),
        Command(f"planner estimate {scenario} --format json", "every item of the ledgers with its source"),
    ]


def _rules_blocks(book: RuleBook) -> list[Block]:
    rows = []
    for rule in book.rows():
        ours = "-" if rule.ours_gb is None else number(rule.ours_gb)
        share = "-" if not rule.ours_gb else f"{rule.rule_gb / rule.ours_gb:.2f}"
        rows.append((rule.name, rule.formula, number(rule.rule_gb), ours, share, rule.ours_is))
    titles = dict.fromkeys(rule.source for rule in book.rows())
    seven = rules.quick_estimate_gb(parameters_billion=7)
    return [
        Headline(
            f"{book.architecture.id}: rules of thumb against our own figures "
            f"(batch {book.batch} x {book.sequence_length:,} tokens, {book.precision}; decimal GB)"
        ),
        Text(
            f"P = {book.parameters:,} parameters. Ours: Megatron-core on one GPU unless the last column says otherwise."
        ),
        Grid(
            ("rule", "formula", "rule GB", "ours GB", "rule/ours", "our figure is"),
            tuple(rows),
            left=frozenset({0, 1, 5}),
        ),
        Text("Rules are taken from:"),
        Bullets(tuple(titles)),
        Text(
            f"The quick estimate gives {seven:.2f} GB for 7 billion parameters; the comment beside it claims "
            f"{rules.QUICK_ESTIMATE_COMMENT_GB:g}."
        ),
        Command("planner solve scenarios/qwen7b_rl.yaml", "a plan counted tensor by tensor"),
    ]


def _rules_document(book: RuleBook) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "model": book.architecture.id,
        "parameters": book.parameters,
        "batch": book.batch,
        "sequence_length": book.sequence_length,
        "precision": book.precision,
        "rules": [
            {
                "name": rule.name,
                "formula": rule.formula,
                "rule_gb": round(rule.rule_gb, 9),
                "ours_gb": None if rule.ours_gb is None else round(rule.ours_gb, 9),
                "ours_is": rule.ours_is,
                "source": rule.source,
            }
            for rule in book.rows()
        ],
        "provenance": {"planner": version("planner"), "catalog": book.catalog.used()},
    }
