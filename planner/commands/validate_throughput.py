"""`planner validate throughput`: published speeds, run again through the code that plans."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import click

from planner.commands.common import Output, emit, output_options, print_timings, said_after, timings_option
from planner.errors import CheckFailed


@click.command("throughput")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with throughput_cases.jsonl.gz.")
@click.option("--source", "sources", multiple=True, help="Only this source; repeatable.")
@click.option("--rows", is_flag=True, help="Print every row.")
@click.option(
    "--leave-out",
    type=click.Choice(["source", "engine", "network"]),
    help="Fit each constant again without the rows it is then scored on: those of the same source, engine file or "
    "network (minutes).",
)
@click.option("--check", is_flag=True, help="Exit 5 when a bar is not reached.")
@output_options("table", "json", "markdown", "html")
@timings_option
@click.pass_context
def command(
    context: click.Context,
    data: Path | None,
    sources: tuple[str, ...],
    rows: bool,
    leave_out: Literal["source", "engine", "network"] | None,
    check: bool,
    timings: bool,
    output: Output,
) -> None:
    """Predicted against measured tokens/s: errors, rank correlation, regret of the choice, and the bars."""
    from planner.validation.published import data_files, data_folder, sample_text
    from planner.validation.throughput import report
    from planner.validation.throughput.run import run_throughput

    start = time.perf_counter()
    data = data or data_folder()
    result = run_throughput(data, sources, leave_out=leave_out)
    if output.style == "json":
        text = report.render_json(result, rows=rows, inputs=data_files(data))
    else:
        render = {"table": report.render_text, "markdown": report.render_markdown, "html": report.render_html}[
            output.style
        ]
        text = render(result, rows=rows)
    if (remark := sample_text(data, "throughput")) is not None:
        text = said_after(text, remark, output.style)
    emit(text, output.path, output.force)
    if timings:
        print_timings([("throughput", time.perf_counter() - start)])
    if check and not result.ok:
        context.exit(CheckFailed.exit_code)
