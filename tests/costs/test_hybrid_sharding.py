"""State sharded inside nodes and replicated over them: more memory, less gathered between nodes, one reduction more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.analysis.option_gains import option_gains
from planner.costs.item_names import ItemName
from planner.costs.time.layer import LayerTime
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, parse_document
from planner.launch import accelerate, axolotl
from planner.launch.torchtitan import fragment
from planner.problem.copies import copies_of
from planner.problem.layouts import Floats, Ints
from planner.problem.resolve import question_of
from planner.schema.catalog import Collective
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.search.search import plan
from planner.search.space import build_space
from planner.search.witness.witness import broken

SCENARIO = """
name: hybrid
task: pretrain
model: llama3-8b
engine: torchtitan
cluster: {node: aws-p4d, num_gpus: 32}
batch: {global_batch_size: 32, sequence_length: 2048, micro_batch_size: 1}
layout: {tensor_parallel: 1, pipeline_parallel: 1, context_parallel: 1, recomputed_layers: all}
"""


def asked(**changes: object) -> Document:
    document = parse_document(SCENARIO, "hybrid.yaml")
    return replace(document, data={**document.data, **changes})


def estimated(**changes: object) -> Plan:
    return estimate(asked(**changes))


BATCH = {"sequence_length": 2048, "micro_batch_size": 1}


def gathers(found: Plan) -> float:
    """[s]"""
    return sum(entry.amount for entry in found.time if entry.name == ItemName.GATHERING_SHARDED_WEIGHTS)


def gib(found: Plan, name: ItemName) -> float:
    moment = next(phase for phase in found.memory if phase.phase == "optimizer")
    return next(item.amount for item in moment.items if item.name == name)


def test_state_is_that_of_one_node() -> None:
    """Four nodes of eight: each keeps all state between its own eight."""
    whole, hybrid = estimated(), estimated(engine_options=["hybrid_sharding"])
    alone = estimated(cluster={"node": "aws-p4d", "num_gpus": 8})
    for name in (ItemName.WEIGHTS, ItemName.OPTIMIZER):
        assert gib(hybrid, name) == pytest.approx(4 * gib(whole, name))
        assert gib(hybrid, name) == pytest.approx(gib(alone, name))
    assert copies_of(hybrid.problem, hybrid.layout) == 4
    assert copies_of(whole.problem, whole.layout) == 1
    assert broken(hybrid.problem, hybrid.layout, hybrid.layers, hybrid.recomputed) == ()


@pytest.mark.parametrize("engine", ["fsdp1", "fsdp2"])
def test_the_same_holds_of_torch_sharding_elsewhere(engine: str) -> None:
    whole, hybrid = (estimated(engine=engine, engine_options=on) for on in ([], ["hybrid_sharding"]))
    assert gib(hybrid, ItemName.OPTIMIZER) == pytest.approx(4 * gib(whole, ItemName.OPTIMIZER))
    assert copies_of(hybrid.problem, hybrid.layout) == 4
    assert broken(hybrid.problem, hybrid.layout, hybrid.layers, hybrid.recomputed) == ()


def test_each_launcher_says_how_many_copies() -> None:
    outcome = plan(asked(engine="fsdp2", engine_options=["hybrid_sharding"]), check_points=0)
    config = accelerate.files(outcome, default_catalog())["accelerate.yaml"]
    assert "parallelism_config_dp_replicate_size: 4" in config
    assert "parallelism_config_dp_shard_size: 8" in config
    own = axolotl.files(outcome, default_catalog())["axolotl.yaml"]
    assert "dp_replicate_size: 4" in own
    assert "dp_shard_size: 8" in own


def test_inside_one_node_it_changes_nothing() -> None:
    small = {"cluster": {"node": "aws-p4d", "num_gpus": 8}}
    whole, hybrid = estimated(**small), estimated(**small, engine_options=["hybrid_sharding"])
    assert hybrid.step_seconds == pytest.approx(whole.step_seconds)
    assert hybrid.peak_gib == pytest.approx(whole.peak_gib)


def test_the_search_takes_the_faster_of_both_and_the_script_says_which() -> None:
    whole, hybrid = estimated(), estimated(engine_options=["hybrid_sharding"])
    outcome = plan(asked(options_to_try=["hybrid_sharding"]), check_points=0)
    assert outcome.plan is not None
    assert outcome.plan.step_seconds <= min(whole.step_seconds, hybrid.step_seconds) * (1 + 0.005)
    gain = next(each for each in option_gains(whole, default_catalog()) if each.name == "hybrid_sharding")
    assert gain.throughput_change == pytest.approx(whole.step_seconds / hybrid.step_seconds - 1)
    text = fragment(plan(asked(engine_options=["hybrid_sharding"]), check_points=0), default_catalog())
    assert "--parallelism.data_parallel_replicate_degree 4" in text
    assert "--parallelism.data_parallel_shard_degree 8" in text


def test_nothing_is_gathered_between_nodes() -> None:
    """In a pass without gradients only gathers are left: those of one node take as long as on that node alone."""
    frozen = {"adapter": {"rank": 8}, "task": "sft"}
    hybrid = estimated(engine_options=["hybrid_sharding"], **frozen)
    alone = estimated(cluster={"node": "aws-p4d", "num_gpus": 8}, **frozen, batch={**BATCH, "global_batch_size": 8})
    spread = estimated(**frozen)
    assert gathers(hybrid) == pytest.approx(gathers(alone))
    assert gathers(spread) > gathers(hybrid)


def messages(**changes: object) -> list[tuple[str, int, int, float]]:
    """(operation, ranks, how far apart, bytes as nccl-tests counts them) of one layer and micro-batch."""
    problem = question_of(asked(**changes)).first
    seen: list[tuple[str, int, int, float]] = []

    class Heard(LayerTime):
        def collective(self, op: Collective, size: Ints, stride: Ints, size_bytes: Floats) -> Floats:
            first = [float(np.asarray(one).reshape(-1)[0]) for one in (size, stride, size_bytes)]
            seen.append((op, int(first[0]), int(first[1]), first[2]))
            return super().collective(op, size, stride, size_bytes)

    rows = build_space(problem.alone).layouts
    zero_three = rows.take(int(np.flatnonzero(rows.zero_stage == 3)[0])).expand()
    Heard(problem, zero_three).zero_three((np.asarray(1.0), np.asarray(1.0)))
    return [each for each in seen if each[1] > 1]


def test_which_ranks_send_how_much_over_which_links() -> None:
    """A layer of Llama 3 8B, by hand: query and output 2 x 4096^2, key and value 2 x 4096 x 1024, MLP 3 x 4096 x 14336,
    two norms of 4096. Gathered in bf16 and scattered in fp32 between the eight of a node; a shard of fp32 is added up
    over the four nodes, by ranks eight apart. Without copies both go over all 32. torch's own messages are these:
    tests/engines/test_sharding_messages.py."""
    layer = 2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    assert messages(engine_options=["hybrid_sharding"]) == [
        ("all_gather", 8, 1, 2.0 * layer),
        ("reduce_scatter", 8, 1, 4.0 * layer),
        ("all_reduce", 4, 8, 4.0 * layer / 8),
    ]
    assert messages() == [("all_gather", 32, 1, 2.0 * layer), ("reduce_scatter", 32, 1, 4.0 * layer)]


def test_where_it_is_chosen_every_layout_was_enumerated_too() -> None:
    """Two nodes on a slow network: the solver's plan is that of all points, and has the state of one node."""
    layout = {"tensor_parallel": 1, "pipeline_parallel": 1, "context_parallel": 1}
    batch = {"global_batch_size": 64, "sequence_length": 2048}
    two = {"cluster": {"node": "aws-p4d", "num_gpus": 16}, "layout": layout, "batch": batch}
    outcome = plan(asked(engine="fsdp2", options_to_try=["hybrid_sharding"], **two), check_points=1000)
    assert outcome.plan is not None
    assert outcome.plan.named.engine_options == ("hybrid_sharding",)
    assert outcome.proof.enumerated
