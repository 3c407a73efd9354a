"""`planner catalog`: list, show and check the facts that plans rest on."""

from __future__ import annotations

from typing import Any

import click

from planner.commands.common import emit, format_option, note, out_option, render_blocks
from planner.errors import CheckFailed
from planner.inputs.catalog import KINDS, Catalog, default_catalog
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, pairs
from planner.report.json_text import dumps

SHOWN = {
    "gpus": ("name", "usable_gib", "memory_bandwidth_gb_per_s"),
    "nodes": ("name", "gpu", "gpus_per_node"),
    "models": ("hf_id", "num_hidden_layers", "hidden_size"),
    "engines": ("name", "version"),
    "optimizers": ("name", "state_bytes", "master_bytes"),
    "precisions": ("name", "weight_bytes", "compute"),
    "rollouts": ("name", "version"),
    "prices": ("node", "on_demand_usd_per_gpu_hour"),
}
"""Columns of `catalog list`, by kind, where the entry has them."""


@click.group(invoke_without_command=False)
def command() -> None:
    """List, show and check the catalogs: GPUs, nodes, models, engines, optimizers, precisions, prices."""


@command.command("list")
@click.argument("kind", required=False)
@format_option("table", "json", "markdown")
@out_option
def list_entries(kind: str | None, style: str, out: str | None, force: bool) -> None:
    """List the entries of KIND, or how many entries each kind has."""
    catalog = default_catalog()
    if kind is None:
        counts = {name: catalog.ids(name) for name in KINDS}
        rows = tuple(
            (name, str(len(ids)), ", ".join(ids[:4]) + (", ..." if len(ids) > 4 else ""))
            for name, ids in counts.items()
        )
        grid = Grid(("kind", "entries", "for instance"), rows, left=frozenset({0, 2}))
        following = Command("planner catalog list gpus", "the entries of one kind")
        text = dumps(dict(counts)) if style == "json" else render_blocks([grid, following], style)
    else:
        entries = catalog.all(kind)
        if style == "json":
            text = dumps({kind: [entry.id for entry in entries]})
        else:
            text = render_blocks(_listing(kind, entries), style)
    emit(text, out, force)


def _listing(kind: str, entries: list[Any]) -> list[Block]:
    fields = [name for name in SHOWN.get(kind, ()) if any(hasattr(entry, name) for entry in entries)]
    rows = tuple((entry.id, *(_cell(getattr(entry, name, None)) for name in fields)) for entry in entries)
    grid = Grid(("id", *fields), rows, left=frozenset({0, 1}))
    example = entries[0].id if entries else "ID"
    return [grid, Command(f"planner catalog show {kind} {example}", "one entry with its sources")]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


@command.command("show")
@click.argument("kind")
@click.argument("name", metavar="ID")
@format_option("table", "json", "markdown")
@out_option
def show(kind: str, name: str, style: str, out: str | None, force: bool) -> None:
    """Show one entry with its sources."""
    catalog = default_catalog()
    entry = catalog.find(kind, name)
    data = entry.model_dump(mode="json", exclude_none=True)
    text = dumps(data) if style == "json" else render_blocks(_entry_blocks(catalog, kind, data), style)
    emit(text, out, force)


def _entry_blocks(catalog: Catalog, kind: str, data: dict[str, Any]) -> list[Block]:
    rows = [(key, _value(value)) for key, value in data.items() if key != "sources" and value not in ([], {})]
    blocks: list[Block] = [Headline(f"{kind}: {data['id']}"), pairs(rows)]
    if kind == "models":
        from planner.formulas.parameters import count_parameters

        counted = count_parameters(catalog.find("models", data["id"]))
        text = f"{counted.total:,} parameters, {counted.active_per_token:,} active for a token"
        blocks.append(pairs([("counted", text)]))
    sources = [f"{s['ref']} ({s['date']}){': ' + s['note'] if 'note' in s else ''}" for s in data.get("sources", [])]
    blocks += [Heading("Sources"), Bullets(tuple(sources))] if sources else []
    return [*blocks, Command(f"planner catalog list {kind}", "all entries of this kind")]


def _value(value: Any) -> str:
    """Nested values on one line each, in YAML's flow style."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_value(item) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())


@command.command("check")
@click.pass_context
def check(context: click.Context) -> None:
    """Check every file: schema, names, dated sources, references, parameter counts. Exit code 5 on a finding."""
    from planner.inputs.catalog_check import check_catalog

    catalog = default_catalog()
    problems = check_catalog(catalog)
    count = sum(len(catalog.ids(kind)) for kind in KINDS)
    if problems:
        emit("\n".join(problem.render() for problem in problems))
        note(f"{len(problems)} findings in {count} entries")
        context.exit(CheckFailed.exit_code)
    following = Command("planner catalog list", "how many entries each kind has")
    emit(render_blocks([Headline(f"{count} catalog entries checked: no findings"), following], "table"))
