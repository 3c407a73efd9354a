"""`planner catalog`: list, show and check the facts that plans rest on."""

from __future__ import annotations

import click

from planner.commands.common import Output, emit, output_options, render_blocks
from planner.errors import CheckFailed, Place
from planner.streams import note


@click.group(invoke_without_command=False)
def command() -> None:
    """List, show and check the catalogs: GPUs, nodes, models, engines, optimizers, precisions, prices."""


@command.command("list")
@click.argument("kind", required=False)
@output_options()
def list_entries(kind: str | None, output: Output) -> None:
    """List the entries of KIND, or how many entries each kind has."""
    from planner.inputs.catalog import KINDS, default_catalog
    from planner.report.catalog import kind_blocks, kinds_blocks, list_document

    catalog = default_catalog()
    ids = {name: catalog.ids(name) for name in (KINDS if kind is None else (kind,))}
    output.write(
        lambda: kinds_blocks(ids) if kind is None else kind_blocks(kind, catalog.all(kind)),
        lambda: list_document(catalog, ids),
    )


@command.command("show")
@click.argument("kind")
@click.argument("name", metavar="ID")
@output_options()
def show(kind: str, name: str, output: Output) -> None:
    """Show one entry with its sources."""
    from planner.inputs.catalog import default_catalog
    from planner.report.catalog import entry_blocks, entry_document

    catalog = default_catalog()
    entry = catalog.find(kind, name, Place("the command line"))
    output.write(lambda: entry_blocks(catalog, kind, entry), lambda: entry_document(catalog, kind, entry))


@command.command("check")
@click.pass_context
def check(context: click.Context) -> None:
    """Check every file: schema, names, dated sources, references, parameter counts. Exit code 5 on a finding."""
    from planner.inputs.catalog import KINDS, default_catalog
    from planner.inputs.catalog_check import check_catalog
    from planner.report.catalog import checked_blocks

    catalog = default_catalog()
    findings = check_catalog(catalog)
    count = sum(len(catalog.ids(kind)) for kind in KINDS)
    if findings:
        emit("\n".join(finding.render() for finding in findings))
        note(f"{len(findings)} findings in {count} entries")
        context.exit(CheckFailed.exit_code)
    emit(render_blocks(checked_blocks(count), "table"))
