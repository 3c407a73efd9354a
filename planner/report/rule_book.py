"""Rules of thumb beside our own figures, as blocks and as data."""

from __future__ import annotations

from importlib.metadata import version

from planner.analysis.rules_of_thumb import RuleBook
from planner.formulas import rules_of_thumb as rules
from planner.report.blocks import Block, Bullets, Command, Grid, Headline, Text
from planner.report.json_text import JsonObject
from planner.units import number


def rule_blocks(book: RuleBook) -> list[Block]:
    """One row a rule, beside our own figure and what that is."""
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


def rule_document(book: RuleBook) -> JsonObject:
    """The same for programs."""
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
