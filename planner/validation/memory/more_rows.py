"""Rows of 22 and 23 November 2026, committed before any was costed: tables in the words of the planner."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import read_document
from planner.validation.memory.cases import Case, Words

ROWS = {
    "memory_more.csv": 3,
    "memory_aside.csv": 4,
    "memory_fresh.csv": 5,
    "memory_next.csv": 6,
    "memory_thin.csv": 7,
}
"""Tables and the development that their rows are of."""
NETWORKS = "networks.yaml"
NO_SEQUENCE_PARALLEL = "no_sequence_parallel"
"""Word of a row's options: tensor parallelism that leaves norms and residuals whole, where an engine has the choice."""
NO_DROPOUT = "no_dropout"
"""Word of a row's options: a run that switches off what the other runs of its source leave at Megatron's 0.1."""
_OF_THE_ROW = (NO_SEQUENCE_PARALLEL, NO_DROPOUT)
"""Words that are no options of an engine file."""
_STACKS = {
    "megatron-core": "megatron-core",
    "fsdp1": "fsdp1",
    "transformers": "hf-single",
    "torchtitan": "torchtitan",
    "deepspeed": "deepspeed",
}
"""What other rows call the stack of an engine file; elsewhere the file's own id."""
_OF_THE_NETWORK = (
    *("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "num_experts", "gated_mlp"),
)


def more_rows(folder: Path) -> tuple[Case, ...]:
    """The rows of a data folder; none where it has no such files."""
    own = folder / NETWORKS
    networks = read_document(str(own)).data if own.is_file() else {}
    catalog = default_catalog()
    out: list[Case] = []
    for name, development in ROWS.items():
        path = folder / name
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as stream:
                out += (_case(row, development, networks, catalog) for row in csv.DictReader(stream))
    return tuple(out)


def _network(name: str, networks: Mapping[str, Words], catalog: Catalog) -> Words:
    """The shape of a network: the catalog's own entry, or the one beside the rows."""
    if name in catalog.ids("models"):
        known = catalog.find("models", name)
        return {field: getattr(known, field) for field in _OF_THE_NETWORK} | {"catalog": name}
    return dict(networks[name])


def _case(row: dict[str, str], development: int, networks: Mapping[str, Words], catalog: Catalog) -> Case:
    network = _network(row["model"], networks, catalog)
    degrees = {name: int(row[name]) for name in ("tp", "pp", "vpp", "cp", "ep")}
    num_gpus, modules = int(row["num_gpus"]), row["recompute"].split()
    whole = modules in (["full"], ["none"])
    options = row["options"].split()
    cut = NO_SEQUENCE_PARALLEL not in options
    adapter = dict(pair.split("=", 1) for pair in row["adapter"].split())
    flags = [f"engine={row['engine']}", f"optimizer={row['optimizer']}"]
    if NO_DROPOUT in options:
        flags += ["hid-dropout=0.0", "attn-dropout=0.0"]
    known: Words = {
        "id": row["id"],
        "source": row["source"],
        "model": row["model"],
        "kind": "moe" if network.get("num_experts") else "dense",
        "engine": _STACKS.get(row["engine"], row["engine"]),
        "framework": row["version"],
        "flags": tuple(flags + [f"option={name}" for name in options if name not in _OF_THE_ROW]),
        "notes": row["note"],
        "version_date": row["date"],
        "gpu": row["gpu"],
        "num_gpus": num_gpus,
        "arch": network,
        "layout": degrees
        | {
            "etp": int(row["etp"]) if row["etp"] else None,
            "dp": num_gpus // (degrees["tp"] * degrees["pp"] * degrees["cp"]),
            "zero_stage": int(row["zero_stage"]),
            "offload": {"optimizer": True} if row["optimizer_offload"] else None,
            "layers_per_stage": tuple(map(int, row["stages"].split())) or None,
        },
        "micro_batch_size": int(row["micro_batch_size"]),
        "global_batch_size": int(row["global_batch_size"]),
        "grad_accum": None,
        "sequence_length": int(row["sequence_length"]),
        "precision": row["precision"],
        "optimizer": row["optimizer"],
        "recompute": {
            "granularity": modules[0] if whole else "selective",
            "modules": None if whole else modules,
            "every": None,
            "detail": row["recompute"],
        },
        "sequence_parallel": cut and degrees["tp"] > 1 and _cuts_sequences(row["engine"], catalog),
        "flash_attention": True,
        "peft": ("qlora" if adapter.get("base") == "nf4" else "lora") if adapter else None,
        "lora": _adapter(adapter) if adapter else None,
        "metric": row["metric"],
        "rank_scope": row["rank"],
        "scope_detail": row["rank"],
        "memory_gib": float(row["memory_gib"]) if row["memory_gib"] else None,
        "outcome": "value" if row["memory_gib"] else "oom",
        "development": development,
        "doubtful": row["doubtful"] or None,
    }
    values: Words = {field.name: known.get(field.name, _EMPTY.get(field.name)) for field in fields(Case)}
    return Case(**values)


_EMPTY: Words = {
    **dict.fromkeys(("precision_detail", "task", "group"), ""),
    "unit_certain": True,
    "tags": frozenset(),
    "missing": (),
    "inferred": (),
}


def _adapter(words: Mapping[str, str]) -> Words:
    return {
        "rank": int(words["rank"]),
        "targets": words["targets"].replace(",", " "),
        "concurrent": int(words.get("concurrent", 1)),
        "detail": f"dropout {words['dropout']}" if "dropout" in words else "",
        "base_precision": words.get("base"),
    }


def _cuts_sequences(engine: str, catalog: Catalog) -> bool:
    """Whether tensor parallelism of an engine can cut norms and residuals along the sequence."""
    return bool(catalog.find("engines", engine).sequence_parallel != "never")
