"""What an out-of-memory message tells, as blocks and as data."""

from __future__ import annotations

from planner.analysis.diagnose.diagnose import Diagnosis
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Text, pairs
from planner.report.envelope import ANSWERED, enveloped
from planner.report.json_text import JsonObject
from planner.report.screen import Screen, screen_blocks
from planner.report.summary import scenario_argument
from planner.units import GIB, number

SHOWN = 5
"""Readings that are printed as a table; JSON has all."""


def _amounts(diagnosis: Diagnosis) -> list[tuple[str, float]]:
    m = diagnosis.message
    low, high = m.requested or (None, None)
    named: list[tuple[str, float | None]] = [
        ("requested, at least", low),
        ("requested, at most", high),
        ("card", m.capacity),
        ("free", m.free),
        ("allocated by PyTorch", m.allocated),
        ("reserved but unallocated", m.reserved_unallocated),
        ("other processes", m.others or None),
        ("host memory in use", m.host_used),
        ("host memory", m.host_limit),
    ]
    return [(name, amount / GIB) for name, amount in named if amount is not None]


def _span(tokens: tuple[int, int] | None) -> str:
    if tokens is None:
        return "-"
    return f"{tokens[0]:,}" if tokens[0] == tokens[1] else f"{tokens[0]:,} to {tokens[1]:,}"


def diagnosis_blocks(diagnosis: Diagnosis) -> list[Block]:
    """The message, the tensors that may have asked, what that tells, and what helps."""
    blocks: list[Block] = [
        Headline(diagnosis.headline, good=False),
        Heading("The message"),
        Text(diagnosis.message.quote),
    ]
    amounts = _amounts(diagnosis)
    if amounts:
        blocks.append(pairs([(name, f"{number(gib, 3)} GiB") for name, gib in amounts]))
    if diagnosis.candidates:
        rows = tuple(
            (
                c.name,
                c.formula,
                _span(c.tokens),
                "-" if c.tokens is None else f"{c.excess:.2f}",
                c.phase,
                c.plausibility,
            )
            for c in diagnosis.candidates[:SHOWN]
        )
        blocks += [
            Heading("What asked for it"),
            Grid(
                ("tensor", "bytes", "tokens", "x micro-batch", "phase", "reading"), rows, left=frozenset({0, 1, 4, 5})
            ),
        ]
    if diagnosis.host:
        items = [(item.name, number(item.gib, 1)) for item in diagnosis.host]
        total = ("total", number(sum(item.gib for item in diagnosis.host), 1))
        blocks += [
            Heading("Host memory of one node, as planned"),
            Grid(("item", "GiB"), (*items, total), strong=frozenset({len(items)})),
        ]
    if diagnosis.findings:
        blocks += [Heading("What it tells"), Bullets(diagnosis.findings)]
    blocks += [Heading("What helps"), Bullets(diagnosis.fixes)]

    name = scenario_argument(diagnosis.problem.document)
    return [*blocks, Command(f"planner solve {name}", "a layout that fits, if there is one")]


def diagnosis_screen(diagnosis: Diagnosis) -> list[Block]:
    """The same on one screen: what asked, what that tells, what helps."""
    rows = [("message", " ".join(diagnosis.message.quote.split())[:200])]
    rows += [("phase", diagnosis.phase)]
    if diagnosis.best is not None:
        rows.append(("asked", f"{diagnosis.best.name}: {diagnosis.best.formula} ({diagnosis.best.plausibility})"))
    notes = (*(f"helps: {fix}" for fix in diagnosis.fixes), *diagnosis.findings)
    name = scenario_argument(diagnosis.problem.document)
    command = Command(f"planner solve {name}", "a layout that fits, if there is one (-v here: other readings)")
    headline = Headline(diagnosis.headline, good=False)
    return screen_blocks(Screen(headline, rows=tuple(rows), notes=notes, command=command))


def diagnosis_document(diagnosis: Diagnosis) -> JsonObject:
    """The same for programs."""
    m = diagnosis.message
    document: JsonObject = {
        "scenario": diagnosis.problem.name,
        "kind": m.kind,
        "phase": diagnosis.phase,
        "headline": diagnosis.headline,
        "message": {"quote": m.quote, "exact": m.exact, "gib": dict(_amounts(diagnosis))},
        "readings": [
            {
                "tensor": c.name,
                "group": c.group,
                "phase": c.phase,
                "bytes": c.formula,
                "unit_bytes": c.unit_bytes,
                "tokens": None if c.tokens is None else list(c.tokens),
                "times_micro_batch": None if c.tokens is None else c.excess,
                "score": round(c.score, 4),
                "plausibility": c.plausibility,
            }
            for c in diagnosis.candidates
        ],
        "host_gib": {item.name: item.gib for item in diagnosis.host},
        "findings": list(diagnosis.findings),
        "fixes": list(diagnosis.fixes),
    }
    question = diagnosis.problem.alone
    return enveloped("diagnose", ANSWERED, document, asked=[question], catalog=question.provenance)
