"""`planner validate memory`: published measurements, run again through the code that plans."""

from __future__ import annotations

from pathlib import Path

import click

from planner.commands.common import emit, format_option, out_option, print_timings, timings_option
from planner.commands.validate_throughput import command as throughput

CHECK_FAILED = 5


@click.group()
def command() -> None:
    """Score the planner against published measurements."""


@command.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with memory_cases.jsonl.gz.")
@click.option("--source", "sources", multiple=True, help="Only this source; repeatable.")
@click.option("--engine", "engines", multiple=True, help="Only this engine, by its catalog id or the data's name.")
@click.option("--class", "classes", multiple=True, help="Only this class; repeatable.")
@click.option("--rows", is_flag=True, help="Print every row.")
@click.option("--worst", is_flag=True, help="Print the ledger of the worst row of each class.")
@click.option("--check", is_flag=True, help="Exit 5 when a bar is not reached.")
@format_option("table", "json", "markdown", "html")
@out_option
@timings_option
@click.pass_context
def memory(
    context: click.Context,
    data: Path | None,
    sources: tuple[str, ...],
    engines: tuple[str, ...],
    classes: tuple[str, ...],
    rows: bool,
    worst: bool,
    check: bool,
    style: str,
    out: str | None,
    force: bool,
    timings: bool,
) -> None:
    """Predicted against measured memory: errors by class, source and engine, and the bars."""
    from planner.validation.memory.run import Choice, run_memory

    result, seconds = run_memory(data, Choice(sources, engines, classes))
    from planner.validation.memory import report

    tables = report.tables(result, rows=rows, worst=worst)
    if style == "json":
        text = report.render_json(result, rows=rows)
    elif style == "markdown":
        text = report.render_markdown(tables)
    elif style == "html":
        text = report.render_html(result, tables)
    else:
        text = report.render_text(tables) + "\n\nWorst rows with their ledgers: planner validate memory --worst"
    emit(text, out, force)
    if timings:
        print_timings(seconds)
    if check and not result.ok:
        context.exit(CHECK_FAILED)


@command.command()
@out_option
def summary(out: str | None, force: bool) -> None:
    """The table of known errors by engine that reports quote, as JSON (catalogs/measured/known_errors.json)."""
    from planner.report.json_text import dumps
    from planner.validation.memory.summary import known_errors_table

    emit(dumps(known_errors_table()), out, force)


command.add_command(throughput)
