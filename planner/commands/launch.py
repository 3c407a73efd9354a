"""`planner launch`: a plan as files that start it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from planner.commands import completing
from planner.commands.common import (
    emit,
    emit_files,
    out_folder_option,
    progress,
    saved_outcome,
    scenario_argument,
    set_option,
)

if TYPE_CHECKING:
    from planner.errors import Mistake
    from planner.inputs.catalog import Catalog

PROPOSAL = re.compile(r"([a-z_.]+): (\S+)")
"""A proposal in a scenario's words."""
OPTIONS = "engine_options"


@click.command(epilog="Example: planner launch example:qwen7b_rl --to slime --out plan.sh")
@scenario_argument
@click.option(
    "--to",
    "launcher",
    metavar="LAUNCHER",
    shell_complete=completing.launch_names,
    required=True,
    help="Whose settings: slime, megatron, verl, ...; a wrong name lists all.",
)
@click.option("--with", "wrapper", metavar="NAME", help="A file that starts it too: slurm, skypilot, kubeflow or ray.")
@click.option(
    "--like", "own", metavar="FILE", help="Print the diff of your own launch file that makes it say the plan."
)
@set_option
@out_folder_option
def command(
    scenario: str,
    launcher: str,
    wrapper: str | None,
    own: str | None,
    overrides: tuple[str, ...],
    out: str | None,
    force: bool,
) -> None:
    """Solve SCENARIO and print its plan as settings of an engine, each checked against the engine's own keys.

    An engine that wants several files gets a folder: --out DIR.
    """
    from planner.analysis.reasons import reasons
    from planner.errors import InputError, NoLayoutFits, NoVerdict
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import load
    from planner.launch.because import explained
    from planner.launch.registry import files, find, refuse_other_engines
    from planner.launch.wrappers import wrapped
    from planner.problem.resolve import question_of
    from planner.report.short import typed
    from planner.search.search import search, why_nothing_fits

    find(launcher)
    catalog = default_catalog()
    progress(f"the plan of {scenario}")
    document = load(scenario, overrides)
    outcome = saved_outcome(scenario, overrides, catalog)
    question = question_of(document, catalog) if outcome is None else outcome.question
    refuse_other_engines(launcher, question.first, catalog)
    outcome = search(question) if outcome is None else outcome
    if outcome.status == "infeasible":
        raise NoLayoutFits(
            f"no layout fits, so there is nothing to launch: {why_nothing_fits(outcome)}\n"
            f"  try:     planner explain {typed(document)}"
        )
    if outcome.plan is None:
        raise NoVerdict("no plan within search.time_limit_s")
    try:
        written = files(launcher, outcome, catalog)
    except InputError as error:
        on = outcome.plan.problem.scenario.engine_options
        raise InputError(
            [_typed(one, ("planner", "launch", scenario, "--to", launcher), overrides, on) for one in error.problems]
        ) from None
    if own is not None:
        _emit_diff(own, written, launcher, catalog, out, force)
        return
    written = explained(written, reasons(outcome.plan))
    _emit_files(wrapped(wrapper, written, outcome.plan) if wrapper is not None else written, out, force)


def _typed(mistake: Mistake, command: Sequence[str], overrides: Sequence[str], options: Sequence[str]) -> Mistake:
    """A refusal that proposes one value of the scenario, with the command that asks for it.

    Not where engine options are set: the proposal would take their place.
    """
    said = PROPOSAL.fullmatch(mistake.attempt or "")
    path = mistake.where.path if mistake.where is not None else None
    if said is None or path is None or said[1] not in (path, path.rpartition(".")[2]) or (path == OPTIONS and options):
        return mistake
    changes = [word for change in (*overrides, f"{path}={said[2]}") for word in ("--set", change)]
    return replace(mistake, attempt=shlex.join([*command, *changes]))


def _emit_diff(
    own: str, written: dict[str, str], launcher: str, catalog: Catalog, out: str | None, force: bool
) -> None:
    """The diff of a user's file; what it cannot say on a line of its own stands on stderr."""
    from pathlib import Path

    from planner.launch.like import like
    from planner.streams import note

    edited = like(Path(own), written, launcher, catalog)
    for remark in edited.remarks:
        note(f"by hand: {remark}")
    if not edited.diff:
        note(f"{own} says the plan already" if not edited.remarks else "no line of the file changes")
    emit(edited.diff, out, force)


def _emit_files(written: dict[str, str], out: str | None, force: bool) -> None:
    """One file to stdout or --out; several into the folder --out."""
    from pathlib import Path

    from planner.errors import InputError, Mistake, Place

    folder = out if out is not None and out != "-" else None
    if len(written) == 1 and not (folder is not None and Path(folder).is_dir()):
        emit(next(iter(written.values())), out, force)
    elif folder is None:
        names = ", ".join(written)
        raise InputError(Mistake(f"this engine wants several files: {names}", Place("--out"), attempt="--out DIR"))
    else:
        emit_files(written, folder, force)
