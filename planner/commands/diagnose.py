"""`planner diagnose`: paste an out-of-memory message, get the tensor that asked, the phase, and the right fix."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.commands.common import emit, format_option, out_option, render_blocks, set_option
from planner.errors import InputError, Mistake, Place
from planner.inputs.document import MAX_BYTES
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Text, pairs
from planner.report.json_text import dumps
from planner.units import GIB, number

if TYPE_CHECKING:
    from planner.analysis.diagnose.diagnose import Diagnosis

SHOWN = 5
"""Readings that are printed as a table; JSON has all."""


@click.command()
@click.argument("scenario", metavar="SCENARIO")
@click.argument("log", metavar="[-]", required=False)
@click.option("--message", metavar="TEXT", help="The message itself.")
@click.option("--file", "file", metavar="FILE", help="A log that holds it; `-` reads standard input.")
@set_option
@format_option("table", "json", "markdown")
@out_option
def command(
    scenario: str,
    log: str | None,
    message: str | None,
    file: str | None,
    overrides: tuple[str, ...],
    style: str,
    out: str | None,
    force: bool,
) -> None:
    """Read an out-of-memory message of a run that SCENARIO describes: which tensor asked, when, and what helps."""
    text = _text(scenario, log, message, file)
    from planner.analysis.diagnose.diagnose import diagnose
    from planner.inputs.document import load
    from planner.problem.resolve import question_of

    found = diagnose(question_of(load(scenario, overrides)).first, text)
    emit(dumps(_document(found)) if style == "json" else render_blocks(_blocks(found), style), out, force)


def _text(scenario: str, log: str | None, message: str | None, file: str | None) -> str:
    given = [value for value in (log, message, file) if value is not None]
    if len(given) != 1 or (log is not None and log != "-"):
        raise InputError(
            Mistake(
                "diagnose needs one message",
                Place("the command line"),
                "give --message TEXT, --file FILE or - for standard input, one of them",
                f"planner diagnose {scenario} --message 'Tried to allocate 58.15 GiB'",
            )
        )
    if message is not None:
        return message
    if scenario == "-" and given[0] == "-":
        raise InputError(
            Mistake("standard input cannot be both the scenario and the message", Place("the command line"))
        )
    try:
        if given[0] == "-":
            return sys.stdin.buffer.read(MAX_BYTES).decode("utf-8", errors="replace")
        with Path(given[0]).open("rb") as stream:
            return stream.read(MAX_BYTES).decode("utf-8", errors="replace")
    except OSError as error:
        raise InputError(Mistake(f"cannot read {given[0]}", Place("--file"), because=error.strerror)) from None


def _amounts(found: Diagnosis) -> list[tuple[str, float]]:
    m = found.message
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


def _blocks(found: Diagnosis) -> list[Block]:
    blocks: list[Block] = [Headline(found.headline, good=False), Heading("The message"), Text(found.message.quote)]
    amounts = _amounts(found)
    if amounts:
        blocks.append(pairs([(name, f"{number(gib, 3)} GiB") for name, gib in amounts]))
    if found.candidates:
        rows = tuple(
            (
                c.name,
                c.formula,
                _span(c.tokens),
                "-" if c.tokens is None else f"{c.excess:.2f}",
                c.phase,
                c.plausibility,
            )
            for c in found.candidates[:SHOWN]
        )
        blocks += [
            Heading("What asked for it"),
            Grid(
                ("tensor", "bytes", "tokens", "x micro-batch", "phase", "reading"), rows, left=frozenset({0, 1, 4, 5})
            ),
        ]
    if found.host:
        items = [(item.name, number(item.gib, 1)) for item in found.host]
        total = ("total", number(sum(item.gib for item in found.host), 1))
        blocks += [
            Heading("Host memory of one node, as planned"),
            Grid(("item", "GiB"), (*items, total), strong=frozenset({len(items)})),
        ]
    if found.findings:
        blocks += [Heading("What it tells"), Bullets(found.findings)]
    blocks += [Heading("What helps"), Bullets(found.fixes)]
    from planner.report.summary import scenario_argument

    name = scenario_argument(found.problem.document)
    return [*blocks, Command(f"planner solve {name}", "a layout that fits, if there is one")]


def _document(found: Diagnosis) -> dict[str, Any]:
    from importlib.metadata import version

    m = found.message
    return {
        "scenario": found.problem.scenario.name,
        "kind": m.kind,
        "phase": found.phase,
        "headline": found.headline,
        "message": {"quote": m.quote, "exact": m.exact, "gib": dict(_amounts(found))},
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
            for c in found.candidates
        ],
        "host_gib": {item.name: item.gib for item in found.host},
        "findings": list(found.findings),
        "fixes": list(found.fixes),
        "versions": {"planner": version("planner")},
        "provenance": dict(found.problem.provenance),
    }
