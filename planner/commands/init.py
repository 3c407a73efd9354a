"""`planner init`: a scenario to start from, with what each line means."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from planner.commands.common import emit, out_option, render_blocks

if TYPE_CHECKING:
    from planner.inputs.catalog import Catalog

TASK = click.Choice(["rl", "sft", "lora", "qlora", "pretrain"])


@click.command(epilog="Example: planner init --task rl --engine slime --gpus 8xh100 --out run.yaml")
@click.option("--list", "listed", is_flag=True, help="List the shipped scenarios, and the templates by task.")
@click.option("--model", metavar="MODEL", help="A catalog id, a Hugging Face id, or a config.json.")
@click.option("--gpus", metavar="NxGPU", help="Such as 8xh100 or 4090.")
@click.option("--task", type=TASK, help="What is done with the model.")
@click.option("--engine", metavar="NAME", help="The training engine or RL stack.")
@click.option("--length", metavar="TOKENS", help="Of sequences; in RL of the longest response. 8k is 8,192.")
@click.option("--headroom", type=click.FloatRange(min=0), metavar="GIB", help="What must stay free on every GPU.")
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
    from planner.inputs.asked import RESPONSE, SEQUENCES, Wanted, template, tokens
    from planner.inputs.catalog import default_catalog

    catalog = default_catalog()
    if listed:
        from planner.report.templates import template_blocks

        emit(render_blocks(template_blocks(catalog), "table", out), out, force)
        return
    ask = sys.stdin is not None and sys.stdin.isatty()
    model = model or _ask(ask, "Model", "qwen2.5-7b", catalog, "models")
    gpus = gpus or _ask(ask, "GPUs, as in 8xh100", "8xh100", None, None)
    task = task or _choose(ask, "Task", list(TASK.choices), "sft")
    engine = engine or _engine(ask, task, catalog)
    usual = RESPONSE if task == "rl" else SEQUENCES[task]
    words = "Longest response [tokens]" if task == "rl" else "Sequence length [tokens]"
    count = tokens(length or _ask(ask and length is None, words, str(usual), None, None), "--length")
    if headroom is None and ask:
        matters = _choose(ask, "What matters most", ["speed", "safety"], "speed")
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


def _ask(ask: bool, words: str, default: str, catalog: Catalog | None, kind: str | None) -> str:
    """What a person types at a terminal, asked again where it means nothing; the default elsewhere."""
    from planner.errors import InputError, Place

    while ask:
        given = str(click.prompt(words, default, err=True))
        if catalog is None or kind is None:
            return given
        try:
            catalog.find(kind, given, Place(words))
        except InputError as error:
            click.echo(str(error), err=True)
            continue
        return given
    return default


def _choose(ask: bool, words: str, choices: list[str], default: str) -> str:
    return str(click.prompt(words, default, type=click.Choice(choices), err=True)) if ask else default


def _engine(ask: bool, task: str, catalog: Catalog) -> str | None:
    """One of the engines that do the task; None for the usual one."""
    from planner.inputs.asked import ENGINES, templates

    if not ask:
        return None
    choices = [engine for each, engine in templates(catalog) if each == task]
    return _choose(ask, "Engine", choices, ENGINES[task][1])
