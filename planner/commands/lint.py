"""`planner lint`: a launch script or configuration read back, never run, and judged line by line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.commands.common import Output, emit, note, output_options, set_option
from planner.errors import CheckFailed, InputError, Mistake, NoLayoutFits, Place
from planner.inputs.files import refuse_target

if TYPE_CHECKING:
    from planner.launch.lint import Linted


@click.command(epilog="Example: planner lint run.sh --set cluster.node=hgx-h100-8")
@click.argument("file", metavar="FILE")
@click.option("--engine", metavar="NAME", help="Whose settings these are, where the file does not show it.")
@click.option(
    "--env", "given", multiple=True, metavar="NAME=VALUE", help="A variable FILE takes from outside; 1=, 2=: arguments."
)
@click.option(
    "--beside",
    multiple=True,
    metavar="CONFIG",
    help="Another file of the same run, such as accelerate's YAML; FILE counts first.",
)
@click.option("--fix", is_flag=True, help="Print the diff of FILE that mends what can be mended on its own lines.")
@click.option("--base", metavar="OLD", help="FILE before a change: says by how much the change raises the peak.")
@click.option(
    "--save",
    metavar="SCENARIO",
    help="Write what was read as a scenario, for explain, whatif and launch --like; --force replaces it.",
)
@click.option("-v", "verbose", count=True, help="Print every value with its line, and memory item by item.")
@set_option
@output_options("table", "json", "markdown", "sarif")
@click.pass_context
def command(
    context: click.Context,
    file: str,
    engine: str | None,
    given: tuple[str, ...],
    beside: tuple[str, ...],
    fix: bool,
    base: str | None,
    save: str | None,
    overrides: tuple[str, ...],
    output: Output,
) -> None:
    """Read FILE (shell script, YAML, JSON) as a pinned layout: what it breaks, what is misspelt, whether it fits.

    Exit code 1: it does not fit; 5: there are findings, memory at the edge among them; 0: neither. What no line says is
    listed; --set fills it in. With --save, `planner explain SCENARIO` says what makes it fit, and `planner launch
    SCENARIO --to ENGINE --like FILE` prints the diff of FILE.
    """
    from planner.analysis.safer import safer
    from planner.commands.lint_report import lint_blocks, lint_document, lint_sarif, lint_screen
    from planner.commands.lint_saved import scenario_text
    from planner.inputs.catalog import default_catalog
    from planner.inputs.saved import saved_answer
    from planner.launch.lint import catalog_of, fixed, lint
    from planner.report.json_text import dumps

    if engine is None and saved_answer(file) is not None:
        because, attempt = "lint reads launch scripts and settings", f"planner launch {file} --to LAUNCHER"
        raise InputError(Mistake(f"{file} is a saved answer, not a launch file", Place(file), because, attempt))
    if engine is None and (kind := _of_ours(file)) is not None:
        what, attempt = kind
        because = "lint reads what starts a run"
        raise InputError(Mistake(f"{file} is {what}, not a launch file", Place(file), because, attempt))
    if save is not None:
        refuse_target(save, output.force, option="--save")
    handed = dict(_pair(text) for text in given)
    others = [Path(each) for each in beside]
    linted = lint(Path(file), default_catalog(), overrides, engine, handed, others)
    before = lint(Path(base), default_catalog(), overrides, engine, handed, others) if base is not None else None
    if linted.plan is not None:
        linted = replace(linted, safer=safer(linted.plan, catalog_of(linted.found, default_catalog())))
    if save is not None:
        emit(scenario_text(linted, overrides), save, output.force, "--save")
    if fix:
        _emit_fix(fixed(linted.path, linted.findings), linted, save, output)
    elif output.style == "sarif":
        emit(dumps(lint_sarif(linted)), output.path, output.force)
    else:
        output.write(
            lambda: lint_blocks(linted, before),
            lambda: lint_document(linted, before),
            screen=lambda: lint_screen(linted, before, save),
        )
    if linted.fits is False:
        context.exit(NoLayoutFits.exit_code)
    if linted.findings or linted.plan is None:
        context.exit(CheckFailed.exit_code)


def _emit_fix(diff: str, linted: Linted, save: str | None, output: Output) -> None:
    """The diff, or word that there is none: an empty file is a diff that changes nothing."""
    if not diff:
        note(f"{linted.path}: nothing that is wrong is mended by another word on its own line")
    if linted.fits is False:
        scenario = save or "run.yaml"
        first = "" if save else f"planner lint {linted.path} --save {scenario}, then "
        note(f"{linted.path} does not fit, which no single word mends: {first}planner explain {scenario}")
    emit(diff or "\n", output.path, output.force)


def _of_ours(file: str) -> tuple[str, str] | None:
    """(what it is, what takes it) of a scenario or a budget of planner; None for any other file."""
    from planner.inputs.another_kind import of_ours
    from planner.inputs.document import read_document

    if Path(file).suffix.lower() not in (".yaml", ".yml", ".json"):
        return None
    try:
        return of_ours(read_document(file).data, file)
    except InputError:
        return None


def _pair(text: str) -> tuple[str, str]:
    """NAME=VALUE as two words."""
    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(r"[A-Za-z_]\w*|[0-9]{1,3}", name):
        raise InputError(Mistake(f"--env {text} is not NAME=VALUE", Place("--env"), None, "--env N_GPUS=8, --env 1=7B"))
    return name, value
