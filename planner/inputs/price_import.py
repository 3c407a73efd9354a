"""Rows of a foreign price list become entries of the catalog: one price an instance type, for its cheapest region."""

from __future__ import annotations

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.errors import InputError, Mistake, Place, visible
from planner.inputs.catalog import Catalog
from planner.inputs.catalog_check import is_dated
from planner.inputs.messages import some_of
from planner.inputs.names import flat, meant
from planner.inputs.skypilot import SkippedRow, VmFile, VmRow
from planner.schema.base import Source
from planner.schema.catalog import Price

SIZES = {"A100": "A100-40GB", "V100": "V100-16GB", "H100-MEGA-80GB": "H100-SXM-80GB"}
"""What SkyPilot's names leave unsaid."""
FORM = re.compile(r"sxm|pcie|nvl(?!ink)", re.IGNORECASE)
"""Forms that a GPU comes in, as instance types and GpuInfo name them."""
REPOSITORY = "skypilot-org/skypilot-catalog"


@dataclass(frozen=True)
class ImportAsked:
    """What is said beside the file."""

    read_on: str
    """When the prices were so: YYYY-MM-DD or YYYY-MM."""
    provider: str | None = None
    """Whose prices they are; by default the folder that the file stands in."""
    region: str | None = None
    """Only rows of this region."""
    gpus: tuple[str, ...] = ()
    """NAME=ID: which GPU of the catalog a name of the file is."""
    nodes: tuple[str, ...] = ()
    """INSTANCE=ID: which node type of the catalog an instance is."""


@dataclass(frozen=True)
class SkippedKind:
    """Rows that were left out for one reason."""

    why: str
    rows: int
    line: int
    """Of the first one."""
    names: tuple[str, ...]


@dataclass(frozen=True)
class PriceImport:
    """Entries for `prices/`, and what was left out."""

    file: VmFile
    provider: str
    entries: tuple[Price, ...]
    skipped: tuple[SkippedKind, ...]
    """Most rows first."""

    @property
    def unplanned(self) -> tuple[str, ...]:
        """Entries that no budget can use, since nobody said which node type they are."""
        return tuple(entry.id for entry in self.entries if entry.node is None)

    @property
    def texts(self) -> dict[str, str]:
        """Path inside a catalog folder, and text."""
        return {f"prices/{entry.id}.yaml": _text(entry) for entry in self.entries}


def price_import(file: VmFile, asked: ImportAsked, catalog: Catalog) -> PriceImport:
    """One entry an instance type: on demand in its cheapest region, spot as the median of zones.

    GPU and node type come from what is said, from the catalog's price of the same instance, or from the GPU's name
    where only one GPU of the catalog can be meant. Raises InputError for a wrong option, or where no row gives a price.
    """
    if not is_dated(asked.read_on):
        what = f"{asked.read_on} is no date"
        raise InputError(Mistake(what, Place("--read-on"), "prices age, and reports say so", "YYYY-MM-DD"))
    provider = _provider(file, asked, catalog)
    gpus = _said(asked.gpus, "--gpu", "gpus", {row.accelerator for row in file.rows}, catalog)
    nodes = _said(asked.nodes, "--node", "nodes", {row.instance for row in file.rows}, catalog)
    groups: dict[tuple[str, str, int], list[VmRow]] = defaultdict(list)
    for row in _in_region(file, asked.region):
        groups[row.instance, row.accelerator, row.gpus].append(row)
    source = Source(
        ref=f"{REPOSITORY} {visible(file.name)}", date=asked.read_on, note=f"SHA-256 {file.sha256[:16]} of the file"
    )
    entries: dict[str, Price] = {}
    skipped = list(file.skipped)
    if asked.region is not None:
        skipped += [SkippedRow(r.line, r.instance, "another region") for r in file.rows if r.region != asked.region]
    for (instance, _, count), rows in groups.items():
        known = _known(provider, instance, count, catalog)
        found = gpus.get(rows[0].accelerator) or (known.gpu if known is not None else _gpu(rows, catalog))
        name = known.id if known is not None else _id(provider, instance)
        because = None
        if isinstance(found, _Unclear):
            because = found.why
        elif name in entries:
            because = f"two instance types would both be called {name}"
        if because is not None or isinstance(found, _Unclear):
            skipped += [SkippedRow(row.line, instance, because or "") for row in rows]
            continue
        node = nodes.get(instance) or (known.node if known is not None and found == known.gpu else None)
        if node is not None and catalog.find("nodes", node).gpu != found:
            because = f"node type {node} has {catalog.find('nodes', node).gpu}, not {found}"
            raise InputError(Mistake(f"{instance} is no {node}", Place("--node"), because))
        entries[name] = _price(name, provider, rows, found, node, source)
    if not entries:
        raise InputError(
            Mistake(
                f"no row of {file.name} gives a price",
                Place(file.name),
                "; ".join(f"{kind.rows} x {kind.why}" for kind in _kinds(skipped)[:4]) or "it has no rows",
            )
        )
    return PriceImport(file, provider, tuple(entries[name] for name in sorted(entries)), _kinds(skipped))


def _provider(file: VmFile, asked: ImportAsked, catalog: Catalog) -> str:
    """As the catalog spells it, where it knows it."""
    folder = re.split(r"[/\\]", file.name)[-2:-1]
    name = asked.provider or (folder[0] if folder and folder[0] not in ("", ".", "..") else None)
    if name is None or not flat(name):
        because = "prices are named after it, and the file stands in no folder that says it"
        raise InputError(Mistake("whose prices are these?", Place("--provider"), because, "--provider AWS"))
    known = sorted({catalog.find("prices", each).provider for each in catalog.ids("prices")})
    words = {"gcp": "Google Cloud", "oci": "Oracle Cloud"}
    wanted = words.get(name.lower(), name)
    return next((each for each in known if flat(each) == flat(wanted)), visible(wanted))


def _said(arguments: Sequence[str], option: str, kind: str, names: set[str], catalog: Catalog) -> Mapping[str, str]:
    """NAME=ID texts by name. Raises InputError for a name that the file or the catalog has not."""
    found = {}
    for argument in arguments:
        name, equals, wanted = argument.partition("=")
        place = Place(f"{option} {argument}")
        if not equals or not wanted:
            raise InputError(Mistake(f"{argument} says nothing", place, attempt=f"{option} NAME=ID"))
        if name not in names:
            raise InputError(Mistake(f"the file has no {name}", place, f"it has {some_of(sorted(names))}"))
        found[name] = str(catalog.find(kind, wanted, place).id)
    return found


def _in_region(file: VmFile, region: str | None) -> list[VmRow]:
    regions = sorted({row.region for row in file.rows})
    if region is not None and region not in regions:
        because = f"it has {some_of(regions)}"
        raise InputError(Mistake(f"{file.name} has no region {region}", Place("--region"), because))
    return [row for row in file.rows if region is None or row.region == region]


def _known(provider: str, instance: str, gpus: int, catalog: Catalog) -> Price | None:
    """The catalog's own price of that instance, by the hour."""
    for name in catalog.ids("prices"):
        price: Price = catalog.find("prices", name)
        by_the_hour = (price.on_demand_usd_per_gpu_hour, price.spot_usd_per_gpu_hour) != (None, None)
        same = (price.provider, price.instance.lower(), price.gpus_per_instance) == (provider, instance.lower(), gpus)
        if same and by_the_hour:
            return price
    return None


@dataclass(frozen=True)
class _Unclear:
    """Why it is not known which GPU is meant."""

    why: str


def _gpu(rows: Sequence[VmRow], catalog: Catalog) -> str | _Unclear:
    """The GPU of the catalog that a name means, by its form where it comes in several."""
    row = rows[0]
    name = SIZES.get(row.accelerator, row.accelerator)
    forms = {form.lower() for form in FORM.findall(f"{row.instance} {name} {row.gpu_name}")}
    bare = re.sub(rf"[-_ ]*(?:{FORM.pattern})[0-9]*", "", name, flags=re.IGNORECASE)
    ids = meant(bare, dict.fromkeys(catalog.ids("gpus"), ()), parts=True)
    if not ids:
        try:
            catalog.find("gpus", row.accelerator)
        except InputError as error:
            (problem,) = error.problems
            return _Unclear(f"{problem.what}" + (f"; {problem.attempt}" if "mean" in (problem.attempt or "") else ""))
    formed = [each for each in ids if FORM.search(each)]
    if forms and formed:
        ids = [each for each in formed if set(FORM.findall(each)) & forms] if len(forms) == 1 else ids
    if len(ids) == 1:
        return ids[0]
    what = f"{row.accelerator} may be {' or '.join(ids)}" if ids else f"no GPU of the catalog is a {row.accelerator}"
    what += "" if ids else f" {' '.join(sorted(forms)).upper()}"
    return _Unclear(f"{what}; say which: --gpu {row.accelerator}={ids[0] if ids else 'ID'}")


def _id(provider: str, instance: str) -> str:
    return "-".join(re.findall("[a-z0-9]+", f"{provider} {instance}".lower()))


def _price(name: str, provider: str, rows: Sequence[VmRow], gpu: str, node: str | None, source: Source) -> Price:
    """The entry of one instance type."""
    gpus = rows[0].gpus
    by_region: dict[str, float] = {}
    for row in rows:
        if row.usd is not None:
            by_region[row.region] = min(row.usd, by_region.get(row.region, row.usd))
    region = min(by_region, key=lambda each: (by_region[each], each)) if by_region else None
    others = [usd / gpus for each, usd in by_region.items() if each != region]
    notes = []
    if others:
        middle, most = statistics.median(others), max(others)
        several = f"{len(others)} other regions" if len(others) > 1 else "1 other region"
        notes.append(f"{several}: median {middle:.4g}, at most {most:.4g} a GPU-hour.")
    spots = sorted(row.spot_usd / gpus for row in rows if row.spot_usd is not None)
    if spots:
        below = sum(1 for row in rows if row.spot_usd is not None and row.usd is not None and row.spot_usd < row.usd)
        notes.append(f"Spot is the median of {len(spots)} rows in all regions, lowest {spots[0]:.4g}; {below} of them ")
        notes[-1] += "are below on demand."
    if not by_region:
        notes.append("No price on demand.")
    return Price(
        id=name,
        provider=provider,
        instance=visible(rows[0].instance),
        node=node,
        gpu=gpu,
        gpus_per_instance=gpus,
        on_demand_usd_per_gpu_hour=None if region is None else round(by_region[region] / gpus, 4),
        spot_usd_per_gpu_hour=round(statistics.median(spots), 4) if spots else None,
        region=visible(region if region is not None else min(row.region for row in rows)),
        notes=" ".join(notes) or None,
        sources=[source],
    )


def _kinds(skipped: Sequence[SkippedRow]) -> tuple[SkippedKind, ...]:
    by_reason: dict[str, list[SkippedRow]] = defaultdict(list)
    for row in skipped:
        by_reason[row.why].append(row)
    kinds = [
        SkippedKind(why, len(rows), min(row.line for row in rows), tuple(sorted({r.name for r in rows if r.name})))
        for why, rows in by_reason.items()
    ]
    return tuple(sorted(kinds, key=lambda kind: (-kind.rows, kind.line)))


def _text(price: Price) -> str:
    """The file of an entry; texts are quoted as JSON, which YAML reads."""
    rents = [f"{price.on_demand_usd_per_gpu_hour:g} USD on demand"] if price.on_demand_usd_per_gpu_hour else []
    rents += [f"{price.spot_usd_per_gpu_hour:g} spot"] if price.spot_usd_per_gpu_hour else []
    head = f"{price.provider} {price.instance}, {price.gpus_per_instance}x {price.gpu}: {', '.join(rents)}, a GPU-hour."
    data = price.model_dump(mode="json", exclude_none=True)
    (source,) = data.pop("sources")
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.items()]
    of = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in source.items())
    return "\n".join([f"# {head}", *lines, "sources:", f"  - {{{of}}}", ""])
