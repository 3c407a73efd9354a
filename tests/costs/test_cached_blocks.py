"""Blocks that a step leaves behind, what an embedding keeps, gathered inputs of older engines: counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.costs.item_names import ItemName
from planner.costs.memory.cached_blocks import best_fit
from planner.search.plan import Plan
from planner.units import GIB
from tests.memory_problems import estimated, scenario

WIDTH, LENGTH = 12288, 2048
TABLE = 51_200 // 8 * WIDTH
"""Of GPT-3's 50,257 words, padded to 1,024, over eight ranks."""
LAYER = (12 * WIDTH**2 + 4 * WIDTH + 3 * WIDTH) // 8 + 2 * WIDTH + 4 * WIDTH
"""Four matrices and the biases that are cut with them; biases behind them and two norms, whole."""


def gpt3(**changes: Any) -> Plan:
    """Eight stages of twelve layers, tensor parallel 8, two replicas."""
    layout = dict.fromkeys(("context_parallel", "expert_parallel", "virtual_pipeline"), 1)
    layout |= {"tensor_parallel": 8, "pipeline_parallel": 8, "recomputed_layers": "all", "zero_stage": 1}
    cluster = {"node": "dgx-a100", "num_gpus": 128}
    batch = {"global_batch_size": 64, "sequence_length": LENGTH, "micro_batch_size": 1}
    asked = scenario(model="gpt3-175b", engine="megatron-deepspeed", cluster=cluster, batch=batch, layout=layout)
    return estimated(asked | {"engine_options": ["fp16_zero1"]} | changes)


def gib(found: Plan, name: ItemName, phase: str = "recomputation", stage: int = 0) -> float:
    """Of one stage at one moment; 0 where its ledger has no such item."""
    at = next(each for each in found.memory if each.phase == phase and each.stage == stage)
    return sum(item.amount for item in at.items if item.name == name)


@pytest.mark.parametrize(
    ("wanted", "made"),
    [
        # The embedding of 250,880 words and 14,336 wide over eight ranks (0.45 billion), a shard of 0.575 billion: the
        # flat gradient lies in the block of the fp32 copy, its cast in that of the fp64 copy.
        ([(0.9, False), (1.0, False), (1.8, False), (3.6, False), (1.15, True), (2.3, True)], 7.3),
        # Over two ranks the new gradient's block takes the bucket and the fp32 copy of the part that lies in the shard.
        ([(3.6, False), (1.0, False), (2.76, False), (5.5, False), (1.38, True), (2.76, True)], 9.1),
        # What stays leaves less of its block to the next one.
        ([(4.0, False), (3.0, True), (2.0, False)], 6.0),
        ([(4.0, False), (3.0, True), (1.0, True), (0.5, True)], 4.5),
    ],
)
def test_an_allocation_takes_the_smallest_free_block_that_is_large_enough(
    wanted: list[tuple[float, bool]], made: float
) -> None:
    assert float(best_fit([(np.asarray(size), stays) for size, stays in wanted])) == pytest.approx(made)


def test_a_step_leaves_blocks_that_no_pass_fills() -> None:
    found = gpt3()
    shard = (12 * LAYER + TABLE + LENGTH * WIDTH) / 2
    # The copies of the table's gradient fit into the block of the bucket, 0.5 billion in 16 bits; the shard's do not.
    by_hand = 2 * TABLE + 2 * 5e8 + (2 + 4) * shard
    assert gib(found, ItemName.BLOCKS_OF_THE_STEP) == pytest.approx(by_hand / GIB, rel=1e-6)
    assert gib(found, ItemName.BLOCKS_OF_THE_STEP, "optimizer") == 0


def test_a_reduction_in_bf16_casts_all_gradients_at_once() -> None:
    """Beside the fp32 copy of one gradient; in the step the cast is live, and its block no cached one."""
    found = gpt3(engine_options=["bf16_optimizer"])
    whole = 12 * LAYER + TABLE + LENGTH * WIDTH
    assert gib(found, ItemName.BLOCKS_OF_THE_STEP) == pytest.approx((4 * TABLE + 2 * whole) / GIB, rel=1e-6)
    assert gib(found, ItemName.GRADIENTS_BEING_REDUCED, "optimizer") == pytest.approx(2 * whole / GIB, rel=1e-6)
    assert gib(found, ItemName.BLOCKS_OF_THE_STEP, "optimizer") == 0
    assert gib(gpt3(), ItemName.GRADIENTS_BEING_REDUCED, "optimizer") == 0


def test_an_embedding_keeps_its_norms_input_and_its_mask_of_each_micro_batch_in_flight() -> None:
    each = LENGTH * WIDTH / GIB
    plain, normed = gpt3(), gpt3(engine_options=["fp16_zero1", "embedding_layernorm"])
    assert gib(plain, ItemName.ACTIVATIONS_EMBEDDING) == pytest.approx(8 * 1 * each)
    assert gib(normed, ItemName.ACTIVATIONS_EMBEDDING) == pytest.approx(8 * (1 + 2) * each)
    assert gib(normed, ItemName.ACTIVATIONS_EMBEDDING, stage=1) == 0


def test_nanotron_kept_gathered_inputs_until_august_2024() -> None:
    """Of each layer the inputs of q, k, v and of gate, up: 2 x 2 B x width whole, where a quarter of it was kept."""
    layout = dict.fromkeys(("context_parallel", "expert_parallel", "pipeline_parallel"), 1)
    layout |= {"tensor_parallel": 4, "recomputed_layers": 0, "zero_stage": 0}
    cluster = {"node": "hgx-h100-8", "num_gpus": 4}
    asked = scenario(engine="nanotron", cluster=cluster, layout=layout)
    kept, then = (
        gib(estimated(asked | {"engine_options": options}), ItemName.ACTIVATIONS_KEPT_LAYERS, "backward")
        for options in ([], ["gathered_inputs_kept"])
    )
    assert then - kept == pytest.approx(32 * 4096 * 2 * 2 * 4096 * (1 - 1 / 4) / GIB)
