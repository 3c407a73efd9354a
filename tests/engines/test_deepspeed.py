"""DeepSpeed's own configuration class on every plan: `python -m pytest -m engines`."""

from __future__ import annotations

import json
import os
from unittest import mock

import pytest
from drawn import PLANS, written

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
