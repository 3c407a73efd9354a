"""Fp8 operands of tensor-parallel products, which are cast before they are gathered."""

from __future__ import annotations

import numpy as np

from planner.costs.time.kernels import CAST_BYTES, FROZEN_CAST_BYTES, TRANSPOSE_BYTES, Kernels
from planner.costs.time.layer import LayerTime
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from tests.costs.test_pipeline_hops import first_row

TOKENS, OUT, INTO = (np.array([float(n)]) for n in (8192, 4096, 8192))


def problem(precision: str, tensor_parallel: int) -> Problem:
    """Llama-3.1-8B on two nodes of eight H100, in two stages."""
    scenario = {
        "name": "cast",
        "task": "pretrain",
        "model": "llama3.1-8b",
        "engine": "megatron-core",
        "precision": precision,
        "cluster": {"node": "hgx-h100-8", "num_gpus": 16},
        "batch": {"global_batch_size": 64, "sequence_length": 4096, "micro_batch_size": 1},
        "layout": {"recomputed_layers": 0, "tensor_parallel": tensor_parallel, "pipeline_parallel": 2},
    }
    return question_of(parse_document(str(scenario).replace("'", '"'), "cast.yaml"), default_catalog()).first


def test_an_operand_in_parts_is_cast_in_parts_and_turned_whole() -> None:
    assert not Kernels(problem("bf16", 4)).gathers_fp8
    eight = Kernels(problem("fp8", 4))
    assert eight.gathers_fp8

    def seconds(ranks: int) -> float:
        cut = np.array([ranks])
        found = eight.linear(tokens=TOKENS, out=OUT, into=INTO, which="forward", gathered="forward", ranks=cut)
        return float(found[0])

    rate = 0.8 * eight.problem.gpu.memory_bandwidth_gb_per_s * 1e9
    saved = (CAST_BYTES - TRANSPOSE_BYTES - FROZEN_CAST_BYTES / 4) * float(TOKENS[0] * INTO[0]) / rate
    launch = 3e-6
    np.testing.assert_allclose(seconds(1) - seconds(4), saved - launch, rtol=1e-6)
    backward = eight.linear(
        tokens=TOKENS, out=OUT, into=INTO, which="backward", gathered="forward", ranks=np.array([4])
    )
    np.testing.assert_array_equal(backward, eight.linear(tokens=TOKENS, out=OUT, into=INTO, which="backward"))


def test_gathers_of_fp8_move_half_the_bytes_and_scatters_all() -> None:
    sixteen, eight = (problem(precision, 8) for precision in ("bf16", "fp8"))
    before, after = (LayerTime(each, first_row(each)).tensor_collectives() for each in (sixteen, eight))
    assert np.all(after < before)
    assert np.all(after > before / 2)
