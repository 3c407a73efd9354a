"""`planner diagnose`: paste an out-of-memory message, get the tensor that asked, the phase, and the right fix."""

from __future__ import annotations

import click

from planner.commands import completing
from planner.commands.common import Output, answer_options, set_option


@click.command(epilog="Example: planner diagnose example:qwen7b_rl --message 'Tried to allocate 58.15 GiB'")
@click.argument("scenario", metavar="SCENARIO", shell_complete=completing.scenarios)
@click.argument("log", metavar="[-]", required=False)
@click.option("--message", metavar="TEXT", help="The message itself.")
@click.option("--file", "file", metavar="FILE", help="A log that holds it; `-` reads standard input.")
@set_option
@answer_options
def command(
    scenario: str, log: str | None, message: str | None, file: str | None, overrides: tuple[str, ...], output: Output
) -> None:
    """Read an out-of-memory message of a run that SCENARIO describes: which tensor asked, when, and what helps."""
    from planner.analysis.diagnose.diagnose import diagnose
    from planner.inputs.oom_message import given_text
    from planner.inputs.saved import load
    from planner.problem.resolve import question_of
    from planner.report.diagnosis import diagnosis_blocks, diagnosis_document, diagnosis_screen

    text = given_text(scenario, log, message, file)
    name = file if file not in (None, "-") else "the message"
    diagnosis = diagnose(question_of(load(scenario, overrides)).first, text, name)
    output.write(
        lambda: diagnosis_blocks(diagnosis),
        lambda: diagnosis_document(diagnosis),
        screen=lambda: diagnosis_screen(diagnosis),
    )
