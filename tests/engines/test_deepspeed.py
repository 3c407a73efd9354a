"""DeepSpeed's own configuration class on every plan: `python -m pytest -m engines`."""

from __future__ import annotations

import json
import os
from unittest import mock

import numpy as np
import pytest
from drawn import PLANS, written
from memory_problems import problem

from planner.costs.item_names import ItemName
from planner.costs.memory.stage_memory import StageMemory
from planner.search.space import build_space

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]


class Ranks:
    """DeepSpeed's model-parallel unit, of which its configuration asks how many ranks hold data."""

    def __init__(self, data_ranks: int) -> None:
        self.data_ranks = data_ranks

    def get_data_parallel_world_size(self) -> int:
        return self.data_ranks


def test_deepspeed_takes_every_plan_and_finds_its_batch() -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    config = pytest.importorskip("deepspeed.runtime.config")
    for plan, files in written("deepspeed", "deepspeed", PLANS):
        lay, precision = plan.layout, plan.problem.precision.id
        ranks = lay["data_parallel"] * lay["context_parallel"]
        keys = json.loads(files["ds_config.json"])
        with mock.patch("deepspeed.runtime.config.dist.get_rank", return_value=0):
            read = config.DeepSpeedConfig(keys, mpu=Ranks(ranks))
        found = {
            "zero_stage": read.zero_optimization_stage,
            "micro_batch_size": read.train_micro_batch_size_per_gpu,
            "num_micro_batches": read.gradient_accumulation_steps,
            "global_batch_size": read.train_batch_size,
        }
        assert found == {name: lay[name] for name in found}, files
        offload = read.zero_config.offload_optimizer
        assert (offload is not None and offload.device == "cpu") == plan.named.optimizer_offload
        kinds = read.bfloat16_config.enabled, read.float16_config.enabled
        assert kinds == (precision == "bf16", precision == "fp16")


@pytest.mark.parametrize("stage", [2, 3])
def test_its_own_estimate_beside_an_optimizer_on_the_host_holds_weights_alone(stage: int) -> None:
    """Llama-3.1-8B on eight GPUs; what ZeRO-3 gathers is another item of ours."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    module = pytest.importorskip(f"deepspeed.runtime.zero.{'stage3' if stage == 3 else 'stage_1_and_2'}")
    whole = problem(
        engine="deepspeed",
        cluster={"node": "hgx-h100-8", "num_gpus": 8},
        batch={"global_batch_size": 8, "sequence_length": 4096, "micro_batch_size": 1},
        layout={"zero_stage": stage, "optimizer_offload": True},
    )
    rows, one = build_space(whole.alone).layouts.take(0), np.zeros((1, 1), dtype=np.int64)
    memory = StageMemory(whole, rows.expand(), one, one + 32, one)
    held = {item.name: float(np.ravel(item.amount)[0]) for item in memory.state}
    ours = sum(held[name] for name in (ItemName.WEIGHTS, ItemName.GRADIENTS, ItemName.OPTIMIZER))
    total = whole.parameters.total
    if stage == 3:
        _, theirs, gathered = module.estimate_zero3_model_states_mem_needs(total, 1, 8, 1, True, False)
        assert ours == pytest.approx(theirs - gathered, abs=8)
    else:
        assert ours == module.estimate_zero2_model_states_mem_needs(total, 8, 1, True)[1]
