"""`planner ask`: an answer without a file, and the scenario that was assumed for it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from planner.commands import completing
from planner.commands.common import TASK, Output, answer_options, emit, progress, set_option
from planner.errors import NoLayoutFits, NoVerdict

if TYPE_CHECKING:
    from planner.inputs.document import Document

EPILOG = "Example: planner ask qwen2.5-7b --gpus 4xh100 --task rl --response 16k"


@click.command(epilog=EPILOG)
@click.argument("model", metavar="MODEL", shell_complete=completing.model_or_file)
@click.option(
    "--gpus",
    required=True,
    metavar="NxGPU",
    shell_complete=completing.counted_gpus,
    help="Such as 4xh100, 4090 or 2x8xh200.",
)
@click.option("--task", type=TASK, default="sft", show_default=True, help="What is done with MODEL.")
@click.option(
    "--engine",
    metavar="NAME",
    shell_complete=completing.engines,
    help="Such as slime, fsdp2 or megatron; the usual one by default.",
)
@click.option("--sequence", metavar="TOKENS", help="Length of sequences, such as 32k; 8k,32k compares them.")
@click.option("--response", metavar="TOKENS", help="Longest response of RL, such as 16k; 8k,32k compares them.")
@click.option("--batch", type=click.IntRange(1, 2**24), help="Sequences of a step; in RL prompts of a rollout.")
@click.option("--headroom", type=click.FloatRange(min=0), metavar="GIB", help="What must stay free on every GPU.")
@set_option
@click.option("--save", metavar="FILE", help="Write the scenario that was assumed, with what each line means.")
@answer_options
@click.pass_context
def command(
    context: click.Context,
    model: str,
    gpus: str,
    task: str,
    engine: str | None,
    sequence: str | None,
    response: str | None,
    batch: int | None,
    headroom: float | None,
    overrides: tuple[str, ...],
    save: str | None,
    output: Output,
) -> None:
    """Lay out a run of MODEL (a catalog id, a Hugging Face id, a config.json) that is told in a few words.

    What is not said is assumed, and the answer says what. Exit codes are those of solve.
    """
    from planner.inputs.asked import Wanted, template, tokens
    from planner.inputs.catalog import default_catalog
    from planner.inputs.document import parse_document, with_overrides

    sequences = [tokens(part, "--sequence") for part in (sequence or "").split(",") if part.strip()]
    responses = [tokens(part, "--response") for part in (response or "").split(",") if part.strip()]
    catalog = default_catalog()
    length, longest = (next(iter(values), None) for values in (sequences, responses))
    first = Wanted(model, gpus, task, engine, length, longest, batch, headroom)
    made = template(first, catalog)
    document = with_overrides(parse_document(made.text, save or "ask"), overrides)
    if save is not None:
        text = _with_sets(made.text, document)
        emit(text, save, output.force)
        document = parse_document(text, save)
    progress(f"searching layouts of {model}")
    if len(sequences) > 1:
        _several(context, document, "batch.sequence_length", sequences, output)
    elif len(responses) > 1:
        _several(context, document, "rl.response_length", responses, output)
    else:
        _solve(context, document, made.assumed, save, output)


def _with_sets(text: str, document: Document) -> str:
    """The scenario that is solved: as it was written, or with the values of --set in it."""
    if not document.overrides:
        return text
    import io

    from ruamel.yaml import YAML

    stream = io.StringIO()
    YAML().dump(document.data, stream)
    return stream.getvalue()


def _solve(
    context: click.Context, document: Document, assumed: tuple[str, ...], save: str | None, output: Output
) -> None:
    from planner.analysis.infeasible.nearest import nearest
    from planner.analysis.other_methods import other_methods
    from planner.inputs.catalog import default_catalog
    from planner.report.blocks import Command
    from planner.report.solve import Solved, solve_blocks, solve_document, solve_ledgers, solve_screen
    from planner.search.enumerate import DEFAULT_POINTS
    from planner.search.search import plan

    catalog = default_catalog()
    outcome = plan(document, catalog, check_points=DEFAULT_POINTS, ties=True)
    again = Command(f"{_typed(context)} --save run.yaml", "keeps the question, for launch, explain and whatif")
    lacks = nearest(outcome, catalog) if outcome.status == "infeasible" else None
    methods = other_methods(outcome, catalog, progress)
    if methods:
        change = " ".join(f"--set {shlex.quote(text)}" for text in methods[0].arguments)
        again = Command(f"{_typed(context)} {change}", f"{methods[0].name} instead: it fits")
    solved = Solved(outcome, nearest=lacks, methods=methods, assumed=assumed, command=None if save else again)
    output.write(
        lambda: solve_blocks(solved),
        lambda: solve_document(solved),
        screen=lambda: solve_screen(solved),
        ledgers=lambda: solve_ledgers(solved),
    )
    if outcome.status == "infeasible":
        context.exit(NoLayoutFits.exit_code)
    if outcome.plan is None:
        context.exit(NoVerdict.exit_code)


def _typed(context: click.Context) -> str:
    """The command as it was typed, without how the answer is printed."""
    given = {name: value for name, value in context.params.items() if value not in (None, ())}
    parts = ["planner", "ask", str(given["model"])]
    for name in ("gpus", "task", "engine", "sequence", "response", "batch", "headroom"):
        if name in given:
            parts += [f"--{name}", f"{given[name]:g}" if name == "headroom" else str(given[name])]
    for text in given.get("overrides", ()):
        parts += ["--set", text]
    return shlex.join(parts)


def _several(context: click.Context, document: Document, path: str, values: list[int], output: Output) -> None:
    """Solve again for each length; the responses of RL keep their shape."""
    from planner.analysis.rl_lengths import rl_lengths
    from planner.analysis.whatif import what_if
    from planner.report.rl_lengths import rl_length_blocks, rl_length_document, rl_length_screen
    from planner.report.whatif import whatif_blocks, whatif_document, whatif_screen

    if path == "rl.response_length":
        answers = rl_lengths(document, values, progress=progress)
        output.write(
            lambda: rl_length_blocks(document.name, answers),
            lambda: rl_length_document(document, answers),
            screen=lambda: rl_length_screen(document, answers),
        )
        found = [answer.outcome.status for answer in answers]
    else:
        rows = what_if(document, [f"{path}={','.join(map(str, values))}"], progress=progress)
        output.write(lambda: whatif_blocks(rows), lambda: whatif_document(rows), screen=lambda: whatif_screen(rows))
        found = [row.status for row in rows]
    if not set(found) & {"optimal", "feasible"}:
        context.exit(NoVerdict.exit_code if "unknown" in found else NoLayoutFits.exit_code)
