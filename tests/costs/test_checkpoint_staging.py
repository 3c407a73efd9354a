"""What a checkpoint takes of the host: trained weights in 16 bits, adapters alone, shards gathered as they are held."""

from __future__ import annotations

import numpy as np
import pytest

from planner.costs.item_names import ItemName
from planner.costs.memory.host import host_ledger
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.resolve import question_of
from planner.search.space import build_space

SCENARIO = """
name: staged
task: sft
model: llama3-8b
engine: {engine}
cluster: {{node: hgx-h100-8, num_gpus: 8}}
batch: {{global_batch_size: 16, sequence_length: 2048, micro_batch_size: 1}}
layout: {{recomputed_layers: all}}
{adapter}
"""
ADAPTER = "adapter: {rank: 16, base_precision: nf4}\noptimizer: adamw-no-master"
RANK_16 = 32 * 16 * ((4096 + 4096) * 2 + (4096 + 1024) * 2 + (4096 + 14336) * 3)
"""q and o, k and v, gate and up and down of 32 layers, two matrices each: 41.9 M parameters."""


def staged(engine: str, adapter: str) -> float:
    """[bytes] of the node."""
    question = question_of(parse_document(SCENARIO.format(engine=engine, adapter=adapter), "x"), default_catalog())
    items = host_ledger(question.first, build_space(question).layouts.take(0))
    item = next(item for item in items if item.name == ItemName.CHECKPOINT_STAGING)
    return float(np.asarray(item.amount).reshape(-1)[0])


def test_trained_weights_are_staged_in_16_bits() -> None:
    assert staged("fsdp2", "") == pytest.approx(2 * 8.030e9, rel=1e-3)


def test_adapters_are_staged_alone_where_ranks_hold_all() -> None:
    assert staged("transformers-ddp", ADAPTER) == pytest.approx(8 * 4 * RANK_16)


def test_shards_of_a_base_are_gathered_as_they_are_held() -> None:
    """Embedding and head in 16 bits, layers in 4 with their scales: 6 GiB of a node, 15 in 16 bits."""
    ends = 2 * 128256 * 4096
    layers = 8.030e9 - ends
    assert staged("fsdp1", ADAPTER) == pytest.approx(2 * ends + 0.516 * layers, rel=0.05)
