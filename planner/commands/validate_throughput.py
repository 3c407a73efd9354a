"""`planner validate throughput`: published speeds, run again through the code that plans."""

from __future__ import annotations

import time
from pathlib import Path

import click

from planner.commands.common import emit, format_option, out_option, print_timings, timings_option

CHECK_FAILED = 5


@click.command("throughput")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with throughput_cases.jsonl.gz.")
@click.option("--source", "sources", multiple=True, help="Only this source; repeatable.")
@click.option("--rows", is_flag=True, help="Print every row.")
@click.option("--constants", is_flag=True, help="Refit each fitted constant with data left out (minutes).")
@click.option("--check", is_flag=True, help="Exit 5 when a bar is not reached.")
@format_option("table", "json", "markdown", "html")
@out_option
@timings_option
@click.pass_context
def command(
    context: click.Context,
    data: Path | None,
    sources: tuple[str, ...],
    rows: bool,
    constants: bool,
    check: bool,
    style: str,
    out: str | None,
    force: bool,
    timings: bool,
) -> None:
    """Predicted against measured tokens/s: errors, rank correlation, regret of the choice, and the bars."""
    from planner.validation.published import data_files
    from planner.validation.throughput import report
    from planner.validation.throughput.run import default_folder, run_throughput

    start = time.perf_counter()
    result = run_throughput(data, sources, constants=constants)
    if style == "json":
        text = report.render_json(result, rows=rows, inputs=data_files(data or default_folder()))
    else:
        render = {"table": report.render_text, "markdown": report.render_markdown, "html": report.render_html}[style]
        text = render(result, rows=rows)
    emit(text, out, force)
    if timings:
        print_timings([("throughput", time.perf_counter() - start)])
    if check and not result.ok:
        context.exit(CHECK_FAILED)
