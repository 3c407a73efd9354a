"""What all commands share: the scenario argument, --set, --format, --out, --timings, and how a result is written."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from planner import streams
from planner.inputs.files import refuse_target, write_folder, write_text
from planner.streams import note

if TYPE_CHECKING:
    from planner.report.blocks import Block
    from planner.report.json_text import JsonObject

Function = TypeVar("Function", bound=Callable[..., Any])

scenario_argument = click.argument("scenario", metavar="SCENARIO")
"""A scenario file; `-` reads standard input."""

set_option = click.option(
    "--set",
    "overrides",
    metavar="PATH=VALUE",
    multiple=True,
    help="Override a value of the scenario, for instance cluster.num_gpus=8; repeatable.",
)
"""`overrides`: a tuple of PATH=VALUE texts for `document.load`."""

timings_option = click.option("--timings", is_flag=True, help="Print elapsed times on stderr.")
"""`timings`: bool; see `print_timings`."""


class Output(NamedTuple):
    """How a result is printed, and where to."""

    style: str
    """table, json, markdown or html."""
    path: str | None
    """The file of `--out`; None or `-` is stdout."""
    force: bool
    """Whether that file may be replaced."""

    def write(self, blocks: Callable[[], Sequence[Block]], document: Callable[[], JsonObject]) -> None:
        """Make the one of both that `--format` asks for, and write it."""
        emit(self.text(blocks, document), self.path, self.force)

    def text(self, blocks: Callable[[], Sequence[Block]], document: Callable[[], JsonObject]) -> str:
        """A result in the format that was asked for."""
        if self.style == "json":
            from planner.report.json_text import dumps

            return dumps(document())
        return render_blocks(blocks(), self.style)


def output_options(*formats: str, folder: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--format` (table, json and markdown unless others are named; the first is the default), `--out` and `--force`,
    given to the command as one `output`. `folder` says that `--out` may name one.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(*arguments: Any, style: str, out: str | None, force: bool, **options: Any) -> None:
            function(*arguments, output=Output(style, out, force), **options)

        return format_option(*formats)((out_folder_option if folder else out_option)(command))

    return decorate


def format_option(*formats: str) -> Callable[[Function], Function]:
    """`--format`, stored as `style`; table, json and markdown unless others are named. The first one is the default."""
    names = formats or ("table", "json", "markdown")
    return click.option(
        "--format",
        "style",
        type=click.Choice(names),
        default=names[0],
        show_default=True,
        envvar="PLANNER_FORMAT",
        help="How the result is printed.",
    )


def out_option(function: Function) -> Function:
    """`--out FILE` and `--force`, stored as `out` and `force`; pass both to `emit`."""
    return _out(function, folder=False)


def out_folder_option(function: Function) -> Function:
    """`--out` that may be a folder too, and `--force`; pass both to `emit_files`."""
    return _out(function, folder=True)


def _out(function: Function, *, folder: bool) -> Function:
    def early(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
        """Say no before the work, not after it."""
        if value is not None and value != "-":
            refuse_target(value, bool(context.params.get("force")), folder=folder)
        return value

    function = click.option(
        "--out", metavar="FILE", callback=early, help="Write the result to FILE instead of stdout."
    )(function)
    return click.option("--force", is_flag=True, is_eager=True, help="Let --out replace a file that exists.")(function)


def emit(text: str, out: str | None = None, force: bool = False) -> None:
    """Write a result to stdout, or to the file of `--out`: whole or not at all, and never over another without --force.

    Raises InputError where the file exists or cannot be written, or stdout is closed or full.
    """
    if not text.endswith("\n"):
        text += "\n"
    if out is None or out == "-":
        streams.answer(text)
        return
    write_text(out, text, force=force)
    note(f"written: {out}")


def emit_files(texts: dict[str, str], folder: str, force: bool = False) -> None:
    """Write several files into the folder of `--out`, none of them where one exists and `force` is off.

    Raises InputError like `emit`.
    """
    write_folder(folder, texts, force=force)
    note(f"written: {', '.join(f'{folder}/{name}' for name in texts)}")


def render_blocks(blocks: Sequence[Block], style: str) -> str:
    """Blocks as the text that `--format` asks for: table, markdown or html."""
    if style == "html":
        from planner.report.html import render as page

        return page(blocks)
    if style == "markdown":
        from planner.report.markdown import render as markdown

        return markdown(blocks)
    from planner.report.table import render as table

    return table(blocks)


def progress(text: str) -> None:
    """Tell a person at a terminal what is going on; silent in scripts."""
    if sys.stderr.isatty():
        note(text)


def print_timings(timings: Iterable[tuple[str, float]]) -> None:
    """Elapsed seconds of each part, and their sum, on stderr."""
    parts = list(timings)
    for name, seconds in [*parts, ("total", sum(seconds for _, seconds in parts))]:
        note(f"{name:>24}  {seconds:7.3f} s")
