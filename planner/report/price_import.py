"""Prices read from a foreign list, as blocks and as data."""

from __future__ import annotations

import shlex

from planner.inputs.catalog import Catalog
from planner.inputs.messages import some_of
from planner.inputs.price_import import PriceImport, SkippedKind
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Text
from planner.report.envelope import ANSWERED, enveloped
from planner.report.json_text import JsonObject
from planner.schema.catalog import Price
from planner.units import number

NAMES = 6
"""Instance types that a reason names."""


def price_import_blocks(found: PriceImport, folder: str | None, typed: str) -> list[Block]:
    """Every price, then every reason for which rows were left out.

    `folder`: where they were written, None where they were not; `typed`: the command line.
    """
    left = sum(kind.rows for kind in found.skipped)
    prices = f"{len(found.entries)} price{'s' if len(found.entries) > 1 else ''}"
    text = f"{prices} of {found.provider} from {found.file.count:,} rows; {left:,} rows left out"
    rows = tuple(
        (entry.id, entry.gpu, entry.node or "-", *_rents(entry), entry.region or "-") for entry in found.entries
    )
    columns = ("id", "GPU", "node type", "on demand", "spot", "region")
    blocks: list[Block] = [Headline(text), Grid(columns, rows, left=frozenset({0, 1, 2, 5}))]
    blocks.append(Text("USD a GPU-hour, without tax: on demand in the cheapest region, spot the median of its rows."))
    if found.unplanned:
        one = next(entry for entry in found.entries if entry.node is None)
        names = some_of(list(found.unplanned))
        text = f"No budget can use {names}: nobody said which node type that is (--node {one.instance}=ID)."
        blocks.append(Text(text))
    if found.skipped:
        blocks += [Heading("Left out"), Bullets(tuple(map(_reason, found.skipped)))]
    if folder is None:
        return [*blocks, Command(f"{typed} --out my-catalog", "write them as catalog files")]
    return [
        *blocks,
        Command(f"PLANNER_CATALOGS={shlex.quote(folder)} planner catalog check", "the files as the planner reads them"),
    ]


def _rents(entry: Price) -> tuple[str, str]:
    hourly, spot = entry.on_demand_usd_per_gpu_hour, entry.spot_usd_per_gpu_hour
    return ("-" if hourly is None else number(hourly, 4), "-" if spot is None else number(spot, 4))


def _reason(kind: SkippedKind) -> str:
    names = f" ({some_of([f'`{name}`' for name in kind.names], NAMES)})" if kind.names else ""
    return f"{kind.rows:,} row{'s' if kind.rows > 1 else ''}, the first in line {kind.line}: {kind.why}{names}"


def price_import_document(found: PriceImport, catalog: Catalog) -> JsonObject:
    """The same for programs."""
    document: JsonObject = {
        "file": found.file.name,
        "sha256": found.file.sha256,
        "provider": found.provider,
        "rows": found.file.count,
        "prices": [entry.model_dump(mode="json", exclude_none=True) for entry in found.entries],
        "without_node_type": list(found.unplanned),
        "left_out": [
            {"why": kind.why, "rows": kind.rows, "first_line": kind.line, "names": list(kind.names)}
            for kind in found.skipped
        ],
    }
    return enveloped("catalog", ANSWERED, document, catalog=catalog.used())
