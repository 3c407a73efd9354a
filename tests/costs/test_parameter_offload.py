"""Shards that wait in host memory: nothing of them on the GPU, all of them on the host, and copies over PCIe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.analysis.infeasible.repairs import playbook
from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.host import host_ledger
from planner.costs.time.layer import LayerTime
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, parse_document
from planner.launch import accelerate, axolotl, deepspeed
from planner.problem.resolve import question_of
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.search.search import plan
from planner.search.space import build_space
from planner.units import GB, GIB

SCENARIO = """
name: offloaded
task: pretrain
model: llama3-8b
engine: fsdp2
cluster: {node: hgx-h100-8, num_gpus: 8}
batch: {global_batch_size: 16, sequence_length: 2048, micro_batch_size: 1}
layout: {tensor_parallel: 1, pipeline_parallel: 1, context_parallel: 1, recomputed_layers: all}
"""
ON = ["parameter_offload"]


def asked(**changes: object) -> Document:
    document = parse_document(SCENARIO, "offloaded.yaml")
    return replace(document, data={**document.data, **changes})


def on_gpu(found: Plan) -> dict[str, float]:
    """[GiB] at the optimizer's step."""
    moment = next(phase for phase in found.memory if phase.phase == "optimizer")
    return {str(item.name): item.amount for item in moment.items}


def on_host(found: Plan) -> dict[str, float]:
    """[bytes] of the node."""
    layouts = build_space(found.problem.alone).layouts.take(0)
    items: tuple[Item, ...] = host_ledger(found.problem, layouts)
    return {str(item.name): float(np.asarray(item.amount).reshape(-1)[0]) for item in items}


def test_everything_that_fsdp2_shards_waits_on_the_host() -> None:
    """8.03 G parameters of 4 + 4 + 8 bytes: 119.7 GiB of the node's memory, none of the GPUs'."""
    found = estimate(asked(engine_options=ON))
    here, there = on_gpu(found), on_host(found)
    assert not {ItemName.WEIGHTS, ItemName.GRADIENTS, ItemName.OPTIMIZER} & set(here)
    parameters = found.problem.parameters.total
    assert there[ItemName.WEIGHTS_ON_THE_HOST] == pytest.approx(4 * parameters)
    assert there[ItemName.GRADIENTS_FOR_THE_OPTIMIZER_ON_THE_HOST] == pytest.approx(4 * parameters)
    assert there[ItemName.OPTIMIZER_ON_THE_HOST] == pytest.approx(8 * parameters)
    assert 16 * parameters / GIB == pytest.approx(119.7, abs=0.1)


def test_fsdp1_keeps_gradients_on_the_gpu_until_the_pass_ends_and_a_buffer_for_each_shard_on_the_host() -> None:
    """8.03 G parameters of 2 B on eight GPUs: 1.87 GiB of gradients each; on the host weights and buffers alike."""
    found = estimate(asked(engine="fsdp1", engine_options=ON))
    here, there = on_gpu(found), on_host(found)
    parameters = found.problem.parameters.total
    assert not {ItemName.WEIGHTS, ItemName.OPTIMIZER} & set(here)
    assert here[ItemName.GRADIENTS] == pytest.approx(2 * parameters / 8 / GIB)
    assert there[ItemName.WEIGHTS_ON_THE_HOST] == pytest.approx(2 * parameters)
    assert there[ItemName.GRADIENTS_FOR_THE_OPTIMIZER_ON_THE_HOST] == pytest.approx(2 * parameters)
    assert there[ItemName.OPTIMIZER_ON_THE_HOST] == pytest.approx(4 * parameters)


def test_a_frozen_base_waits_on_the_host_twice_under_fsdp1() -> None:
    """answer.ai's recipe, a 70B in NF4 on two cards of 24 GB: about 35 GiB of shards, and buffers as large, of which
    only the adapters' are ever filled."""
    adapter = {"rank": 64, "targets": ["all-linear"], "base_precision": "nf4"}
    batch = {"global_batch_size": 4, "sequence_length": 512, "micro_batch_size": 2}
    two = {"node": "rtx-4090-box", "num_gpus": 2, "host_memory_gib": 192}
    recipe = {
        "engine": "fsdp1",
        "model": "llama2-70b",
        "task": "sft",
        "adapter": adapter,
        "batch": batch,
        "cluster": two,
    }
    found = estimate(asked(engine_options=ON, **recipe))
    there = on_host(found)
    base = there[ItemName.WEIGHTS_ON_THE_HOST]
    assert 34 < base / GIB < 40
    # Scales of 68.5 G weights, an 8-bit one for 64 weights and an fp32 one for 256 of those, are on each GPU.
    assert on_gpu(found)[ItemName.FROZEN_BASE_WEIGHTS] == pytest.approx(
        68.5e9 * (1 / 64 + 4 / 64 / 256) / GIB, rel=0.01
    )
    assert there[ItemName.GRADIENTS_FOR_THE_OPTIMIZER_ON_THE_HOST] == base
    assert found.peak_gib < 15 < 24 < estimate(asked(**recipe)).peak_gib


@pytest.mark.parametrize(("engine", "num_gpus", "shards"), [("fsdp1", 2, 2), ("fsdp1", 1, 1), ("deepspeed", 2, 2)])
def test_scales_of_a_base_in_few_bits_are_not_cut(engine: str, num_gpus: int, shards: int) -> None:
    """Of 6.98 G weights in NF4 0.5 B are cut over two GPUs, 0.0159 are not; embedding and head are 16 bits."""
    adapter = {"rank": 8, "targets": ["all-linear"], "base_precision": "nf4"}
    layout = {"zero_stage": 3, "recomputed_layers": "all"}
    two = {"node": "rtx-4090-box", "num_gpus": num_gpus}
    found = estimate(asked(engine=engine, task="sft", adapter=adapter, cluster=two, layout=layout))
    p = found.problem.parameters
    ends = 2 * 128_256 * 4096
    scales = 0.015875 * (p.total - ends)
    held = (0.5 * (p.total - ends) + 2 * ends) / shards + scales
    assert on_gpu(found)[ItemName.FROZEN_BASE_WEIGHTS] == pytest.approx(held / GIB, rel=1e-3)


def test_prime_rls_states_wait_on_the_host_and_come_back_whole_for_the_step() -> None:
    """8 B of 8.03 G parameters: 59.8 GiB of the node, 7.5 of each GPU in the step alone, twice over PCIe."""
    plain, away = (estimate(asked(engine="prime-rl", engine_options=on)) for on in ([], ["optimizer_returns"]))
    parameters = plain.problem.parameters.total
    there = on_host(away)[ItemName.OPTIMIZER_ON_THE_HOST]
    assert there == pytest.approx(8 * parameters)
    step = on_gpu(away)
    assert (
        step[ItemName.OPTIMIZER_STATE_BROUGHT_BACK]
        == on_gpu(plain)[ItemName.OPTIMIZER]
        == pytest.approx(there / 8 / GIB)
    )
    peaks = [
        {
            phase.phase: sum(item.amount for item in phase.items if item.name == ItemName.OPTIMIZER)
            for phase in one.memory
        }
        for one in (plain, away)
    ]
    assert min(peaks[0].values()) > 7
    assert not any(peaks[1].values())

    def updating(one: Plan) -> float:
        return sum(entry.amount for entry in one.time if entry.name == ItemName.OPTIMIZER_STEP)

    rate = 0.8 * plain.problem.gpu.pcie_gb_per_s * GB
    assert updating(away) - updating(plain) == pytest.approx(2 * parameters / rate, rel=1e-3)


def test_one_gpu_gathers_what_it_does_not_keep() -> None:
    one = {"cluster": {"node": "hgx-h100-8", "num_gpus": 1}}
    found = estimate(asked(engine_options=ON, **one))
    backward = next(phase for phase in found.memory if phase.phase == "recomputation")
    assert next(item.amount for item in backward.items if item.name == ItemName.GATHERED_LAYERS) > 0


@pytest.mark.parametrize(("engine", "bytes_in"), [("fsdp2", 4), ("deepspeed", 2)])
def test_each_gather_copies_a_shard_in_over_pcie(engine: str, bytes_in: int) -> None:
    layout = {"zero_stage": 3, "recomputed_layers": "all"}
    problem = question_of(asked(engine=engine, engine_options=ON, layout=layout)).first
    plain = question_of(asked(engine=engine, layout=layout)).first
    rows = build_space(problem.alone).layouts.take(0).expand()
    endless = np.asarray(1e9)
    hidden, before = (LayerTime(p, rows).zero_three((endless, endless))[0] for p in (problem, plain))
    shard = problem.parameters.dense_layer.total / 8
    seconds = bytes_in * shard / (0.8 * problem.gpu.pcie_gb_per_s * GB)
    seen = 1 - problem.engine.overlap.data * (1 - problem.engine.timing.sm_tax)
    assert float((hidden - before).reshape(-1)[0]) == pytest.approx(seconds * seen)


def test_later_micro_batches_wait_for_their_gradients() -> None:
    """Two micro-batches: the second one's copy and its sum on the host are in sight, 12 bytes a parameter."""
    problem = question_of(asked(engine_options=[*ON, "sync_each_batch"])).first
    rows = build_space(problem.alone).layouts.take(0).expand()
    assert int(rows.num_micro_batches.reshape(-1)[0]) == 2
    shard = np.asarray(1e9)
    beside, after = LayerTime(problem, rows).gradients_out(shard)
    copied = 4e9 / (0.8 * problem.gpu.pcie_gb_per_s * GB)
    assert float(beside.reshape(-1)[0]) == pytest.approx(copied / 2)
    assert float(after.reshape(-1)[0]) == pytest.approx((copied + 12e9 * 8 / (200 * GB)) / 2)
    once = LayerTime(question_of(asked(engine_options=ON)).first, rows).gradients_out(shard)
    assert [float(seconds.reshape(-1)[0]) for seconds in once] == [pytest.approx(copied), 0], (
        "the last one alone copies"
    )


def test_the_search_offloads_where_nothing_else_fits() -> None:
    tight: dict[str, object] = {
        "cluster": {"node": "hgx-h100-8", "num_gpus": 8, "usable_gib": 16},
        "limits": {"headroom_gib": 0},
        "batch": {"global_batch_size": 8, "sequence_length": 2048, "micro_batch_size": 1},
    }
    without, found = (plan(asked(**tight, options_to_try=names), check_points=0) for names in ([], ON))
    assert without.status == "infeasible"
    assert found.plan is not None
    assert found.plan.named.engine_options == ("parameter_offload",)
    assert "fsdp_offload_params: true" in accelerate.files(found, default_catalog())["accelerate.yaml"]
    assert "offload_params: true" in axolotl.files(found, default_catalog())["axolotl.yaml"]


def test_deepspeed_takes_it_at_stage_3_alone() -> None:
    outcome = plan(asked(engine="deepspeed", engine_options=ON), check_points=0)
    assert outcome.plan is not None
    assert outcome.plan.layout["zero_stage"] == 3
    assert any(each.rule == "offloaded_parameters_need_zero3" for each in outcome.proof.removed)
    assert '"offload_param"' in deepspeed.files(outcome, default_catalog())["ds_config.json"]


def test_an_engine_without_it_says_so() -> None:
    with pytest.raises(InputError, match="parameter_offload"):
        question_of(asked(engine="openrlhf", engine_options=ON))
    with pytest.raises(InputError, match="cannot both be on"):
        question_of(asked(engine="fsdp1", engine_options=[*ON, "sync_each_batch"]))


@pytest.mark.parametrize(
    ("engine", "offered"), [("fsdp1", True), ("fsdp2", True), ("deepspeed", True), ("megatron-core", False)]
)
def test_it_is_a_repair_where_the_engine_has_it(engine: str, offered: bool) -> None:
    changes = [one.changes for kind in playbook(question_of(asked(engine=engine))) for one in kind.attempts]
    assert ((("engine_options", tuple(ON)),) in changes) == offered
