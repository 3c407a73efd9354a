"""`planner lint`: a launch script or configuration read back, never run, and judged line by line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.commands.common import emit, format_option, out_option, render_blocks, set_option
from planner.errors import CheckFailed, InputError, Mistake, NoLayoutFits, Place

if TYPE_CHECKING:
    from planner.launch.lint import Linted
    from planner.report.blocks import Block


@click.command(epilog="Example: planner lint run.sh --set cluster.node=hgx-h100-8")
@click.argument("file", metavar="FILE")
@click.option("--engine", metavar="NAME", help="Whose settings these are, where the file does not show it.")
@click.option("--fix", is_flag=True, help="Print the diff of FILE that mends what can be mended on its own lines.")
@set_option
@format_option("table", "json", "markdown", "sarif")
@out_option
@click.pass_context
def command(
    context: click.Context,
    file: str,
    engine: str | None,
    fix: bool,
    overrides: tuple[str, ...],
    style: str,
    out: str | None,
    force: bool,
) -> None:
    """Read FILE (shell script, YAML, JSON) as a pinned layout: what it breaks, what is misspelt, whether it fits.

    Exit code 1: it does not fit; 5: there are findings; 0: neither. What no line says is listed; --set fills it in.
    """
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import saved_answer
    from planner.launch.lint import fixed, lint
    from planner.report.json_text import dumps

    if engine is None and saved_answer(file) is not None:
        because, attempt = "lint reads launch scripts and settings", f"planner launch {file} --to LAUNCHER"
        raise InputError(Mistake(f"{file} is a saved answer, not a launch file", Place(file), because, attempt))
    linted = lint(Path(file), default_catalog(), overrides, engine)
    if fix:
        emit(fixed(linted.path, linted.findings) or "\n", out, force)
    elif style in ("json", "sarif"):
        emit(dumps(_document(linted) if style == "json" else _sarif(linted)), out, force)
    else:
        emit(render_blocks(_blocks(linted), style), out, force)
    if linted.fits is False:
        context.exit(NoLayoutFits.exit_code)
    if linted.findings or linted.plan is None:
        context.exit(CheckFailed.exit_code)


def _verdict(linted: Linted) -> str:
    plan = linted.plan
    if plan is None:
        return "not costed"
    free = plan.headroom_gib
    said = f"{free:.1f} GiB free" if free >= 0 else f"{-free:.1f} GiB missing"
    return f"peak {plan.peak_gib:.1f} of {plan.usable_gib:.1f} GiB usable, {said}"


def _document(linted: Linted) -> dict[str, object]:
    import hashlib

    from planner.inputs.document import Document
    from planner.report.envelope import enveloped
    from planner.report.plan_json import plan_document

    found = linted.found
    findings = [
        {"severity": one.severity, "rule": one.rule, "text": one.text, "file": one.where.file, "line": one.where.line}
        for one in linted.findings
    ]
    answer: dict[str, object] = {
        "file": str(linted.path),
        "engine": found.engine,
        "launcher": found.launcher,
        "fits": linted.fits,
        "verdict": _verdict(linted),
        "findings": findings,
        "scenario": dict(linted.scenario),
        "lines": {word: place.line for word, place in sorted(found.places.items())},
        "assumed": dict(found.assumed),
        "unread": [{"file": place.file, "line": place.line, "why": why} for place, why in found.unread],
        "open": [mistake.render() for mistake in linted.open],
        "plan": None if linted.plan is None else plan_document(linted.plan),
    }
    digest = (
        hashlib.sha256(linted.path.read_bytes()).hexdigest() if linted.path.is_file() else hashlib.sha256().hexdigest()
    )
    status = {None: "unknown", True: "estimate", False: "infeasible"}[linted.fits]
    receipts = () if linted.plan is None else linted.plan.problem.provenance
    return enveloped("lint", status, answer, asked=[Document(str(linted.path), {}, digest)], catalog=receipts)


def _sarif(linted: Linted) -> dict[str, object]:
    """Static Analysis Results Interchange Format 2.1.0, which code hosts show beside the lines."""
    found = [(one.rule, one.severity, one.text, one.where.file, one.where.line or 1) for one in linted.findings]
    if linted.fits is False:
        found.append(("memory", "error", f"does not fit: {_verdict(linted)}", str(linted.path), 1))
    results = [
        {
            "ruleId": rule,
            "level": level,
            "message": {"text": text},
            "locations": [
                {"physicalLocation": {"artifactLocation": {"uri": file}, "region": {"startLine": line}}},
            ],
        }
        for rule, level, text, file, line in found
    ]
    driver = {"name": "planner", "rules": [{"id": rule} for rule in sorted({rule for rule, *_ in found})]}
    return {"version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _blocks(linted: Linted) -> list[Block]:
    from planner.report.blocks import Bullets, Grid, Heading, Headline
    from planner.report.summary import memory_blocks

    found, plan, count = linted.found, linted.plan, len(linted.findings)
    said = f"{_verdict(linted)}; {count} finding{'s' * (count != 1)}"
    good = linted.fits is True and not count
    out: list[Block] = [Headline(f"{linted.path}: {found.launcher} ({found.engine}): {said}", good=good)]
    if linted.findings:
        rows = tuple((str(one.where), one.severity, one.rule, one.text) for one in linted.findings)
        out.append(Grid(("line", "severity", "rule", "what"), rows, left=frozenset({0, 1, 2, 3})))
    read = tuple((str(place), word, str(found.words.get(word))) for word, place in sorted(found.places.items()))
    out += [Heading("Read from the file"), Grid(("line", "what", "value"), read, left=frozenset({0, 1, 2}))]
    taken = [f"{path}: {why}; --set {path}=..." for path, why in found.assumed.items()]
    taken += [f"{place}: {why}" for place, why in found.unread]
    taken += [f"{mistake.where}: {mistake.what} ({mistake.because})" for mistake in linted.open]
    if taken:
        out += [Heading("Not read, or taken as usual"), Bullets(tuple(taken))]
    if plan is not None:
        out += memory_blocks(plan)
    return out
