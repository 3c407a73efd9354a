"""`planner model`: read the `config.json` of a network into a catalog entry."""

from __future__ import annotations

import click

from planner.commands.common import emit, format_option, note, out_option, render_blocks


@click.group(invoke_without_command=False)
def command() -> None:
    """Read networks that are not in the catalog."""


@command.command("import")
@click.argument("config", metavar="CONFIG")
@click.option("--id", "entry_id", metavar="ID", help="Name of the entry.  [default: the file's own name for the model]")
@click.option("--text-only", is_flag=True, help="Leave out vision and audio towers: the language model alone.")
@format_option("table", "markdown")
@out_option
def import_config(config: str, entry_id: str | None, text_only: bool, style: str, out: str | None, force: bool) -> None:
    """Read CONFIG, a Hugging Face config.json or the folder of one, print what it was taken for, and write the entry.

    The entry goes to ID.yaml here unless --out names another file; as `models/ID.yaml` in a folder of --catalog or
    PLANNER_CATALOGS it is known by its id, and anywhere by its path. A network that cannot be planned is refused by the
    name of the key that says so.
    """
    from planner.inputs.model_file import imported
    from planner.report.model import entry_text, understood_blocks

    found = imported(config, entry_id, text_only=text_only)
    target = out or f"{found.understood.architecture.id}.yaml"
    if target != "-":
        emit(render_blocks(understood_blocks(found, target), style))
    emit(entry_text(found), target, force)
    if target == "-":
        note("written to stdout; --out FILE writes a file and prints what was understood")
