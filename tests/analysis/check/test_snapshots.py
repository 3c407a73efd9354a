"""Snapshots of whole training steps, recorded with the owner of every block: each byte lands on the right item.

Recorded by validation/snapshots/record.py: real networks of the catalog, torch's own operations on fake tensors.
"""

from __future__ import annotations

import gzip
import json
import pickle
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from planner.analysis.check.check import OUTSIDE, check
from planner.analysis.check.grouping import grouped
from planner.costs.item_names import ItemName
from planner.errors import InputError
from planner.inputs.document import load, override
from planner.inputs.snapshot import Allocation, Snapshot, read_snapshot, snapshot_of
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.units import GIB

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "fixtures" / "snapshots"
NAMES = sorted(path.name.removesuffix(".pickle.gz") for path in FOLDER.glob("*.pickle.gz"))


@cache
def plain(name: str) -> Any:
    return pickle.loads(gzip.decompress((FOLDER / f"{name}.pickle.gz").read_bytes()))


@cache
def truth(name: str) -> Any:
    return json.loads(gzip.decompress((FOLDER / f"{name}.owners.json.gz").read_bytes()))


@cache
def planned(name: str, micro_batch: int | None = None) -> Plan:
    step = truth(name)["step"]
    changes = {
        "engine": "transformers",
        "model": step["model"],
        "cluster.node": "dgx-h200",
        "cluster.num_gpus": 1,
        "limits.headroom_gib": 0,
        "layout.zero_stage": 0,
        "precision": "bf16",
        "engine_options": ["autocast"] if step["precision"] == "autocast" else [],
        "batch.global_batch_size": micro_batch or step["micro_batch"],
        "batch.micro_batch_size": micro_batch or step["micro_batch"],
        "batch.sequence_length": step["tokens"],
        "layout.recomputed_layers": "all" if step["checkpoint"] else 0,
    }
    return estimate(override(load(str(ROOT / "scenarios" / "llama8b_sft_a100.yaml")), changes))


def without_stacks(name: str) -> Any:
    found = plain(name)
    segments = [{**s, "blocks": [{**b, "frames": []} for b in s["blocks"]]} for s in found["segments"]]
    return {**found, "segments": segments, "device_traces": [[{**e, "frames": []} for e in found["device_traces"][0]]]}


def misplaced(snapshot: Snapshot, name: str) -> float:
    """Share of the bytes that lie on another item than the one they belong to, or on none."""
    owners = {int(address, 16): ItemName(item) for address, item in truth(name)["owners"]}
    own = Counter[ItemName]()
    for each in snapshot.peak:
        own[owners[each.address]] += each.size
    ours = grouped(snapshot, planned(name), 0).bytes
    right = sum(min(own[item], ours.get(item, 0)) for item in own)
    return 1 - right / snapshot.peak_bytes


@pytest.mark.parametrize("name", NAMES)
def test_the_fullest_moment_is_found(name: str) -> None:
    snapshot = snapshot_of(plain(name), name)
    assert snapshot.peak_bytes == truth(name)["peak_bytes"]
    assert len(snapshot.peak) == len(truth(name)["owners"])
    assert snapshot.reserved_bytes >= snapshot.peak_bytes
    assert max(gib for _, gib in snapshot.timeline) == pytest.approx(snapshot.peak_bytes / GIB)


@pytest.mark.parametrize("name", NAMES)
def test_at_least_95_percent_of_the_bytes_land_on_their_own_item(name: str) -> None:
    snapshot = snapshot_of(plain(name), name)
    assert grouped(snapshot, planned(name), 0).explained_share >= 0.95
    assert misplaced(snapshot, name) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_life_and_size_are_enough_where_no_stacks_were_recorded(name: str) -> None:
    assert misplaced(snapshot_of(without_stacks(name), name), name) < 0.05


def test_a_tables_gradient_is_not_taken_for_logits_of_as_many_tokens() -> None:
    """Found on Qwen3-1.7B: what was made before it, all gradients of layers, was taken for activations."""
    plan = planned("qwen3-0.6b-autocast")
    a = plan.problem.architecture
    matrix, table = a.hidden_size * a.intermediate_size * 4, a.hidden_size * a.vocab_size * 4
    passing = [
        Allocation(1 << 20, matrix, (), 10, 100),
        Allocation(1 << 30, table, (), 50, 100),
        Allocation(1 << 32, table, ("torch/optim/adamw.py:step",), 60, 70),
    ]
    total = sum(each.size for each in passing)
    found = grouped(Snapshot("x", 0, tuple(passing), total, 65, 100, total, None, ((65, total / GIB),)), plan, 0)
    assert found.bytes == {ItemName.GRADIENTS: matrix + table, ItemName.OPTIMIZER_TEMPORARIES: table}


def test_without_events_sizes_alone_tell_state_from_the_rest() -> None:
    """A snapshot at the end of the step holds weights and optimizer state."""
    name = NAMES[1]
    snapshot = snapshot_of({**without_stacks(name), "device_traces": []}, name)
    found = grouped(snapshot, planned(name), 0)
    assert snapshot.events == 0
    assert found.explained_share > 0.99
    state = {row.name: row.amount for row in planned(name).memory[0].items}
    for item in (ItemName.WEIGHTS, ItemName.OPTIMIZER):
        assert found.bytes[item] / GIB == pytest.approx(state[item], rel=0.01)


def test_what_no_item_wants_is_unexplained() -> None:
    """A second copy of the weights lies on the card."""
    name = NAMES[1]
    end = {**without_stacks(name), "device_traces": []}
    last = max(s["address"] + s["total_size"] for s in end["segments"])
    block = {"size": 3 << 30, "requested_size": 3 << 30, "state": "active_allocated", "frames": []}
    extra = {"device": 0, "address": last, "total_size": 3 << 30, "blocks": [{**block, "address": last}]}
    found = grouped(snapshot_of({**end, "segments": [*end["segments"], extra]}, name), planned(name), 0)
    assert found.explained_share < 0.8
    assert found.unexplained[0][0] == 3 << 30


@pytest.mark.parametrize("name", NAMES)
def test_item_by_item_against_the_ledger(name: str, tmp_path: Path) -> None:
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(gzip.decompress((FOLDER / f"{name}.pickle.gz").read_bytes()))
    checked = check(planned(name), [str(path)])
    (held,) = checked.held
    assert held.ledger.phase == "loss"
    rows = {row.name: row for row in held.rows}
    assert rows["weights"].measured_gib == pytest.approx(rows["weights"].predicted_gib, rel=0.01)
    assert rows["optimizer"].measured_gib == pytest.approx(rows["optimizer"].predicted_gib, rel=0.01)
    assert not set(rows) & set(OUTSIDE)
    assert held.unexplained_gib < 0.01
    assert sum(row.measured_gib for row in held.rows) + held.unexplained_gib == pytest.approx(
        held.snapshot.peak_bytes / GIB
    )
    assert [q.name for q in checked.quantities] == ["allocated memory", "reserved memory"]


def _shared() -> list[Any]:
    """A list that would be endless written out."""
    inner: list[Any] = []
    for _ in range(80):
        inner = [inner, inner]
    return inner


BROKEN = {
    "no dict": [],
    "no segments": {"segments": []},
    "segments of text": {"segments": ["a"]},
    "a size of text": {"segments": [{"device": 0, "address": 1, "total_size": "a", "blocks": []}]},
    "a negative size": {"segments": [{"device": 0, "address": 1, "total_size": -1, "blocks": []}]},
    "a size that holds itself over and over": {
        "segments": [{"device": 0, "address": 1, "total_size": _shared(), "blocks": []}]
    },
    "blocks of nothing": {"segments": [{"device": 0, "address": 1, "total_size": 1, "blocks": None}]},
    "events of text": {
        "segments": [{"device": 0, "address": 1, "total_size": 1, "blocks": []}],
        "device_traces": [["a"]],
    },
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_other_data_is_said_to_be_no_snapshot(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps(data))
    with pytest.raises(InputError, match="no memory snapshot") as caught:
        read_snapshot(path)
    assert ("x.pickle  segments" in str(caught.value)) or data == [] or "  device_traces[0][0]\n" in str(caught.value)
