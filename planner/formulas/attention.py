"""Seconds of attention: fused causal FlashAttention from measured rates, and unfused attention from bytes and FLOP.

Scalars or NumPy arrays alike in, the same shape out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.units import GB, TERA

Array: TypeAlias = NDArray[np.float64]
Values: TypeAlias = float | Array

ACHIEVED_BANDWIDTH = 0.8
"""Share of the memory bandwidth on the data sheet that an elementwise kernel reaches (aiconfigurator)."""
LAUNCH_SECONDS = 3e-6
BACKWARD_FLOP = 2.5
"""FLOP of the backward pass over those of the forward pass: five products instead of two."""
BACKWARD_RATE = 0.72
"""Backward rate over forward rate; FlashAttention reports 0.65 to 0.8, from memory."""
NARROW_HEAD = 0.4
"""Exponent of the loss for heads under 128: softmax work a FLOP grows as the head shrinks. From memory, FA3 paper."""
UNFUSED_FORWARD_BYTES = 8
"""Bytes a score: write the product, read and write the softmax, read for the second product; 16-bit."""
UNFUSED_BACKWARD_BYTES = 12
"""Bytes a score: two products write and read gradients, the softmax backward reads two and writes one; 16-bit."""
UNFUSED_DROPOUT_BYTES = 5
"""Bytes a score and pass: read and write 16-bit scores, a one-byte mask."""


@dataclass(frozen=True)
class AttentionCurve:
    """Rate of causal FlashAttention forward by sequence length, head_dim 128, FLOP of the causal half only."""

    device: str
    sequence_length: tuple[float, ...]
    tflops: tuple[float, ...]
    peak_tflops: float
    """Dense bf16 peak of the device. [TFLOP/s]"""
    narrow_head: float = NARROW_HEAD
    """Exponent of the loss for heads under 128."""
    kernel: str = "newest"
    """Whose head sizes: newest, flash2 or triton."""


_LENGTHS = (1024.0, 2048.0, 4096.0, 16384.0)
MEASURED = {
    "a100": AttentionCurve("A100, FlashAttention 2", _LENGTHS, (145, 166, 176, 182), 312),
    "h100": AttentionCurve("H100, FlashAttention 3", _LENGTHS, (398, 511, 589, 676), 989),
    "b200": AttentionCurve("B200", _LENGTHS, (803, 1019, 1164, 1351), 2250),
    "h100-flash2": AttentionCurve("H100, FlashAttention 2", _LENGTHS, (255, 310, 345, 370), 989),
    "b200-flash2": AttentionCurve("B200, FlashAttention 2", _LENGTHS, (286, 348, 387, 415), 2250),
    "l40s": AttentionCurve("L40S", _LENGTHS, (156, 179, 194, 207), 362),
}
"""Measured forward rates, aiconfigurator at 095f58a5 (2026-08-21); B200 and L40S kernels are not named there.
FlashAttention 2 on H100 is read off the figures of the FlashAttention 3 paper (arXiv:2407.08608), from memory. On
Blackwell it runs the instructions of Ampere as on Hopper: H100's rates times the multiprocessors (148 / 132), assumed;
prime-rl's LoRA of Qwen3 4B on B200 at 16,384 and 65,536 tokens asks for 370 to 540."""
WIDEST_HEAD = {"sm_100": 128, "sm_103": 128}
"""Widest head that the newest kernels of a chip train, but for queries of 192 beside values of 128; FlashAttention 2
takes over beyond. Source: TransformerEngine common/fused_attn/fused_attn.cpp, backends by cuDNN's release: up to 256 in
training on Hopper alone."""
TRITON_SHARE = 0.66
"""Rate of the Triton kernel of 2023 over FlashAttention 2: MPT at 32k and 64k tokens, A100 0.68, H100 0.65."""
OLDER_NARROW_HEAD = 0.15
"""NARROW_HEAD of FlashAttention 2 and Triton kernels, which are slower at 128 and lose less at 64."""
KERNEL_HEADS = {"newest": (64.0, 96.0, 128.0, 192.0, 256.0), "flash2": (32.0, 64.0, 96.0, 128.0, 192.0, 256.0)}
"""Head sizes that FlashAttention has kernels for; a head between two runs the larger one's, whose products cover the
padding. Source: flash-attention @0251105a2 hopper/flash_api.cpp lines 492 to 509 (FlashAttention 3) and
csrc/flash_attn/src/static_switch.h lines 90 to 111 (2). cuDNN's and Triton's are not public: taken alike, assumed."""
HEAD_MULTIPLE = 8
"""Elements of 16 bits in the 16 bytes that tensor cores load: other head sizes are padded with zeros in memory.
Source: flash-attention @0251105a2 flash_attn/flash_attn_interface.py lines 481 to 484; torch pads likewise before it
(aten/src/ATen/native/transformers/attention.cpp, pad_last_dim<8>)."""
_BY_CAPABILITY = {
    "sm_80": "a100",
    "sm_86": "a100",
    "sm_89": "l40s",
    "sm_90": "h100",
    "sm_100": "b200",
    "sm_103": "b200",
    "sm_120": "l40s",
}


def attention_curve(
    *,
    chip: str,
    peak_tflops: float,
    forward_tflops: float | None = None,
    kernel: str = "newest",
    head_dim: float = 128,
    value_head_dim: float | None = None,
) -> AttentionCurve:
    """The curve of a device: its generation's measured one, scaled by the dense bf16 peak. [TFLOP/s]

    `chip` ends in the compute capability ('Hopper sm_90'); anything unknown borrows the A100's share of peak.
    `forward_tflops`, the device's own measured peak rate, replaces the scaled rate at the longest length. `kernel` is
    newest, flash2 or triton; heads that the newest cannot train take flash2.
    """
    capability = next((word for word in chip.split() if word in _BY_CAPABILITY), "sm_80")
    name = _BY_CAPABILITY[capability]
    wide = head_dim > WIDEST_HEAD.get(capability, head_dim) and (head_dim, value_head_dim) != (192, 128)
    if wide and kernel == "newest":
        kernel = "flash2"
    older = kernel != "newest"
    curve = replace(MEASURED[f"{name}-flash2" if older and f"{name}-flash2" in MEASURED else name], kernel=kernel)
    if older:
        share = TRITON_SHARE if kernel == "triton" else 1.0
        curve = replace(curve, tflops=tuple(rate * share for rate in curve.tflops), narrow_head=OLDER_NARROW_HEAD)
    factor = peak_tflops / curve.peak_tflops if forward_tflops is None else forward_tflops / curve.tflops[-1]
    if older:
        factor = peak_tflops / curve.peak_tflops
    return replace(curve, tflops=tuple(rate * factor for rate in curve.tflops), peak_tflops=peak_tflops)


def attended_pairs(*, sequence_length: Values, window: Values | None = None) -> Values:
    """Query-key pairs of one causal head: `s w - w^2 / 2`, w = s without a sliding window. [pairs]"""
    width = sequence_length if window is None else np.minimum(window, sequence_length)
    return sequence_length * width - width * width / 2


def stored_head(head_dim: Values) -> Values:
    """Elements of a head in memory as the kernels take it: padded to a multiple of 8."""
    return HEAD_MULTIPLE * np.ceil(np.asarray(head_dim) / HEAD_MULTIPLE)


def kernel_head(head_dim: Values, kernel: str = "newest") -> Values:
    """Head size of the FlashAttention kernel that runs a head; beyond the widest kernel the padded head itself."""
    sizes = np.asarray(KERNEL_HEADS.get(kernel, KERNEL_HEADS["flash2"]))
    stored = np.asarray(stored_head(head_dim))
    place = np.searchsorted(sizes, stored)
    return np.where(place < len(sizes), sizes[np.minimum(place, len(sizes) - 1)], stored)


def attention_flop(
    *,
    sequence_length: Values,
    micro_batch_size: Values,
    heads: Values,
    head_dim: Values,
    value_head_dim: Values | None = None,
    window: Values | None = None,
) -> Values:
    """Forward FLOP of causal attention, the causal half only: `2 b a (d_qk + d_v) pairs`. [FLOP]"""
    value = head_dim if value_head_dim is None else value_head_dim
    pairs = attended_pairs(sequence_length=sequence_length, window=window)
    return 2.0 * micro_batch_size * heads * (head_dim + value) * pairs


def flash_attention_seconds(
    curve: AttentionCurve,
    *,
    sequence_length: Values,
    micro_batch_size: Values,
    heads: Values,
    kv_heads: Values,
    head_dim: Values,
    memory_gb_per_s: float,
    backward: bool = False,
    value_head_dim: Values | None = None,
    window: Values | None = None,
    span: Values | None = None,
) -> Values:
    """Seconds of causal FlashAttention over one layer's local heads. [s]

        forward   max(flop / rate(s), bytes of q, k, v, o / (0.8 bandwidth)) + 3 us
        backward  2.5 flop at 0.72 of the forward rate, or twice the bytes

    The rate is log-log interpolated in the sequence length, constant beyond 16k, and keeps the slope of 1k to 2k
    below 1k; heads under 128 lose `(d/128)^0.4`. FLOP and rate are those of the kernel's head size, and a head of no
    multiple of 8 is padded and cut: q, k, v and o read and written once more each pass, four launches. A sliding
    window attends at the rate of its own width, and where a ring of ranks cuts the sequence, the rate is that of one
    rank's `span`. Assumes causal masking, 16-bit, equal lengths of queries and keys, no dropout. Source:
    aiconfigurator at 095f58a5.
    Published: H100 FlashAttention 3, head_dim 128, 589 TFLOP/s at 4k.
    """
    value = head_dim if value_head_dim is None else value_head_dim
    run, run_value = kernel_head(head_dim, curve.kernel), kernel_head(value, curve.kernel)
    flop = attention_flop(
        sequence_length=sequence_length,
        micro_batch_size=micro_batch_size,
        heads=heads,
        head_dim=run,
        value_head_dim=run_value,
        window=window,
    )
    span = sequence_length if span is None else span
    span = span if window is None else np.minimum(window, span)
    log_length, log_rate = np.log(curve.sequence_length), np.log(curve.tflops)
    log_span = np.log(np.asarray(span, dtype=np.float64))
    slope = (log_rate[1] - log_rate[0]) / (log_length[1] - log_length[0])
    below = np.minimum(log_span - log_length[0], 0.0) * slope
    rate = np.exp(np.interp(log_span, log_length, log_rate) + below) * TERA
    rate = rate * np.minimum(run / 128, 1.0) ** curve.narrow_head
    stored = stored_head(head_dim) + stored_head(value)
    size_bytes = 2.0 * micro_batch_size * sequence_length * stored * (heads + kv_heads)
    memory = size_bytes / (ACHIEVED_BANDWIDTH * memory_gb_per_s * GB)
    padded = np.where(stored > head_dim + value, 2 * memory + 4 * LAUNCH_SECONDS, 0.0)
    if backward:
        seconds = np.maximum(BACKWARD_FLOP * flop / (BACKWARD_RATE * rate), 2 * memory) + LAUNCH_SECONDS
    else:
        seconds = np.maximum(flop / rate, memory) + LAUNCH_SECONDS
    return _like(seconds + padded)


def unfused_attention_seconds(
    *,
    sequence_length: Values,
    micro_batch_size: Values,
    heads: Values,
    head_dim: Values,
    gemm_tflops: float,
    memory_gb_per_s: float,
    backward: bool = False,
    dropout: bool = False,
) -> Values:
    """Seconds of attention that writes its scores to memory. [s]

        forward   4 b a d s^2 FLOP and 8 bytes a score;  backward  twice the FLOP and 12 bytes a score
        dropout adds 5 bytes a score and pass;  three launches forward, six backward

    No causal saving: the products run over the full square, in head sizes rounded up to a multiple of 8 (what unaligned
    loads lose besides is unknown: no published run has one). `gemm_tflops` is the sustained rate of large products.
    Assumes a fused scale-mask-softmax kernel, 16-bit scores, FLOP and bytes of different kernels not overlapped.
    """
    scores = 1.0 * micro_batch_size * heads * sequence_length * sequence_length
    flop = (8.0 if backward else 4.0) * scores * stored_head(head_dim)
    per_score = UNFUSED_BACKWARD_BYTES if backward else UNFUSED_FORWARD_BYTES
    size_bytes = scores * (per_score + (UNFUSED_DROPOUT_BYTES if dropout else 0))
    launches = 6 if backward else 3
    memory = size_bytes / (ACHIEVED_BANDWIDTH * memory_gb_per_s * GB)
    return flop / (gemm_tflops * TERA) + memory + launches * LAUNCH_SECONDS


def memory_bound_seconds(*, size_bytes: Values, memory_gb_per_s: float) -> Values:
    """Seconds of an elementwise or reduction kernel: `bytes / (0.8 bandwidth) + 3 us`. [s]

    Source: aiconfigurator at 095f58a5. SimuMax measured 0.91 of 1600 GB/s on A100 PCIe and 0.67 of 8000 on B200, so
    expect -15 to +20 %.
    """
    return size_bytes / (ACHIEVED_BANDWIDTH * memory_gb_per_s * GB) + LAUNCH_SECONDS


def _like(result: Values) -> Values:
    """A plain float for a scalar result."""
    return result if isinstance(result, np.ndarray) and result.ndim else float(result)
