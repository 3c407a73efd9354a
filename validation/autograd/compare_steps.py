"""Our peak of each training step in steps.json beside the one torch's operations make.

    python validation/autograd/compare_steps.py

Needs no torch. Ours is the ledger without allocator reserve and CUDA context, which a count of live storages cannot
see. Training is the larger of forward and backward.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, override
from planner.search.estimate import estimate
from planner.validation.published import Overlay

ROOT = Path(__file__).resolve().parents[2]
RESULTS = json.loads(Path(__file__).with_name("steps.json").read_text(encoding="utf-8"))
UNSEEN = ("allocator reserve", "CUDA context")
SCENARIO: dict[str, Any] = {
    "engine": "transformers",
    "cluster.node": "dgx-h200",
    "cluster.num_gpus": 1,
    "cluster.usable_gib": 4000,
    "limits.headroom_gib": 0,
    "layout.zero_stage": 0,
}


@dataclass(frozen=True)
class Compared:
    """One row: what was counted and what we say. [bytes]"""

    row: dict[str, Any]
    training: float
    """Our larger of backward and loss phase."""
    optimizer: float
    """Our update phase."""

    @property
    def kind(self) -> str:
        """Class in which errors are summed up."""
        words = [self.row["precision"]]
        words += [f"{self.row['adapter']} adapters"] if self.row["adapter"] else []
        words += ["checkpointing"] if self.row["checkpoint"] else []
        words += ["fused AdamW"] if self.row["adamw"] == "fused" else []
        words += ["outputs held"] if self.row["outputs_held"] else []
        words += ["own loss"] if self.row["own_loss"] else []
        words += ["second micro-batch"] if self.row["accumulated"] else []
        return ", ".join(words)

    @property
    def counted(self) -> float:
        """Peak of forward and backward together."""
        return float(max(self.row["forward"], self.row["backward"]))

    @property
    def peak_error(self) -> float:
        """Of the whole step."""
        whole = max(self.counted, float(self.row["optimizer"]))
        return max(self.training, self.optimizer) / whole - 1

    @property
    def training_error(self) -> float:
        """Of forward and backward, whatever the update takes."""
        return self.training / self.counted - 1

    @property
    def update_error(self) -> float:
        """Of the optimizer's step."""
        return self.optimizer / float(self.row["optimizer"]) - 1


def scenario(row: dict[str, Any], model: str) -> dict[str, Any]:
    """The overrides that say this step in the planner's words."""
    changes = dict(SCENARIO, model=model)
    changes |= {
        "batch.global_batch_size": row["micro_batch"] * (2 if row["accumulated"] else 1),
        "batch.micro_batch_size": row["micro_batch"],
        "batch.sequence_length": row["tokens"],
        "layout.recomputed_layers": "all" if row["checkpoint"] else 0,
        "precision": "fp32" if row["precision"] == "fp32" else "bf16",
        "optimizer": "adamw-foreach" if row["adamw"] == "foreach" else "adamw",
        "engine_options": ["autocast"] if row["precision"] == "autocast" else [],
    }
    changes["engine_options"] += ["outputs_held"] if row["outputs_held"] else []
    changes["engine_options"] += ["loss_as_computed"] if row["own_loss"] else []
    if row["adapter"]:
        base = "bf16" if row["precision"] == "bf16" else "fp32"
        changes["engine_options"] += ["adapters_as_computed"] if row["adapter"] == "bf16" else []
        changes["adapter"] = {"rank": RESULTS["adapter_rank"], "base_precision": base}
    return changes


def network(row: dict[str, Any], catalog: Overlay) -> str:
    """Id of the row's network, cut to its layers, all of one kind, where the row says how many."""
    name, layers = row["model"], row["layers"]
    if not layers:
        return str(name)
    cut = {"id": f"{name}-{layers}", "num_hidden_layers": layers, "num_nextn_predict_layers": 0}
    whole = catalog.find("models", name)
    catalog.extra["models", cut["id"]] = whole.model_copy(update=cut | {"first_k_dense_replace": 0})
    return str(cut["id"])


def compared(row: dict[str, Any], catalog: Overlay) -> Compared:
    """Cost the step; phases that training passes before the update, and the update."""
    changes = scenario(row, network(row, catalog))
    plan = estimate(override(load(str(ROOT / "scenarios" / "llama8b_sft_a100.yaml")), changes), catalog)
    totals: dict[str, float] = {}
    for phase in plan.memory:
        kept = sum(item.amount * 2**30 for item in phase.items if item.name not in UNSEEN)
        totals[phase.phase] = max(totals.get(phase.phase, 0.0), kept)
    training = max(value for phase, value in totals.items() if phase != "optimizer")
    return Compared(row, training, totals["optimizer"])


def rows() -> Iterator[Compared]:
    """All rows that were counted."""
    catalog = Overlay(default_catalog())
    for row in RESULTS["rows"]:
        yield compared(row, catalog)


def _spread(errors: list[float]) -> str:
    return " | ".join(f"{value:+.2%}" for value in (median(errors), min(errors), max(errors)))


def tables(found: list[Compared]) -> str:
    """A table of classes and one of rows, as markdown. GiB are 2^30 bytes."""
    lines = ["| class | rows | training | smallest | largest | update | smallest | largest |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for kind in dict.fromkeys(each.kind for each in found):
        chosen = [each for each in found if each.kind == kind]
        cells = [_spread([each.training_error for each in chosen]), _spread([each.update_error for each in chosen])]
        lines.append(f"| {kind} | {len(chosen)} | {' | '.join(cells)} |")
    lines += ["", "| model | class | batch x tokens | training, ours | counted | update, ours | counted | training |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for each in found:
        row, gib = each.row, 2**30
        figures = (each.training, each.counted, each.optimizer, row["optimizer"])
        cells = " | ".join(f"{value / gib:.3f}" for value in figures)
        batch = f"{row['micro_batch']} x {row['tokens']:,}"
        lines.append(f"| {row['model']} | {each.kind} | {batch} | {cells} | {each.training_error:+.2%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables(list(rows())))
