"""The command line: which commands there are, and which exit code an error becomes. Nothing heavy is imported here.

Exit codes: 0 answered, 1 proved infeasible by limits that the user wrote or physics sets, 2 input or output
wrong, 3 no verdict in time, 4 our bug, 5 a check failed, 130 interrupted, 141 nobody reads the answer any more.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

import click

from planner import streams
from planner.errors import InputError, InternalError, Mistake, Place, PlannerError

COMMANDS = {
    "ask": "Lay out a run that is told in a few words, without a file",
    "init": "Write a scenario: answer a few questions, or take a template",
    "solve": "Find the best layout of a scenario, with its proof",
    "estimate": "Cost one pinned layout, or print the rules of thumb for a model",
    "whatif": "Solve again for each value of a setting",
    "sweep": "Thousands of variations over processes or a cluster, stored as they come",
    "rl-lengths": "What longer responses of an RL step need",
    "compare": "Differences of two scenarios or plans",
    "near": "The best distinct layouts, near ties included",
    "pareto": "Throughput against headroom, GPUs, length or dollars",
    "explain": "What binds, what other decisions would do, why nothing fits",
    "budget": "Cheapest offer that meets the deadlines",
    "launch": "A plan as files that start it, for a dozen engines",
    "lint": "Read a launch file back: does it fit, which rules does it break, what is misspelt",
    "catalog": "List, show and check GPUs, nodes, models, engines, prices",
    "model": "Read a config.json: what was understood, and a catalog entry",
    "validate": "Score predictions against published measurements",
    "calibrate": "Fit the model to your own run's log, or measure your own GPUs",
    "check": "Hold a run's logs and memory snapshots against its plan, item by item",
    "diagnose": "Read an out-of-memory message: which tensor asked, which phase, what helps",
    "serve": "A page to play with: plan, compare and explain in a browser",
    "completion": "Teach bash, zsh or fish to complete commands, catalog names and scenario keys",
    "schema": "JSON Schema of a scenario, for editors",
}
"""Name and one line of help; the command itself is `command` in planner/commands/<name>.py, imported when it runs
(a hyphen is an underscore there)."""

REPORT = "This is a fault of planner. Please report it with the command and the scenario"
INTERRUPTED = streams.INTERRUPTED
BROKEN_PIPE = 141


DEADLINE_S = 600
DEADLINES_S = {"budget": 1800, "init": 3600, "validate": 7200, "sweep": 1e7}
"""Wall seconds after which a command ends without a verdict, unless `--time-limit` says otherwise. [s]"""

ENDLESS = frozenset(("serve",))
"""Commands that answer until a person ends them; what they solve has limits of its own."""


def _limited(command: click.Command, seconds: float) -> click.Command:
    """The command with a deadline; one that has its own `--time-limit` keeps it."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _limited(inner, seconds)
    elif not any(param.name == "time_limit" for param in command.params):
        from planner.commands.common import Number

        limit = click.Option(
            ["--time-limit"],
            metavar="SECONDS",
            type=Number(min=0, min_open=True, max=1e7),
            default=seconds,
            show_default=True,
            expose_value=False,
            callback=lambda context, _, value: context.with_resource(streams.deadline(value)),
            help="End without a verdict (exit code 3) after so long.",
        )
        command.params.append(limit)
    return command


class LazyGroup(click.Group):
    """A group whose commands are imported only when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"planner.commands.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command if cmd_name in ENDLESS else _limited(command, DEADLINES_S.get(cmd_name, DEADLINE_S))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or say which one may have been meant."""
        ctx.meta["planner.typed"] = tuple(args)
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=2, cutoff=0.6)
            hint = f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"planner {version('planner')}")
        context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nStart with: planner ask qwen2.5-7b --gpus 4xh100 --task rl\n"
    "        or: planner solve example:qwen7b_rl",
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version."
)
def cli() -> None:
    """Plan GPU layouts of LLM training and RL runs: what fits, what is fastest, and the proof."""


def console() -> int:
    """What the shell starts: `main`, in a process of its own that an interrupt may end at any time."""
    streams.end_when_interrupted()
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Results go to stdout, everything else to stderr."""
    streams.prepare()
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        streams.finish()
    except BaseException as error:
        code = _code_of(error)
        streams.abandon()
    return code


def _code_of(error: BaseException) -> int:
    """Say what went wrong on stderr; the exit code that it means."""
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    if isinstance(error, streams.DeadlinePassed):
        streams.note(f"Error: {error}")
        return streams.NO_VERDICT
    if isinstance(error, MemoryError):
        streams.note("Error: no verdict: this machine has too little memory for so many open decisions")
        return streams.NO_VERDICT
    if isinstance(error, KeyboardInterrupt | click.Abort):
        streams.note("interrupted")
        return INTERRUPTED
    if isinstance(error, OSError):
        error = InputError(_unusable(error))
    if isinstance(error, InputError):
        streams.note("\n".join(problem.render() for problem in error.problems))
        return error.exit_code
    if isinstance(error, click.ClickException):
        from planner.commands.usage import usage_text

        streams.note(usage_text(error))
        return InputError.exit_code
    if isinstance(error, PlannerError) and not isinstance(error, InternalError) and error.exit_code != 4:
        streams.note(f"Error: {error}")
        return error.exit_code
    return _fault(error)


def _unusable(error: OSError) -> Mistake:
    """A file or stream that failed where nobody expected it: the machine's or the user's, not a fault of ours."""
    name = "standard output" if error.filename is None else str(error.filename)
    return Mistake(f"cannot read or write {name}", Place(name), error.strerror or str(error))


def _run(args: list[str]) -> int:
    """The exit code that the command itself chose."""
    if asked := os.environ.get("_PLANNER_COMPLETE"):
        from planner.commands.shells import answer

        return answer(cli, asked)
    _waiting("restart")
    try:
        with cli.make_context("planner", args, auto_envvar_prefix="PLANNER") as context:
            cli.invoke(context)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else InternalError.exit_code
    finally:
        _waiting("clear")
    return 0


def _waiting(what: str) -> None:
    """Tell the line about what is being worked on, where a command has been loaded that writes one."""
    common = sys.modules.get("planner.commands.common")
    if common is not None:
        getattr(common.waiting, what)()


def _fault(error: BaseException) -> int:
    """Our bug: short unless a traceback is asked for."""
    if os.environ.get("PLANNER_TRACEBACK") == "1":
        import traceback

        streams.note("".join(traceback.format_exception(error)).rstrip())
    text = " ".join(str(error).split()) or "no message"
    streams.note(f"Internal error: {type(error).__name__}: {text}")
    streams.note(f"  {REPORT} (PLANNER_TRACEBACK=1 prints where it happened).")
    return InternalError.exit_code
