"""Everything that can be wrong with a catalog, found in one pass over all its files."""

from __future__ import annotations

import re

from planner.errors import InputError, Mistake
from planner.formulas.parameters import count_parameters
from planner.inputs.catalog import KINDS, Catalog, has_schema

_COMPUTE_KEYS = frozenset(("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp4"))
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2})?\Z")


def is_dated(date: str) -> bool:
    """YYYY-MM or YYYY-MM-DD."""
    return _DATE.match(date) is not None


def check_catalog(catalog: Catalog) -> list[Mistake]:
    """Files that do not parse, ids that differ from the file name, undated sources, dangling names, wrong counts."""
    problems: list[Mistake] = []
    for kind in KINDS:
        if not has_schema(kind):
            continue
        for name in catalog.ids(kind):
            try:
                entry = catalog.find(kind, name)
            except InputError as error:
                problems += error.problems
                continue
            document = catalog.document(kind, name)
            for number, source in enumerate(entry.sources):
                if not is_dated(source.date):
                    place = document.place(("sources", number, "date"))
                    problems.append(Mistake(f"source date {source.date!r} is not YYYY-MM-DD or YYYY-MM", place))
            problems += _references(catalog, kind, name) + _own_rules(catalog, kind, name)
    return problems


def _references(catalog: Catalog, kind: str, name: str) -> list[Mistake]:
    """Names of other entries that do not exist."""
    targets = {"nodes": {"gpu": "gpus"}, "prices": {"gpu": "gpus", "node": "nodes"}, "gpus": {"gemm_grid_from": "gpus"}}
    entry, document = catalog.find(kind, name), catalog.document(kind, name)
    problems: list[Mistake] = []
    for key, target in targets.get(kind, {}).items():
        wanted = getattr(entry, key)
        if wanted is not None and wanted not in catalog.ids(target):
            problems.append(Mistake(f"{key} `{wanted}` is no entry of {target}/", document.place((key,))))
    return problems


def _own_rules(catalog: Catalog, kind: str, name: str) -> list[Mistake]:
    """Rules of one kind."""
    entry, document = catalog.find(kind, name), catalog.document(kind, name)
    problems: list[Mistake] = []

    def wrong(what: str, *path: str) -> None:
        problems.append(Mistake(what, document.place(path)))

    if kind == "models" and entry.parameters is not None:
        counted, published = count_parameters(entry), entry.parameters
        if counted.total != published.total:
            wrong(f"counted {counted.total:,} parameters, published {published.total:,}", "parameters", "total")
        if published.active_per_token not in (None, counted.active_per_token):
            text = f"counted {counted.active_per_token:,} active parameters, published {published.active_per_token:,}"
            wrong(text, "parameters", "active_per_token")
    elif kind == "gpus":
        if (entry.gemm_grid is None) == (entry.gemm_grid_from is None):
            wrong("a GPU has either its own gemm_grid or a gemm_grid_from", "id")
        elif (
            entry.gemm_grid_from in catalog.ids("gpus") and catalog.find("gpus", entry.gemm_grid_from).gemm_grid is None
        ):
            wrong(f"gemm_grid_from `{entry.gemm_grid_from}` has no grid of its own", "gemm_grid_from")
        if unknown := entry.dense_tflops.keys() - _COMPUTE_KEYS:
            wrong(f"dense_tflops has unknown precisions: {', '.join(sorted(unknown))}", "dense_tflops")
    elif kind == "rollouts" and (unknown := set(entry.precisions) - set(catalog.ids("precisions"))):
        wrong(f"precisions/ has no entries {', '.join(sorted(unknown))}", "precisions")
    elif kind == "precisions" and entry.compute not in _COMPUTE_KEYS:
        wrong(f"compute `{entry.compute}` is no key of dense_tflops", "compute")
    elif kind == "prices":
        if entry.node in catalog.ids("nodes") and catalog.find("nodes", entry.node).gpu != entry.gpu:
            wrong(f"node `{entry.node}` has {catalog.find('nodes', entry.node).gpu}, the offer {entry.gpu}", "node")
        rates = (entry.on_demand_usd_per_gpu_hour, entry.spot_usd_per_gpu_hour, entry.reserved_usd_per_gpu_hour)
        if all(rate is None for rate in rates):
            wrong("the offer names no price", "id")
    return problems
