"""Buffers of NCCL's sends and receives: counted by hand, a peer and channel 12 MiB, 32 channels behind a switch.

Second witness of the two sizes: NCCL's own log of an all-to-all on eight H100 names allocations of 10,485,760 and
2,097,152 B and channels 00 to 31 to each peer (NVIDIA/nccl issue 1685, 2025-04-16).
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import pytest

from planner.costs.memory.communicators import nccl_buffers
from planner.costs.memory.stage_parameters import StageParameters
from planner.formulas.communicators import connection_bytes
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.units import GIB, MIB
from tests.memory_problems import problem

H100, ON_4090, ON_L40S, ON_MI300X = "hgx-h100-8", "rtx-4090-box", "l40s-pcie-8", "mi300x-8"
NVL72 = "gb200-nvl72"
PEER = 384
"""MiB a peer behind a switch: 32 channels."""
FEW = 24
"""MiB a peer otherwise: 2 channels."""
POOLS = 128
"""MiB of a communicator that leaves its node: 32 channels x 16 x 128 KiB, sent and received."""


@cache
def asked(node: str, engine: str, options: tuple[str, ...]) -> Problem:
    cluster, layout = {"node": node, "num_gpus": 1}, {"sequence_parallel": False}
    words: dict[str, Any] = {"model": "qwen3-30b-a3b", "engine": engine, "layout": layout, "cluster": cluster}
    return problem(**words, engine_options=list(options), precision="bf16")


def buffers(found: Problem, num_gpus: int, **degrees: int) -> np.ndarray:
    """MiB of what is sent and received, stage by stage."""
    columns = {field.name: np.ones((1, 1), dtype=np.int64) for field in fields(Layouts)}
    columns |= {name: np.full((1, 1), value) for name, value in (degrees | {"num_gpus": num_gpus}).items()}
    stages = np.arange(degrees.get("pipeline_parallel", 1))[None, :]
    stage = StageParameters(found, Layouts(**columns), stages, 0 * stages + 1, 0 * stages)
    return np.asarray(nccl_buffers(stage)[1].amount[0] / MIB)


def test_a_connection_is_what_the_library_logs() -> None:
    assert connection_bytes() == 10_485_760 + 2_097_152
    assert 32 * connection_bytes() == PEER * MIB


@pytest.mark.parametrize(
    ("gpus", "degrees", "mib"),
    [
        (8, {"data_parallel": 8, "expert_parallel": 8}, [7 * PEER]),
        (8, {"data_parallel": 8, "expert_parallel": 2, "expert_tensor_parallel": 4}, [PEER]),
        # Two nodes: two channels to each of seven peers, and the pools for the eight others.
        (16, {"data_parallel": 16, "expert_parallel": 16}, [7 * FEW + POOLS]),
        (16, {"data_parallel": 16, "expert_parallel": 2, "expert_tensor_parallel": 8}, [POOLS]),
        # Rings: both neighbours' communicators have two ranks each.
        (2, {"context_parallel": 2}, [PEER]),
        (8, {"context_parallel": 8}, [2 * PEER]),
        (16, {"context_parallel": 16}, [2 * PEER + POOLS]),
        (16, {"tensor_parallel": 8, "context_parallel": 2}, [POOLS]),
        # Pipelines on one node and over all of them; chunks go round.
        (8, {"pipeline_parallel": 4, "tensor_parallel": 2}, [PEER, 2 * PEER, 2 * PEER, PEER]),
        (8, {"pipeline_parallel": 4, "tensor_parallel": 2, "virtual_pipeline": 2}, [2 * PEER] * 4),
        (8, {"pipeline_parallel": 2, "tensor_parallel": 4, "virtual_pipeline": 2}, [PEER] * 2),
        (16, {"pipeline_parallel": 2, "tensor_parallel": 8}, [POOLS] * 2),
        (8, {"tensor_parallel": 4, "data_parallel": 2}, [0]),
    ],
)
def test_each_peer_in_the_node_has_its_buffers(gpus: int, degrees: dict[str, int], mib: list[int]) -> None:
    assert buffers(asked(H100, "megatron-core", ()), gpus, **degrees).tolist() == mib


@pytest.mark.parametrize(
    ("node", "engine", "options", "degrees", "mib"),
    [
        (H100, "megatron-core", ("expert_deduplication",), {"expert_parallel": 8}, 0),
        (H100, "megatron-core", ("a2a_context_parallel",), {"context_parallel": 8}, 7 * PEER),
        # torch gathers keys and values of all ranks at once.
        (H100, "torchtitan", (), {"context_parallel": 8}, 0),
        (H100, "torchtitan", (), {"expert_parallel": 8}, 7 * PEER),
        (ON_L40S, "megatron-core", (), {"expert_parallel": 8}, 7 * FEW),
        # Cards that may not copy from each other pass host memory on; RCCL was not read.
        (ON_4090, "megatron-core", (), {"pipeline_parallel": 1, "context_parallel": 2}, 0),
        (ON_MI300X, "megatron-core", (), {"expert_parallel": 8}, 0),
        (NVL72, "megatron-core", (), {"expert_parallel": 64}, 63 * PEER),
    ],
)
def test_who_sends_is_said_by_engine_and_node(
    node: str, engine: str, options: tuple[str, ...], degrees: dict[str, int], mib: int
) -> None:
    found = buffers(asked(node, engine, options), max(degrees.values()), **degrees)
    assert found.tolist() == [mib]
    assert found[0] * MIB < 24 * GIB
