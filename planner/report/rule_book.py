"""Rules of thumb beside our own figures, as blocks and as data."""

from __future__ import annotations

from planner.analysis.named_rules import every_rule
from planner.analysis.rules_of_thumb import RuleBook
from planner.formulas import rules_of_thumb as rules
from planner.report.blocks import Block, Bullets, Command, Grid, Headline, Text
from planner.report.envelope import ANSWERED, enveloped
from planner.report.json_text import JsonObject
from planner.units import number


def rule_blocks(book: RuleBook) -> list[Block]:
    """One row a rule, beside our own figure and what that is."""
    found = every_rule(book)
    rows = []
    titles = {title: f"[{index}]" for index, title in enumerate(dict.fromkeys(rule.source for rule in found), 1)}
    for rule in found:
        share = "-" if rule.share is None else f"{rule.share:.2f}"
        figures = (_figure(rule.rule, rule.unit), _figure(rule.ours, rule.unit))
        rows.append((f"{rule.name} {titles[rule.source]}", rule.formula, *figures, share, rule.ours_is))
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
        Bullets(tuple(f"{mark} {title}" for title, mark in titles.items())),
        Text(
            f"The quick estimate gives {seven:.2f} GB for 7 billion parameters; the comment beside it claims "
            f"{rules.QUICK_ESTIMATE_COMMENT_GB:g}."
        ),
        Command(f"planner ask {book.architecture.id} --gpus 8xh100", "a plan counted tensor by tensor"),
    ]


def rule_document(book: RuleBook) -> JsonObject:
    """The same for programs."""
    document: JsonObject = {
        "model": book.architecture.id,
        "parameters": book.parameters,
        "batch": book.batch,
        "sequence_length": book.sequence_length,
        "precision": book.precision,
        "rules": [
            {
                "name": rule.name,
                "formula": rule.formula,
                "unit": rule.unit,
                "rule": _rounded(rule.rule),
                "ours": _rounded(rule.ours),
                "rule_gb": _rounded(rule.rule) if rule.unit == "GB" else None,
                "ours_gb": _rounded(rule.ours) if rule.unit == "GB" else None,
                "ours_is": rule.ours_is,
                "source": rule.source,
            }
            for rule in every_rule(book)
        ],
    }
    return enveloped("estimate", ANSWERED, document, catalog=book.catalog.used())


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    text = number(value) if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
    return text if unit == "GB" else f"{text} {unit}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 9)
