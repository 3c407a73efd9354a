"""Activation memory by closed formulas: pure functions, scalars or arrays alike."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", int, float, NDArray[np.float64])


def korthikanti_layer_bytes(
    *,
    sequence_length: float,
    micro_batch_size: float,
    hidden_size: float,
    num_attention_heads: float,
    tensor_parallel: float,
    sequence_parallel: bool,
    recompute_granularity: str,
) -> float:
    """Activations that one GPT layer keeps for backward, per GPU. [bytes]

    none, tensor parallel only     s b h (10 + 24/t + 5 a s / (h t))
    none, with sequence parallel   s b h / t (34 + 5 a s / h)
    selective                      the same without the 5 a s / h of the attention scores
    full                           2 s b h

    16-bit activations, dropout on, attention scores materialised, GELU MLP of width 4 h.
    Source: Korthikanti et al. 2022, arXiv:2205.05198, table 2; figure 1 prints these for 22B to 1T.
    """
    token_bytes = sequence_length * micro_batch_size * hidden_size
    scores = 5 * num_attention_heads * sequence_length / hidden_size
    if recompute_granularity == "full":
        return 2 * token_bytes
    if recompute_granularity == "selective":
        scores = 0.0
    if sequence_parallel:
        return token_bytes * (34 + scores) / tensor_parallel
    return token_bytes * (10 + (24 + scores) / tensor_parallel)


def rule_activation_bytes(
    *, k: float, batch: float, sequence_length: float, hidden_size: float, num_hidden_layers: float, bytes_each: float
) -> float:
    """Rule of thumb for all activations of a network. [bytes]

        k * batch * seq * hidden * layers * bytes

    `k` is empirical, 2 to more than 10; it hides grouped-query attention, FFN width and vocabulary.
    Source: "A Practical Guide to LLM GPU Memory Estimation" (docs/article.md).
    """
    return k * batch * sequence_length * hidden_size * num_hidden_layers * bytes_each


def square_root_checkpoint_layers(*, num_hidden_layers: int) -> int:
    """Layers whose input is kept under the square-root rule of checkpointing: about sqrt(layers). [layers]

    Source: Chen et al. 2016, arXiv:1604.06174.
    """
    return max(1, round(math.sqrt(num_hidden_layers)))


def in_flight_layers_factor(
    *,
    stage: NDArray[np.int64],
    pipeline_parallel: NDArray[np.int64],
    virtual_pipeline: NDArray[np.int64],
    num_micro_batches: NDArray[np.int64],
    group_size: int | None = None,
    bidirectional: bool = False,
) -> NDArray[np.float64]:
    """How many times a stage's own layers are alive at the peak of one-forward-one-backward. [micro-batches]

        1F1B            min(m, p - i)
        interleaved     min(m v, g (v - 1) + 2 (p - i - 1) + 1) / v     (chunks, divided by chunks per stage)
        bidirectional   min(m / 2, p - i) + min(m / 2, i + 1)           (both directions; p + 1 with m >= 2 p)

    g is the number of micro-batches that a chunk takes in turn, p unless it is stated.
    Source: Narayanan et al. 2021, arXiv:2104.04473; warm-up rule of Megatron-LM core/pipeline_parallel/schedules.py;
    DualPipe, arXiv:2412.19437, table 2.
    """
    p, v, m, i = pipeline_parallel, virtual_pipeline, num_micro_batches, stage
    plain = np.minimum(m, p - i)
    if bidirectional:
        plain = np.where(p > 1, np.minimum(m / 2, p - i) + np.minimum(m / 2, i + 1), plain)
    group = p if group_size is None else group_size
    chunks = np.minimum(m * v, group * (v - 1) + 2 * (p - i - 1) + 1)
    return np.asarray(np.maximum(1.0, np.where(v > 1, chunks / v, plain)))


def postponed_weight_gradients(
    *, stage: NDArray[np.int64], pipeline_parallel: NDArray[np.int64], num_micro_batches: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Micro-batches whose input gradients are done and whose weight gradients wait, under ZB-H1. [micro-batches]

        min(i, m - min(m, p - i))     beside the min(m, p - i) of 1F1B that have not run backward

    Stage i puts weight gradients off by i micro-batches, so that no stage holds more than the first one of 1F1B: min(m,
    p). A waiting micro-batch keeps inputs and output gradients of its matrix products; counting it whole bounds that.
    Source: Qi et al. 2023, arXiv:2401.10241, section 2.2 (peak memory p M_B) and planner/formulas/schedule.py.
    """
    flight = np.minimum(num_micro_batches, pipeline_parallel - stage)
    return np.asarray(np.minimum(stage, num_micro_batches - flight).astype(np.float64).clip(0.0))
