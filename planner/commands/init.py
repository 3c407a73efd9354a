"""`planner init`: a scenario to start from, with what each line means."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from planner.commands import completing
from planner.commands.common import TASK, Number, emit, note, out_option, render_blocks

if TYPE_CHECKING:
    from planner.inputs.catalog import Catalog

MATTERS = ("speed", "safety")


@click.command(epilog="Example: planner init --task rl --engine slime --gpus 8xh100 --out run.yaml")
@click.option("--list", "listed", is_flag=True, help="List the shipped scenarios, and the templates by task.")
@click.option(
    "--model",
    metavar="MODEL",
    shell_complete=completing.model_or_file,
    help="A catalog id, a Hugging Face id, or a config.json.",
)
@click.option("--gpus", metavar="NxGPU", shell_complete=completing.counted_gpus, help="Such as 8xh100 or 4090.")
@click.option("--task", type=TASK, help="What is done with the model.")
@click.option("--engine", metavar="NAME", shell_complete=completing.engines, help="The training engine or RL stack.")
@click.option("--length", metavar="TOKENS", help="Of sequences; in RL of the longest response. 8k is 8,192.")
@click.option("--headroom", type=Number(min=0), metavar="GIB", help="What must stay free on every GPU.")
@out_option
def command(
    listed: bool,
    model: str | None,
    gpus: str | None,
    task: str | None,
    engine: str | None,
    length: str | None,
    headroom: float | None,
    out: str | None,
    force: bool,
) -> None:
    """Write a scenario with a comment beside each line. On a terminal it asks for what no option says.

    Elsewhere the defaults are taken: 8xh100, qwen2.5-7b, sft. `planner solve FILE` answers it.
    """
    from planner.errors import Place
    from planner.inputs.asked import RESPONSE, SEQUENCES, TASK_NAMES, Wanted, counted_gpu, template, tokens
    from planner.inputs.catalog import default_catalog

    catalog = default_catalog()
    if listed:
        from planner.report.templates import template_blocks

        emit(render_blocks(template_blocks(catalog), "table", out), out, force)
        return
    ask = sys.stdin is not None and sys.stdin.isatty()
    known = functools.partial(catalog.find, "models", where=Place("Model"))
    words = "Model (or a Hugging Face id, or a config.json)"
    model = model or _ask(ask, words, "qwen2.5-7b", known, catalog.ids("models"))
    numbered = functools.partial(counted_gpu, catalog=catalog)
    gpus = gpus or _ask(ask, "GPUs, as in 8xh100", "8xh100", numbered, catalog.ids("gpus"))
    task = task or _ask(ask, "Task", "sft", functools.partial(_one_of, list(TASK.choices)), TASK.choices)
    task = TASK_NAMES.get(task, task)
    engine = engine or _engine(ask, task, (gpus, model), catalog)
    usual = RESPONSE if task == "rl" else SEQUENCES[task]
    words = "Longest response [tokens]" if task == "rl" else "Sequence length [tokens]"
    count = tokens(length or _ask(ask, words, str(usual), lambda given: tokens(given, "length"), ()), "--length")
    if headroom is None and ask:
        matters = _ask(ask, "What matters most", "speed", functools.partial(_one_of, MATTERS), MATTERS)
        headroom = click.prompt("GiB that stay free on every GPU", 20.0, err=True) if matters == "safety" else None
    asked = Wanted(
        model,
        gpus,
        task,
        engine,
        sequence=None if task == "rl" else count,
        response=count if task == "rl" else None,
        headroom_gib=headroom,
    )
    emit(template(asked, catalog).text, out, force)
    if ask and out is not None and out != "-":
        note(f"\nNext: planner solve {out}\n      answers it")


def _ask(ask: bool, words: str, default: str, check: Callable[[str], object], choices: Sequence[str]) -> str:
    """What a person types at a terminal, asked again where it means nothing; the default elsewhere."""
    from planner.errors import InputError

    if ask and choices:
        _show(choices)
    while ask:
        given = str(click.prompt(words, default, err=True))
        try:
            check(given)
        except InputError as error:
            note("\n".join(problem.render() for problem in error.problems))
            continue
        return given
    return default


def _show(choices: Sequence[str]) -> None:
    """What there is to choose from, as wide as the terminal."""
    import textwrap

    from planner.report.table import screen_width

    note("")
    for line in textwrap.wrap(", ".join(choices), screen_width() - 2, break_long_words=False, break_on_hyphens=False):
        note(f"  {line}")


def _one_of(choices: Sequence[str], given: str) -> None:
    """Raises InputError, with what may have been meant."""
    import difflib

    from planner.errors import InputError, Mistake
    from planner.inputs.asked import TASK_NAMES

    if TASK_NAMES.get(given, given) not in choices:
        close = difflib.get_close_matches(given, choices, n=2)
        hint = f"did you mean {' or '.join(close)}?" if close else f"one of {', '.join(choices)}"
        raise InputError(Mistake(f"no choice is called {given}", None, None, hint))


def _engine(ask: bool, task: str, run: tuple[str, str], catalog: Catalog) -> str | None:
    """One of the engines that do the task with (GPUs, model); None for the usual one."""
    from planner.errors import Place
    from planner.inputs.asked import counted_gpu, templates, usual_engine

    if not ask:
        return None
    choices = [engine for each, engine in templates(catalog) if each == task]

    def check(given: str) -> None:
        _one_of(choices, given if given in choices else catalog.find("engines", given, Place("Engine")).id)

    count, gpu = counted_gpu(run[0], catalog)
    usual = usual_engine(task, count, catalog.find("models", run[1]), gpu)
    return _ask(ask, "Engine", usual, check, choices)
