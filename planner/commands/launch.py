"""`planner launch`: a plan as files that start it."""

from __future__ import annotations

import click

from planner.commands.common import emit, emit_files, out_folder_option, scenario_argument, set_option


@click.command(epilog="Example: planner launch scenarios/qwen7b_rl.yaml --to slime --out plan.sh")
@scenario_argument
@click.option(
    "--to",
    "launcher",
    metavar="LAUNCHER",
    required=True,
    help="Whose settings: slime, megatron, verl, ...; a wrong name lists all.",
)
@click.option("--with", "wrapper", metavar="NAME", help="A file that starts it too: slurm, skypilot, kubeflow or ray.")
@set_option
@out_folder_option
def command(
    scenario: str, launcher: str, wrapper: str | None, overrides: tuple[str, ...], out: str | None, force: bool
) -> None:
    """Solve SCENARIO and print its plan as settings of an engine, each checked against the engine's own keys.

    An engine that wants several files gets a folder: --out DIR.
    """
    from planner.errors import NoLayoutFits, NoVerdict
    from planner.inputs.catalog import Catalog, default_catalog
    from planner.inputs.document import load
    from planner.launch.registry import files, find, refuse_other_engines
    from planner.launch.wrappers import wrapped
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
    written = files(launcher, outcome, catalog)
    _emit_files(wrapped(wrapper, written, outcome.plan) if wrapper is not None else written, out, force)


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
