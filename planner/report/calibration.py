"""Factors fitted to the log of a run, as blocks and as data."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from planner.analysis.calibrate.doubts import TIMES_KNOWN, Doubt
from planner.analysis.calibrate.fit import FittedFactors
from planner.analysis.calibrate.lengths import LoggedLengths
from planner.report.blocks import Block, Bullets, Command, Grid, Headline, Text
from planner.report.envelope import ANSWERED, enveloped
from planner.report.json_text import JsonObject
from planner.units import number, percent


def calibration_document(fitted: FittedFactors, doubtful: Sequence[Doubt]) -> JsonObject:
    """Every phase, measured and predicted, before and after."""
    rows = [
        {
            "name": row.name,
            "unit": row.unit,
            "measured": round(row.measured.value, 9),
            "lines": row.measured.lines,
            "predicted_before": round(row.before, 9),
            "predicted_after": round(row.after, 9),
            "error_before": round(row.errors[0], 9),
            "error_after": round(row.errors[1], 9),
            "factor": None if row.factor is None else round(row.factor, 9),
        }
        for row in fitted.rows
    ]
    question = fitted.before.problem.alone
    document: JsonObject = {
        "scenario": fitted.calibration.name,
        "log": fitted.calibration.source,
        "other_seconds": fitted.calibration.other_seconds,
        "rows": rows,
        "doubts": [
            {
                "name": doubt.row.name,
                "error": round(doubt.row.errors[0], 9),
                "known_error": doubt.known,
                "explanations": [{"setting": e.setting, "error": round(e.error, 9)} for e in doubt.explanations],
            }
            for doubt in doubtful
        ],
    }
    document["lengths"] = None if fitted.lengths is None else _lengths_document(fitted.lengths)
    return enveloped("calibrate", ANSWERED, document, asked=[question], catalog=question.provenance)


def calibration_blocks(fitted: FittedFactors, out: str | None, scenario: str, doubtful: Sequence[Doubt]) -> list[Block]:
    """The same for people. `out` is the file that the factors were written to."""
    known = fitted.calibration
    step = next((row for name in ("step", "train") for row in fitted.rows if row.name == name), fitted.rows[0])
    first, last = (f"{error * 100:+.1f} %" for error in step.errors)
    blocks: list[Block] = [
        *_doubts(doubtful),
        Headline(f"{known.name}: error of {step.name} {first} before, {last} after, on the log it was fitted to"),
        Grid(
            ("phase", "measured", "lines", "predicted", "error", "factor", "with it", "error"),
            tuple(
                (
                    row.name,
                    f"{number(row.measured.value, 3)} {row.unit}",
                    str(row.measured.lines),
                    number(row.before, 3),
                    f"{row.errors[0] * 100:+.1f} %",
                    "-" if row.factor is None else f"{row.factor:.4g}",
                    number(row.after, 3),
                    f"{row.errors[1] * 100:+.1f} %",
                )
                for row in fitted.rows
            ),
        ),
    ]
    blocks += _lengths(fitted.lengths)
    if known.other_seconds:
        blocks.append(Text(f"No phase explains {number(known.other_seconds, 3)} s a step; kept as a fixed time."))
    blocks.append(Text("Medians over the lines. The factors are of this run; other layouts and machines may differ."))
    name = shlex.quote(scenario)
    if out is None:
        rerun = f"planner calibrate {name} --log {shlex.quote(known.source)} --out run.yaml"
        blocks.append(Command(rerun, "writes the factors"))
    else:
        path = os.path.relpath(out, os.path.dirname(scenario) or ".")
        text = f"planner estimate {name} --set calibration={shlex.quote(path)}"
        blocks.append(Command(text, "the plan with them; the path is relative to the scenario"))
    return blocks


def _lengths(found: LoggedLengths | None) -> list[Block]:
    """What the log says of lengths, and the share at the maximum as a setting."""
    if found is None:
        return []
    said, would = [], ""
    if found.mean is not None:
        said.append(f"mean {number(found.mean.value, 0)} tokens (the scenario's {number(found.expected_mean, 0)})")
    if found.at_maximum is not None:
        said.append(
            f"{percent(found.at_maximum.value)} at the maximum of {found.maximum:,} (the scenario's "
            f"{percent(found.expected_at_maximum)})"
        )
    if found.at_cap is not None:
        would = f": --set rl.response_distribution.at_cap={found.at_cap:.4g}, with mean and p99 as they are"
    return [Text(f"Responses in the log: {', '.join(said)}{would}.")]


def _lengths_document(found: LoggedLengths) -> JsonObject:
    return {
        "mean_tokens": None if found.mean is None else round(found.mean.value, 9),
        "expected_mean_tokens": round(found.expected_mean, 9),
        "share_at_maximum": None if found.at_maximum is None else round(found.at_maximum.value, 9),
        "expected_share_at_maximum": round(found.expected_at_maximum, 9),
        "at_cap": None if found.at_cap is None else round(found.at_cap, 9),
    }


def _doubts(doubtful: Sequence[Doubt]) -> list[Block]:
    """Is this the run? What is too far off to be an error of the model, and what would explain it."""
    if not doubtful:
        return []
    said = []
    for doubt in doubtful:
        row = doubt.row
        would = [f"{one.setting} (then {one.error * 100:+.0f} %)" for one in doubt.explanations]
        why = f"would explain it: {', '.join(would)}" if would else "no single change of the scenario explains it"
        said.append(
            f"{row.name}: the log says {number(row.measured.value, 2)} {row.unit}, predicted {number(row.before, 2)}; "
            f"known error {percent(doubt.known)}. {why}"
        )
    asked = f"Is this the run? The log differs from the scenario by more than {TIMES_KNOWN:g} times the known error"
    return [Headline(asked, good=False), Bullets(tuple(said))]
