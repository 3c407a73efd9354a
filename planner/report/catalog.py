"""Entries of the catalogs as blocks and as data."""

from __future__ import annotations

from typing import Any

from planner.formulas.parameters import count_parameters
from planner.inputs.catalog import Catalog
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, pairs
from planner.report.engine_summary import engine_summary
from planner.report.envelope import ANSWERED, enveloped
from planner.report.json_text import JsonObject
from planner.schema.base import Frozen
from planner.schema.engine import Engine

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


def kinds_blocks(counts: dict[str, list[str]]) -> list[Block]:
    """How many entries each kind has. `counts`: the ids by kind."""
    rows = tuple(
        (name, str(len(ids)), ", ".join(ids[:4]) + (", ..." if len(ids) > 4 else "")) for name, ids in counts.items()
    )
    grid = Grid(("kind", "entries", "for instance"), rows, left=frozenset({0, 2}))
    return [grid, Command("planner catalog list gpus", "the entries of one kind")]


def kind_blocks(kind: str, entries: list[Any]) -> list[Block]:
    """The entries of one kind with the columns of SHOWN that they have."""
    fields = [name for name in SHOWN.get(kind, ()) if any(hasattr(entry, name) for entry in entries)]
    rows = tuple((entry.id, *(_cell(getattr(entry, name, None)) for name in fields)) for entry in entries)
    grid = Grid(("id", *fields), rows, left=frozenset({0, 1}))
    example = entries[0].id if entries else "ID"
    return [grid, Command(f"planner catalog show {kind} {example}", "one entry with its sources")]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)


def list_document(catalog: Catalog, ids: dict[str, list[str]]) -> JsonObject:
    """The ids of the entries by kind."""
    return enveloped("catalog", ANSWERED, {"entries": ids}, catalog=catalog.used())


def entry_document(catalog: Catalog, kind: str, entry: Frozen) -> JsonObject:
    """One entry as its file states it, without what it leaves open."""
    document: JsonObject = {"kind": kind, "entry": entry.model_dump(mode="json", exclude_none=True)}
    return enveloped("catalog", ANSWERED, document, catalog=catalog.used())


def entry_blocks(catalog: Catalog, kind: str, entry: Frozen) -> list[Block]:
    """One entry, key by key, with its sources."""
    data = entry.model_dump(mode="json", exclude_none=True)
    rows = [(key, _value(value)) for key, value in data.items() if key != "sources" and value not in ([], {})]
    summary = engine_summary(entry, catalog) if isinstance(entry, Engine) else []
    blocks: list[Block] = [Headline(f"{kind}: {data['id']}"), *summary, pairs(rows)]
    if kind == "models":
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


def checked_blocks(count: int) -> list[Block]:
    """That nothing is wrong with so many entries."""
    following = Command("planner catalog list", "how many entries each kind has")
    return [Headline(f"{count} catalog entries checked: no findings"), following]
