"""Factors fitted to the log of a run, as blocks and as data."""

from __future__ import annotations

import os
import shlex

from planner.analysis.calibrate.fit import FittedFactors
from planner.report.blocks import Block, Command, Grid, Headline, Text
from planner.report.json_text import JsonObject
from planner.units import number


def calibration_document(fitted: FittedFactors) -> JsonObject:
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
    return {"scenario": fitted.calibration.name, "other_seconds": fitted.calibration.other_seconds, "rows": rows}


def calibration_blocks(fitted: FittedFactors, out: str | None, scenario: str) -> list[Block]:
    """The same for people. `out` is the file that the factors were written to."""
    known = fitted.calibration
    step = next((row for name in ("step", "train") for row in fitted.rows if row.name == name), fitted.rows[0])
    first, last = (f"{error * 100:+.1f} %" for error in step.errors)
    blocks: list[Block] = [
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
