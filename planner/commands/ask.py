"""`planner ask`: an answer without a file, and the scenario that was assumed for it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from planner.commands import completing
from planner.commands.common import TASK, Number, Output, answer_options, emit, progress, set_option
from planner.errors import NoLayoutFits, NoVerdict

if TYPE_CHECKING:
    from planner.inputs.document import Document
    from planner.report.blocks import Block

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
@click.option("--headroom", type=Number(min=0), metavar="GIB", help="What must stay free on every GPU.")
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
    from planner.inputs.asked import Wanted, template
    from planner.inputs.catalog import default_catalog
    from planner.inputs.document import parse_document, with_overrides

    sequences = _lengths(sequence, "--sequence")
    responses = _lengths(response, "--response")
    catalog = default_catalog()
    length, longest = (next(iter(values), None) for values in (sequences, responses))
    first = Wanted(model, gpus, task, engine, length, longest, batch, headroom)
    made = template(first, catalog)
    document = with_overrides(parse_document(made.text, save or "ask"), overrides)
    assumed = made.assumed_beside(overrides)
    if save is not None:
        text = _with_sets(made.text, document)
        emit(text, save, output.force, "--save")
        document = parse_document(text, save)
    progress(f"searching layouts of {model}")
    if len(sequences) > 1:
        _sequences(context, document, sequences, assumed, save, output)
    elif len(responses) > 1:
        _responses(context, document, responses, assumed, save, output)
    else:
        _solve(context, document, assumed, save, output)


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
    from planner.analysis.other_methods import enough_gpus, other_methods
    from planner.analysis.safer import safer
    from planner.inputs.catalog import default_catalog
    from planner.report.blocks import Command
    from planner.report.solve import Solved, solve_blocks, solve_document, solve_ledgers, solve_screen
    from planner.search.enumerate import DEFAULT_POINTS
    from planner.search.search import plan

    catalog = default_catalog()
    outcome = plan(document, catalog, check_points=DEFAULT_POINTS, ties=True)
    then = "launch, explain and whatif" if outcome.plan is not None else "planner explain: what contradicts what"
    again = Command(f"{_typed(context)} --save run.yaml", f"keeps the question, for {then}")
    lacks = nearest(outcome, catalog) if outcome.status == "infeasible" else None
    methods = (*other_methods(outcome, catalog, progress), *enough_gpus(outcome, catalog, progress))
    if methods:
        change = " ".join(f"--set {shlex.quote(text)}" for text in methods[0].arguments)
        again = Command(f"{_typed(context)} {change}", f"{methods[0].name} instead: it fits")
    more = safer(outcome.plan, catalog) if outcome.plan is not None else None
    again_unless_saved = None if save else again
    solved = Solved(outcome, nearest=lacks, methods=methods, assumed=assumed, command=again_unless_saved, safer=more)
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


def _typed(context: click.Context, **instead: int) -> str:
    """The command as it was typed, without how the answer is printed, or with other values `instead`."""
    given = {name: value for name, value in {**context.params, **instead}.items() if value not in (None, ())}
    parts = ["planner", "ask", str(given["model"])]
    for name in ("gpus", "task", "engine", "sequence", "response", "batch", "headroom"):
        if name in given:
            parts += [f"--{name}", f"{given[name]:g}" if name == "headroom" else str(given[name])]
    for text in given.get("overrides", ()):
        parts += ["--set", text]
    return shlex.join(parts)


def _lengths(text: str | None, where: str) -> list[int]:
    """`8k,32k` as tokens, each once."""
    from planner.inputs.asked import tokens

    return list(dict.fromkeys(tokens(part, where) for part in (text or "").split(",") if part.strip()))


def _responses(
    context: click.Context,
    document: Document,
    values: list[int],
    assumed: tuple[str, ...],
    save: str | None,
    output: Output,
) -> None:
    """Solve again for each longest response; the distribution keeps its shape."""
    from planner.analysis.rl_lengths import rl_lengths
    from planner.report.rl_lengths import rl_length_blocks, rl_length_document, rl_length_screen
    from planner.report.solve import assumed_text

    answers = rl_lengths(document, values, progress=progress)
    fitting = [answer.response_length for answer in answers if answer.plan is not None]
    again = _again(context, "response", fitting, values) if save is None else None
    shown, lead = _named(document, save), (assumed_text(assumed),)
    output.write(
        lambda: _ended(rl_length_blocks(shown.name, answers), again),
        lambda: rl_length_document(document, answers),
        screen=lambda: _ended(rl_length_screen(shown, answers, lead), again),
    )
    _exit(context, [answer.outcome.status for answer in answers])


def _sequences(
    context: click.Context,
    document: Document,
    values: list[int],
    assumed: tuple[str, ...],
    save: str | None,
    output: Output,
) -> None:
    """Solve again for each length of a sequence; the first is what the others are compared with."""
    from planner.analysis.whatif import what_if
    from planner.report.blocks import Headline
    from planner.report.solve import assumed_text
    from planner.report.whatif import whatif_blocks, whatif_document, whatif_screen

    rows = what_if(_named(document, save), [f"batch.sequence_length={','.join(map(str, values))}"], progress=progress)
    fitting = [value for value, row in zip(values, rows[1:], strict=True) if row.plan is not None]
    again = _again(context, "sequence", fitting, values) if save is None else None
    shown, name = [replace(rows[1], changes=(), name=rows[1].label), *rows[2:]], document.data["name"]
    head = Headline(f"{name}: {len(fitting)} of {len(values)} lengths of sequences fit", good=bool(fitting))
    output.write(
        lambda: [head, *_ended(whatif_blocks(shown), again)[1:]],
        lambda: whatif_document(rows),
        screen=lambda: [head, *_ended(whatif_screen(shown, (assumed_text(assumed),)), again)[1:]],
    )
    _exit(context, [row.status for row in rows])


def _named(document: Document, save: str | None) -> Document:
    """The scenario under the name that is in it, where no file has one."""
    return document if save is not None else replace(document, name=str(document.data["name"]))


def _again(context: click.Context, option: str, fitting: list[int], values: list[int]) -> tuple[str, str]:
    """The command that answers one of several lengths in full, and what for."""
    if fitting:
        return _typed(context, **{option: max(fitting)}), "the longest that fits in full (-v here: more of each)"
    return _typed(context, **{option: min(values)}), "what would make the shortest fit"


def _ended(blocks: list[Block], again: tuple[str, str] | None) -> list[Block]:
    """The report with that command at its end instead of its own."""
    from planner.report.blocks import Command

    if again is None:
        return blocks
    return [*(block for block in blocks if not isinstance(block, Command)), Command(*again)]


def _exit(context: click.Context, found: list[str]) -> None:
    if not set(found) & {"optimal", "feasible"}:
        context.exit(NoVerdict.exit_code if "unknown" in found else NoLayoutFits.exit_code)
