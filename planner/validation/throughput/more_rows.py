"""Published speeds whose configurations were read: LoRA, AMD's GPUs, one GPU by torchtune, networks of dgxc that no
other row of it has, and the sweep of layouts from which BLOOM's was chosen.

No constant and no mechanism was chosen with these rows in view.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import read_document
from planner.report.json_text import JsonObject

ROWS = ("throughput_more.csv", "throughput_sharded.csv")
NETWORKS = "networks.yaml"
"""Shapes by name of networks that neither the catalog nor another row has."""
READ = "configuration_read"
"""Tag of a row whose layout, recomputation and switches are those of the configuration it names."""
_OF_THE_NETWORK = (
    *("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "vocab_size", "tie_word_embeddings", "gated_mlp", "hidden_act", "norm"),
    *("num_experts", "num_experts_per_tok", "moe_intermediate_size", "first_k_dense_replace"),
)


def more_rows(folder: Path, networks: Mapping[str, JsonObject]) -> list[JsonObject]:
    """The rows of a data folder in the shape of the others; none where it has no such files.

    `networks` holds shapes by name, of other rows, for what the catalog lacks.
    """
    own, out = folder / NETWORKS, []
    networks = {**networks, **(read_document(str(own)).data if own.is_file() else {})}
    for path in (folder / name for name in ROWS):
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as stream:
                cells = list(csv.DictReader(stream))
            out += [_row(c, _network(c["model"], networks, default_catalog())) for c in cells]
    return out


def _network(name: str, networks: Mapping[str, JsonObject], catalog: Catalog) -> JsonObject:
    """The shape of a network: the catalog's, else that of another row."""
    if name not in catalog.ids("models"):
        return dict(networks[name])
    known = catalog.find("models", name)
    return {field: getattr(known, field) for field in _OF_THE_NETWORK}


def _row(c: dict[str, str], network: JsonObject) -> JsonObject:
    degrees = {name: int(c[name]) for name in ("tp", "pp", "vpp", "cp", "ep")}
    layers, num_gpus = int(c["recomputed_layers"]), int(c["num_gpus"])
    return {
        "id": c["id"],
        "source": c["source"],
        "model": c["model"],
        "kind": "moe" if network.get("num_experts") else "dense",
        "arch": network,
        "engine": c["engine"],
        "engine_detail": {"notes": c["note"], "options": c["options"].split()},
        "gpu": c["gpu"],
        "num_gpus": num_gpus,
        "layout": degrees
        | {
            "dp": num_gpus // (degrees["tp"] * degrees["pp"] * degrees["cp"]),
            "zero_stage": int(c["zero_stage"]) if c["zero_stage"] else None,
            "fsdp": None,
            "offload": {"optimizer": True} if c.get("optimizer_offload") else None,
        },
        "micro_batch_size": int(c["micro_batch_size"]),
        "global_batch_size": int(c["global_batch_size"]),
        "grad_accum": None,
        "sequence_length": int(c["sequence_length"]),
        "precision": c["precision"],
        "precision_detail": c["precision"],
        "grads_fp32": None,
        "optimizer": None,
        "recompute": {"granularity": "full" if layers else "none", "method": "block", "num_layers": layers},
        "sequence_parallel": degrees["tp"] > 1 and _cuts_sequences(c["engine"]),
        "flash_attention": None,
        "peft": ("qlora" if c["lora_base"] == "nf4" else "lora") if c["lora_rank"] else None,
        "lora": _adapter(c) if c["lora_rank"] else None,
        "task": "sft" if c["lora_rank"] else "pretrain",
        "metric": {"tokens_per_s_per_gpu": float(c["tokens_per_s_per_gpu"]), "score": True, "full_layout": True},
        "outcome": "value",
        "tags": [READ],
        "inferred": [],
        "missing": [],
    }


def _cuts_sequences(engine: str) -> bool:
    """Whether tensor parallelism of an engine can cut norms and residuals along the sequence."""
    catalog = default_catalog()
    return engine not in catalog.ids("engines") or catalog.find("engines", engine).sequence_parallel != "never"


def _adapter(c: dict[str, str]) -> JsonObject:
    return {"rank": int(c["lora_rank"]), "targets": c["lora_targets"], "base_quant": c["lora_base"] or None}
