"""A launch file that was judged: on one screen, as blocks, as JSON, and as lines that code hosts show."""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

from planner.errors import Place
from planner.inputs.document import Document
from planner.launch.lint import Linted
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Text
from planner.report.envelope import enveloped
from planner.report.json_text import JsonObject
from planner.report.plan_json import plan_document
from planner.report.safer import NAME, safer_blocks, safer_document, safer_text
from planner.report.screen import Screen, dies_text, machines_text, memory_text, risk_text, screen_blocks
from planner.report.short import short_layout
from planner.report.summary import memory_blocks
from planner.search.plan import chance_words, spare
from planner.search.plan import verdict as one_word

SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
SET = re.compile(r"--set (?:'[^']*'|[\w.]+=[^\s,]+)")
"""What a proposal says to type."""
SMALL_GIB = 0.05
"""Differences below it are none."""


def verdict(linted: Linted) -> str:
    """In a word whether it fits, peak, what is usable and what is left, and the chance that it fits."""
    plan = linted.plan
    if plan is None:
        return "not costed"
    chance = plan.fit_probability
    fits = "" if chance is None else f" (fits with {chance_words(chance)})"
    longest = ", if every sample is as long as the longest" if linted.found.padded and linted.fits is False else ""
    peak = f"peak {plan.peak_gib:.1f} of {plan.usable_gib:.1f} GiB usable"
    return f"{one_word(plan)}, {peak}, {spare(plan)}{fits}{longest}"


def change_text(before: Linted, after: Linted) -> str:
    """By how much a change of the file raises the peak, and the items that make it."""
    if before.plan is None or after.plan is None:
        which = "before" if before.plan is None else "after"
        return f"What this change does to the peak is not known: the file {which} it is not costed."
    raised = after.plan.peak_gib - before.plan.peak_gib
    between = f"from {before.plan.peak_gib:.1f} to {after.plan.peak_gib:.1f} GiB"
    if abs(raised) < SMALL_GIB:
        return f"This change leaves the peak at {after.plan.peak_gib:.1f} GiB."
    old = {item.name: item.amount for item in before.plan.binding.items}
    new = {item.name: item.amount for item in after.plan.binding.items}
    moved = sorted(old.keys() | new.keys(), key=lambda name: -abs(new.get(name, 0.0) - old.get(name, 0.0)))
    parts = (f"{name} {new.get(name, 0.0) - old.get(name, 0.0):+.1f}" for name in moved[:3])
    verb = "raises" if raised > 0 else "lowers"
    return f"This change {verb} the peak by {abs(raised):.1f} GiB, {between}: {', '.join(parts)}."


def lint_screen(linted: Linted, before: Linted | None = None, saved: str | None = None) -> list[Block]:
    """The same on one screen: findings, memory, what was taken as usual, what to type next."""
    plan = linted.plan
    rows = tuple((_spot(linted, one.where), one.severity, one.text) for one in linted.findings)
    table = Grid(("line", "severity", "what"), rows, left=frozenset({0, 1, 2})) if rows else None
    rows_of_plan = {"on": machines_text, "layout": short_layout, "memory": memory_text, "risk": risk_text}
    after = () if plan is None else tuple((name, text(plan)) for name, text in rows_of_plan.items())
    if plan is not None and linted.safer is not None:
        after += ((NAME, f"{safer_text(linted.safer, plan)}{_now(linted)}"),)
    lead = () if before is None else (change_text(before, linted),)
    return screen_blocks(
        Screen(
            _headline(linted),
            lead=lead,
            table=table,
            needed=0,
            notes=tuple(_taken(linted)),
            after=after,
            command=_next(linted, saved),
        )
    )


def lint_blocks(linted: Linted, before: Linted | None = None) -> list[Block]:
    """Findings, every value with its line, what was taken as usual, memory item by item."""
    found, out = linted.found, [_headline(linted)]
    blocks: list[Block] = [*out, *([Text(change_text(before, linted))] if before is not None else [])]
    if linted.findings:
        rows = tuple((str(one.where), one.severity, one.rule, one.text) for one in linted.findings)
        blocks.append(Grid(("line", "severity", "rule", "what"), rows, left=frozenset({0, 1, 2, 3})))
    read = tuple((str(place), word, str(found.words.get(word))) for word, place in sorted(found.places.items()))
    blocks += [Heading("Read from the file"), Grid(("line", "what", "value"), read, left=frozenset({0, 1, 2}))]
    taken = tuple(_taken(linted))
    blocks += [Heading("Not read, or taken as usual"), Bullets(taken)] if taken else []
    if linted.plan is not None:
        blocks += safer_blocks(linted.safer, linted.plan)
        blocks += [Text(f"Now{_now(linted)}.")] if _now(linted) else []
    return [*blocks, *(memory_blocks(linted.plan) if linted.plan is not None else [])]


def lint_document(linted: Linted, before: Linted | None = None) -> JsonObject:
    """The answer of `planner lint --format json`."""
    found, plan = linted.found, linted.plan
    findings = [
        {"severity": one.severity, "rule": one.rule, "text": one.text, "file": one.where.file, "line": one.where.line}
        for one in linted.findings
    ]
    answer: dict[str, object] = {
        "file": str(linted.path),
        "engine": found.engine,
        "launcher": found.launcher,
        "fits": linted.fits,
        "verdict": verdict(linted),
        "change": None if before is None else _change(before, linted),
        "findings": findings,
        "scenario": dict(linted.scenario),
        "lines": {word: place.line for word, place in sorted(found.places.items())},
        "assumed": dict(found.assumed),
        "unread": [{"file": place.file, "line": place.line, "why": why} for place, why in found.unread],
        "open": [mistake.render() for mistake in linted.open],
        "plan": None if plan is None else plan_document(plan),
        "safer": safer_document(linted.safer, plan),
    }
    digest = hashlib.sha256(linted.path.read_bytes() if linted.path.is_file() else b"").hexdigest()
    status = {None: "unknown", True: "estimate", False: "infeasible"}[linted.fits]
    receipts = () if plan is None else plan.problem.provenance
    return enveloped("lint", status, answer, asked=[Document(str(linted.path), {}, digest)], catalog=receipts)


def lint_sarif(linted: Linted) -> JsonObject:
    """Static Analysis Results Interchange Format 2.1.0, which code hosts show beside the lines."""
    found = [(one.rule, one.severity, one.text, one.where.file, one.where.line or 1) for one in linted.findings]
    plan = linted.plan
    if linted.fits is False:
        where = "" if plan is None else f"; {dies_text(plan)}"
        found.append(("memory", "error", verdict(linted) + where, str(linted.path), 1))
    results = [
        {
            "ruleId": rule,
            "level": level,
            "message": {"text": text},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(file)},
                        "region": {"startLine": line},
                    }
                },
            ],
        }
        for rule, level, text, file, line in found
    ]
    driver = {"name": "planner", "rules": [{"id": rule} for rule in sorted({rule for rule, *_ in found})]}
    return {"$schema": SARIF, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}


def _headline(linted: Linted) -> Headline:
    found, count = linted.found, len(linted.findings)
    said = f"{verdict(linted)}; {count} finding{'s' * (count != 1)}"
    good = linted.fits is True and not count
    return Headline(f"{linted.path}: {found.launcher} ({found.engine}): {said}", good=good)


def _taken(linted: Linted) -> list[str]:
    """What must be filled in, what was taken as usual, what could not be read."""
    said = ((mistake.what, mistake.because or mistake.attempt) for mistake in linted.open)
    lines = [what if why is None else f"{what} ({why})" for what, why in said]
    known = " ".join(lines)
    lines += [f"{path}: {why}; --set {path}=..." for path, why in linted.found.assumed.items() if why not in known]
    return lines + [f"{_spot(linted, place)}: {why}" for place, why in linted.found.unread]


def _now(linted: Linted) -> str:
    """`; line 12: micro_batch_size` for each value that the safe layout has otherwise and a line says."""
    changes = () if linted.safer is None else linted.safer.changes
    said = [(path, linted.places[path]) for path, _ in changes if path in linted.places]
    return "".join(f"; {path.rpartition('.')[2]} is line {_spot(linted, place)}" for path, place in said)


def _spot(linted: Linted, where: Place) -> str:
    """A line of the file itself by its number, of another one by its name too."""
    if where.line is None:
        return "-"
    return str(where.line) if where.file == str(linted.path) else f"{Path(where.file).name}:{where.line}"


def _change(before: Linted, after: Linted) -> dict[str, object]:
    peaks = [linted.plan.peak_gib if linted.plan is not None else None for linted in (before, after)]
    return {"before_peak_gib": peaks[0], "after_peak_gib": peaks[1], "text": change_text(before, after)}


def _uri(file: str) -> str:
    """A path as SARIF writes it: relative where it is, percent-encoded."""
    path = Path(file)
    return path.as_uri() if path.is_absolute() else Path("/", path).as_uri().removeprefix("file:///")


def _next(linted: Linted, saved: str | None) -> Command | None:
    file, found = shlex.quote(str(linted.path)), linted.found
    alone, file = file, " ".join([file, *(f"--beside {shlex.quote(str(each))}" for each in linted.beside)])
    if any(one.fix is not None for one in linted.findings):
        return Command(f"planner lint {file} --fix", "the diff that mends what can be mended on its line")
    if linted.plan is None:
        asked = [SET.findall(mistake.attempt or "") for mistake in linted.open]
        more = list(dict.fromkeys(each for some in asked for each in some))
        paths = {each.removeprefix("--set ").strip("'").partition("=")[0] for each in more}
        given = [f"--set {shlex.quote(one)}" for one in linted.overrides if one.partition("=")[0].strip() not in paths]
        again = " ".join(["planner lint", file, *given, *more])
        return Command(again, "with all that is missing, or cannot be") if asked and all(asked) else None
    if saved is None and found.network is None and (linted.fits is False or linted.findings):
        then = "planner explain on it says what makes it fit, launch --like changes the file"
        return Command(f"planner lint {file} --save run.yaml", then)
    if saved is not None and linted.fits is False:
        return Command(f"planner explain {shlex.quote(saved)}", "what makes it fit, each solved again")
    if saved is not None:
        like = f"planner launch {shlex.quote(saved)} --to {found.launcher} --like {alone}"
        return Command(like, "the diff of the file for another plan: --set changes it")
    if "cluster.node" in found.assumed:
        return Command(f"planner lint {file} --set cluster.node=NAME", "your machines: planner catalog list nodes")
    return None
