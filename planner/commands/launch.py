"""`planner launch`: a plan as files that start it."""

from __future__ import annotations

import click

from planner.commands.common import emit, out_option, scenario_argument, set_option


@click.command(epilog="Example: planner launch scenarios/qwen7b_rl.yaml --to slime --out plan.sh")
@scenario_argument
@click.option(
    "--to",
    "launcher",
    metavar="LAUNCHER",
    required=True,
    help="Whose settings: slime, megatron, verl, ...; a wrong name lists all.",
)
@set_option
@out_option
def command(scenario: str, launcher: str, overrides: tuple[str, ...], out: str | None, force: bool) -> None:
    """Solve SCENARIO and print its plan as settings of an engine, each checked against the engine's own keys.

    An engine that wants several files gets a folder: --out DIR.
    """
    from planner.errors import NoLayoutFits, NoVerdict
    from planner.inputs.catalog import Catalog, default_catalog
    from planner.inputs.document import load
    from planner.launch.registry import files, find, refuse_other_engines
    from planner.problem.resolve import question_of
    from planner.report.short import typed
    from planner.search.search import search, why_nothing_fits

    find(launcher)
    catalog: Catalog = default_catalog()
    document = load(scenario, overrides)
    question = question_of(document, catalog)
    refuse_other_engines(launcher, question.first, catalog)
    outcome = search(question)
    if outcome.status == "infeasible":
        raise NoLayoutFits(
            f"no layout fits, so there is nothing to launch: {why_nothing_fits(outcome)}\n"
            f"  try:     planner solve {typed(document)}"
        )
    if outcome.plan is None:
        raise NoVerdict("no plan within search.time_limit_s")
    _emit_files(files(launcher, outcome, catalog), out, force)


def _emit_files(written: dict[str, str], out: str | None, force: bool) -> None:
    """One file to stdout or --out; several into the folder --out."""
    from pathlib import Path

    from planner.errors import InputError, Mistake, Place

    folder = Path(out) if out is not None and out != "-" else None
    if len(written) == 1 and not (folder is not None and folder.is_dir()):
        emit(next(iter(written.values())), out, force)
        return
    if folder is None:
        names = ", ".join(written)
        raise InputError(Mistake(f"this engine wants several files: {names}", Place("--out"), attempt="--out DIR"))
    taken = [name for name in written if (folder / name).exists()]
    if taken and not force:
        what = f"{folder / taken[0]} exists already"
        raise InputError(Mistake(what, Place("--out"), "--out never overwrites a file", "--force, or another folder"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(Mistake(f"cannot make {folder}", Place("--out"), because=error.strerror)) from None
    for name, text in written.items():
        emit(text, str(folder / name), force)
