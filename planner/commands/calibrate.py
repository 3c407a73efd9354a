"""`planner calibrate`: factors from the log of one's own run, or tables measured on one's own GPUs."""

from __future__ import annotations

import datetime
import os
import shlex
from typing import Any

import click

from planner.commands.common import emit, format_option, out_option, render_blocks, set_option
from planner.errors import InputError, Mistake, Place


@click.command()
@click.argument("scenario", metavar="[SCENARIO]", required=False)
@set_option
@click.option("--log", "log_file", metavar="FILE", help="Log of a run of the scenario: slime, verl, NeMo-RL, tokens/s.")
@click.option("--date", metavar="YYYY-MM-DD", help="Date written into the file; today unless given.")
@click.option("--device", is_flag=True, help="Measure this machine's GPUs instead; --out is then a new folder.")
@click.option("--gpu", metavar="ID", help="With --device: the catalog's entry for this GPU.")
@click.option("--node", metavar="ID", help="With --device: the node type whose collectives these are.")
@click.option(
    "--time-limit",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    help="With --device: leave out what does not fit.",
)
@format_option("table", "json", "markdown")
@out_option
def command(
    scenario: str | None,
    overrides: tuple[str, ...],
    log_file: str | None,
    date: str | None,
    device: bool,
    gpu: str | None,
    node: str | None,
    time_limit: float,
    style: str,
    out: str | None,
    force: bool,
) -> None:
    """Fit one factor a phase to the log of a run. --out writes the file that a scenario names in `calibration:`.

    With --device, measure the GPUs of this machine (torch needed) into a catalog folder for PLANNER_CATALOGS.
    """
    day = date or datetime.date.today().isoformat()
    if device:
        if scenario is not None or log_file is not None:
            raise click.UsageError("--device takes neither a scenario nor --log")
        from planner.commands.calibrate_device import run_device

        run_device(gpu_id=gpu, node_id=node, time_limit=time_limit, day=day, style=style, out=out)
        return
    if scenario is None or log_file is None:
        raise InputError(
            Mistake(
                "calibrate needs a scenario and a log",
                Place("the command line"),
                "the factors are those of a run that a fully pinned scenario describes",
                "planner calibrate scenarios/qwen7b_rl_8gpu.yaml --log run.log",
            )
        )
    from planner.analysis.calibrate.fit import fit
    from planner.analysis.calibrate.rl_log import read_log
    from planner.inputs.calibration import overlay_text
    from planner.inputs.catalog import default_catalog
    from planner.inputs.document import load

    fitted = fit(load(scenario, overrides), read_log(log_file), source=log_file, date=day, catalog=default_catalog())
    if out is not None:
        emit(overlay_text(fitted.calibration), out, force)
    if out != "-":
        emit(_text(fitted, style, out, scenario))


def _text(fitted: Any, style: str, out: str | None, scenario: str) -> str:
    if style == "json":
        from planner.report.json_text import dumps

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
        return dumps(
            {"scenario": fitted.calibration.name, "other_seconds": fitted.calibration.other_seconds, "rows": rows}
        )
    return render_blocks(_blocks(fitted, out, scenario), style)


def _blocks(fitted: Any, out: str | None, scenario: str) -> list[Any]:
    from planner.report.blocks import Command, Grid, Headline, Text
    from planner.units import number

    known = fitted.calibration
    step = next((row for name in ("step", "train") for row in fitted.rows if row.name == name), fitted.rows[0])
    first, last = (f"{error * 100:+.1f} %" for error in step.errors)
    blocks = [
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
        again = f"planner calibrate {name} --log {shlex.quote(known.source)} --out run.yaml"
        blocks.append(Command(again, "writes the factors"))
    else:
        beside = os.path.relpath(out, os.path.dirname(scenario) or ".")
        text = f"planner estimate {name} --set calibration={shlex.quote(beside)}"
        blocks.append(Command(text, "the plan with them; the path is relative to the scenario"))
    return blocks
