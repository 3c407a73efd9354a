"""`planner catalog`: list, show and check the facts that plans rest on."""

from __future__ import annotations

from pathlib import Path

import click

from planner.commands import completing
from planner.commands.common import Output, emit, emit_files, output_options, render_blocks, typed
from planner.errors import CheckFailed, InputError, Mistake, Place
from planner.streams import note


@click.group(invoke_without_command=False)
def command() -> None:
    """List, show and check the catalogs: GPUs, nodes, models, engines, optimizers, precisions, prices."""


@command.command("list")
@click.argument("kind", required=False, shell_complete=completing.kinds)
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
@click.argument("kind", shell_complete=completing.kinds)
@click.argument("name", metavar="ID", shell_complete=completing.entries)
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


@command.command(
    "import-prices",
    epilog="Example: planner catalog import-prices catalogs/v8/aws/vms.csv --read-on 2026-11-20 --out my-catalog",
)
@click.argument("file", metavar="VMS.CSV")
@click.option("--read-on", required=True, metavar="DATE", help="When the prices were so: YYYY-MM-DD or YYYY-MM.")
@click.option("--provider", metavar="NAME", help="Whose prices they are; by default the folder of the file.")
@click.option("--region", metavar="NAME", help="Only this region; by default the cheapest one of each instance type.")
@click.option("--gpu", "gpus", metavar="NAME=ID", multiple=True, help="Which GPU of the catalog NAME is; repeatable.")
@click.option("--node", "nodes", metavar="INSTANCE=ID", multiple=True, help="Which node type INSTANCE is; repeatable.")
@output_options(folder=True)
def import_prices(
    file: str,
    read_on: str,
    provider: str | None,
    region: str | None,
    gpus: tuple[str, ...],
    nodes: tuple[str, ...],
    output: Output,
) -> None:
    """Read a vms.csv of SkyPilot's catalogs; --out writes a price file each into FOLDER/prices. Says what it left out.

    Put the folder into PLANNER_CATALOGS to plan with them.
    """
    from planner.inputs.catalog import default_catalog
    from planner.inputs.price_import import ImportAsked, price_import
    from planner.inputs.skypilot import read_vms
    from planner.report.price_import import price_import_blocks, price_import_document

    folder = None if output.path == "-" else output.path
    catalog = default_catalog()
    found = price_import(read_vms(file), ImportAsked(read_on, provider, region, gpus, nodes), catalog)
    if folder is not None:
        if Path(folder).is_file():
            because = "every price is a file of its own"
            raise InputError(Mistake(f"{folder} is a file", Place("--out"), because, "--out my-catalog"))
        emit_files(found.texts, folder, output.force)
    Output(output.style, None, False).write(
        lambda: price_import_blocks(found, folder, typed()), lambda: price_import_document(found, catalog)
    )
