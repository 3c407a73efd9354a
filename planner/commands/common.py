"""What all commands share: the scenario argument, --set, --format, --out, --timings, and how a result is written."""

from __future__ import annotations

import functools
import math
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from planner import clock, streams
from planner.commands import completing
from planner.inputs.files import refuse_target, write_folder, write_text

if TYPE_CHECKING:
    from planner.inputs.catalog import Catalog
    from planner.report.blocks import Block
    from planner.report.json_text import JsonObject
    from planner.search.plan import Plan
    from planner.search.search import Outcome

if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:
    _Choice = click.Choice  # no generic class before click 8.2
Function = TypeVar("Function", bound=Callable[..., Any])

scenario_argument = click.argument("scenario", metavar="SCENARIO", shell_complete=completing.scenarios)
"""A scenario file; `-` reads standard input."""

set_option = click.option(
    "--set",
    "overrides",
    metavar="PATH=VALUE",
    multiple=True,
    shell_complete=completing.settings,
    help="Override a value of the scenario, for instance cluster.num_gpus=8; repeatable.",
)
"""`overrides`: a tuple of PATH=VALUE texts for `document.load`."""


class TaskName(_Choice):
    """A task, also by the other words that people type for it."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """`grpo` as `rl`."""
        from planner.inputs.asked import TASK_NAMES

        return super().convert(TASK_NAMES.get(str(value).lower(), value), param, ctx)


TASK = TaskName(["rl", "sft", "lora", "qlora", "dpo", "pretrain"], case_sensitive=False)


class Number(click.FloatRange):
    """A finite number of a range; click's own takes `nan`, which is never out of one."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Refuses `nan` and `inf`."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number


timings_option = click.option("--timings", is_flag=True, help="Print elapsed times on stderr.")
"""`timings`: bool; see `print_timings`."""


TYPED = "planner.typed"
"""Where the group keeps its arguments in click's own notes."""
Blocks = Callable[[], "Sequence[Block]"]
"""Makes a report when it is asked for."""


class Output(NamedTuple):
    """How a result is printed, and where to."""

    style: str
    """table, json, markdown or html."""
    path: str | None
    """The file of `--out`; None or `-` is stdout."""
    force: bool
    """Whether that file may be replaced."""
    depth: int = 2
    """Of a table: 0 is one screen, 1 adds the ledgers, 2 is all of it. Other formats are always complete."""
    figure: int = 1
    """Which one of the figures svg and png write, counted from 1."""

    def write(
        self,
        blocks: Blocks,
        document: Callable[[], JsonObject],
        *,
        screen: Blocks | None = None,
        ledgers: Blocks | None = None,
        figures: Blocks | None = None,
    ) -> None:
        """Make the one that `--format` and `-v` ask for, and write it; without `screen` or `ledgers`, `blocks`.

        A page has the screen on its first sheet, then the figures, then all blocks.
        """
        if self.style in ("html", "svg", "png"):
            from planner.report.pages import one_figure, page

            drawn = figures() if figures is not None else ()
            if self.style == "html":
                emit(page(blocks(), drawn, screen, typed()), self.path, self.force)
            else:
                one_figure([*drawn, *blocks()], self.figure, self.style, self.path, self.force, emit)
            return
        shown = blocks
        if self.style == "table" and self.depth < 2:
            shown = (screen if self.depth == 0 else ledgers) or blocks
        emit(self.text(shown, document), self.path, self.force)

    def text(self, blocks: Blocks, document: Callable[[], JsonObject]) -> str:
        """A result in the format that was asked for."""
        if self.style == "json":
            from planner.report.json_text import dumps

            return dumps(document())
        return render_blocks(blocks(), self.style, self.path)


def typed() -> str:
    """The command line that is being answered, without where its answer goes."""
    arguments = list(click.get_current_context().find_root().meta.get(TYPED, ()))
    for option in ("--out", "--force"):
        while option in arguments:
            place = arguments.index(option)
            del arguments[place : place + (2 if option == "--out" else 1)]
    return shlex.join(["planner", *arguments])


def output_options(*formats: str, folder: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--format` (table, json and markdown unless others are named; the first is the default), `--out` and `--force`,
    given to the command as one `output`. `folder` says that `--out` may name one.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(
            *arguments: Any,
            style: str,
            out: str | None,
            force: bool,
            verbose: int = 2,
            figure: int = 1,
            **options: Any,
        ) -> None:
            function(*arguments, output=Output(style, out, force, verbose, figure), **options)

        return format_option(*formats)((out_folder_option if folder else out_option)(command))

    return decorate


def answer_options(function: Callable[..., None]) -> Callable[..., None]:
    """`output_options` of a command that answers a question: on one screen, more with -v and all of it with -vv."""
    decorated = output_options("table", "json", "markdown", "html", "svg", "png")(function)
    decorated = click.option(
        "--figure", type=click.IntRange(1), default=1, show_default=True, help="Which figure svg and png write."
    )(decorated)
    return click.option("-v", "verbose", count=True, help="Print the ledgers as well; -vv: all there is.")(decorated)


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
    return click.option("--force", is_flag=True, is_eager=True, help="Replace a file that exists.")(function)


def emit(text: str, out: str | None = None, force: bool = False, option: str = "--out") -> None:
    """Write a result to stdout, or to the file of `--out`: whole or not at all, and never over another without --force.
    `option` is the one that names the file.

    Raises InputError where the file exists or cannot be written, or stdout is closed or full.
    """
    if not text.endswith("\n"):
        text += "\n"
    waiting.clear()
    if out is None or out == "-":
        streams.answer(text)
        return
    write_text(out, text, force=force, option=option)
    note(f"written: {out}")


def emit_files(texts: dict[str, str], folder: str, force: bool = False) -> None:
    """Write several files into the folder of `--out`, none of them where one exists and `force` is off.

    Raises InputError like `emit`.
    """
    write_folder(folder, texts, force=force)
    note(f"written: {', '.join(f'{folder}/{name}' for name in texts)}")


def render_blocks(blocks: Sequence[Block], style: str, path: str | None = None) -> str:
    """Blocks as the text that `--format` asks for: table, markdown or html; plain where it goes into a file."""
    if style == "html":
        from planner.report.html import render as page

        return page(blocks)
    if style == "markdown":
        from planner.report.markdown import render as markdown

        return markdown(blocks)
    from planner.report.table import WIDTH
    from planner.report.table import render as table

    return table(blocks) if path is None or path == "-" else table(blocks, colour=False, width=WIDTH)


QUIET_SECONDS = 2.0
"""What takes less than this is not announced. [s]"""
SPACED_S = 1.0
"""Between two lines in a log. [s]"""


class _Waiting:
    """What is being worked on and for how long, on stderr: a running line on a terminal, elsewhere a line a stage, and
    none where the last one is not SPACED_S old.
    """

    def __init__(self) -> None:
        self._stage = ""
        self._said = self._drawn = False
        self._said_at = -SPACED_S
        self._started = clock.now()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, stage: str) -> None:
        """The next stage; said once the command has taken QUIET_SECONDS."""
        with self._lock:
            self._stage, self._said = stage, False
            if self._thread is None:
                self._thread = threading.Thread(target=self._tick, daemon=True)
                self._thread.start()
            self._say()

    def clear(self) -> None:
        """Nothing is worked on: wipe the line."""
        with self._lock:
            self._stage = ""
            if self._drawn:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self._drawn = False

    def restart(self) -> None:
        """A new command: its time starts now."""
        self.clear()
        self._started, self._said_at = clock.now(), -SPACED_S

    def _tick(self) -> None:
        while True:
            time.sleep(0.5)
            with self._lock:
                self._say()

    def _say(self) -> None:
        elapsed = clock.now() - self._started
        if not self._stage or elapsed < QUIET_SECONDS:
            return
        try:
            if sys.stderr.isatty():
                width = shutil.get_terminal_size().columns - 1
                sys.stderr.write(f"\r\x1b[K{f'{elapsed:4.0f} s  {self._stage}'[:width]}")
                self._drawn = True
            elif not self._said and elapsed - self._said_at >= SPACED_S:
                sys.stderr.write(f"{elapsed:4.0f} s  {self._stage}\n")
                self._said, self._said_at = True, elapsed
            sys.stderr.flush()
        except (OSError, ValueError):
            self._stage = ""


waiting = _Waiting()
"""Of this process: one command runs at a time."""


def said_after(text: str, remark: str, style: str) -> str:
    """A finished report with a remark at its end where people read it, on stderr where programs or browsers do."""
    if style in ("table", "markdown"):
        from planner.report.table import wrapped

        lines = wrapped(remark, 80) if style == "table" else [remark]
        return "\n".join([text.rstrip(), "", *lines, ""])
    note(remark)
    return text


def note(text: str) -> None:
    """A remark on stderr: never part of the result."""
    waiting.clear()
    streams.note(text)


def progress(text: str) -> None:
    """Say what is going on, with the time it has taken, where it takes more than two seconds."""
    waiting.begin(text)


def saved_outcome(path: str, overrides: Sequence[str], catalog: Catalog) -> Outcome | None:
    """The outcome that a file saved by `planner solve --format json` holds, said on stderr; None for any other file,
    and where overrides ask its scenario something else.

    Raises InputError where it cannot be made again.
    """
    from planner.analysis.restored import changed_facts, restored
    from planner.inputs.saved import saved_answer

    answer = saved_answer(path)
    if answer is None or answer.data.get("command") != "solve":
        return None
    if overrides:
        note(f"{path}: a saved plan; the scenario that it answered is asked again with {' '.join(overrides)}")
        return None
    outcome = restored(answer, catalog)
    changed = changed_facts(answer, outcome)
    now = f"; figures are today's: {', '.join(changed[:3])} changed since" if changed else ""
    note(f"{path}: the saved plan of {outcome.question.document.name}, not searched again{now}")
    return outcome


def one_layout(path: str, overrides: Sequence[str], catalog: Catalog) -> Plan:
    """The layout that a scenario pins, costed, or that of a saved plan. Raises InputError where several are open."""
    from planner.inputs.saved import load
    from planner.search.estimate import estimate

    saved = saved_outcome(path, overrides, catalog)
    return estimate(load(path, overrides), catalog) if saved is None or saved.plan is None else saved.plan


def print_timings(timings: Iterable[tuple[str, float]]) -> None:
    """Elapsed seconds of each part, and their sum, on stderr."""
    parts = list(timings)
    for name, seconds in [*parts, ("total", sum(seconds for _, seconds in parts))]:
        note(f"{name:>24}  {seconds:7.3f} s")
