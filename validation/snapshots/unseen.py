"""Snapshots of networks and steps that the reader's rules were not written on: how many bytes land on their own item.

    PYTHONPATH=.:validation/autograd:validation/snapshots python validation/snapshots/unseen.py [TEXT]

Needs the extra `autograd` and peft; about 15 CPU seconds a row, with TEXT those rows alone that hold it. Recorded as
`record.py` records, kept nowhere. Prints of the fullest moment the share of bytes on any item, and the share on another
item than their own or on none; then items that differ.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from record import record
from steps import ATTENTION, Step, _attention, prepare
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from planner.analysis.check.grouping import grouped
from planner.inputs.document import load, override
from planner.inputs.snapshot import snapshot_of
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.units import GIB

SCENARIO = Path(__file__).resolve().parents[2] / "scenarios" / "llama8b_sft_a100.yaml"
ROWS = (
    Step("olmo2-1b", "bf16", False, 1, 2048),
    Step("llama3.2-1b", "bf16", True, 1, 4096, adapter="bf16"),
    Step("gemma2-2b", "bf16", True, 1, 4096),
    Step("qwen3-1.7b", "autocast", True, 1, 4096),
    Step("qwen3-30b-a3b", "bf16", True, 1, 1024),
)


def planned(step: Step) -> Plan:
    """The plan of a recorded step."""
    changes = {
        "engine": "transformers",
        "model": step.model,
        "cluster.node": "dgx-h200",
        "cluster.num_gpus": 1,
        "limits.headroom_gib": 0,
        "layout.zero_stage": 0,
        "precision": "bf16",
        "engine_options": ["autocast"] if step.precision == "autocast" else [],
        "batch.global_batch_size": step.micro_batch,
        "batch.micro_batch_size": step.micro_batch,
        "batch.sequence_length": step.tokens,
        "layout.recomputed_layers": "all" if step.checkpoint else 0,
    }
    if step.adapter:
        changes |= {"adapter.rank": 16, "adapter.targets": ["all-linear"], "adapter.base_precision": "bf16"}
    return estimate(override(load(str(SCENARIO)), changes))


def main() -> None:
    """Record and group every row."""
    prepare()
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
    for step in ROWS:
        if len(sys.argv) > 1 and sys.argv[1] not in str(step):
            continue
        taken, truth = record(step, True)
        snapshot = snapshot_of(taken, step.model)
        owners = {int(address, 16): item for address, item in truth["owners"]}
        own = Counter[str]()
        for each in snapshot.peak:
            own[owners[each.address]] += each.size
        found = grouped(snapshot, planned(step), 0)
        right = sum(min(size, found.bytes.get(item, 0)) for item, size in own.items())  # type: ignore[call-overload]
        wrong = 1 - right / snapshot.peak_bytes
        print(f"{step}: {snapshot.peak_bytes / GIB:.2f} GiB")
        print(f"    {found.explained_share:.2%} on an item, {wrong:.2%} on a wrong one or none")
        for item in sorted({*own, *found.bytes}, key=lambda name: -own[name]):
            mine = found.bytes.get(item, 0)  # type: ignore[call-overload]
            if abs(own[item] - mine) > 0.002 * snapshot.peak_bytes:
                print(f"    {item}: {own[item] / GIB:.3f} GiB, taken for {mine / GIB:.3f}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
