"""Seconds of the scan of Mamba-2: kernels that read and write, and a chain of states from chunk to chunk.

Dao and Gu 2024, arXiv:2405.21060, section 6. Source of the kernels: state-spaces/mamba @a14b1dff (2.3.2)
mamba_ssm/ops/triton/ssd_combined.py, _mamba_chunk_scan_combined_fwd and _bwd; bytes are what each of them must read and
write.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.formulas.delta_rule import BANDWIDTH_SHARE, CHAIN_SECONDS
from planner.units import GB

Values: TypeAlias = float | NDArray[np.float64]

LAUNCHES = {False: 5, True: 14}
"""Kernels of the scan, forward and backward."""


def scan_bytes(*, width: float, shared: float, state: float, square: float, backward: bool = False) -> float:
    """Bytes that a token moves: `width` of all heads, `shared` of what groups write and read together, `state` of all
    heads over the tokens of a chunk, `square` one row of a chunk for each group. 16 bits but where fp32 is said.

    forward   states: x and half of the shared in, fp32 out; their chain: fp32 in, 16 bits out; squares: shared in, fp32
              out; output: squares, x, half of the shared, states in, y out
    backward  the first three again, states in fp32; gradients of states: dy, half of the shared in, out; their chain:
              both in fp32 in, both out; dx: x, dy, half of the shared, squares, gradients of states in, out; those of
              the shared: x, dy, states and their gradients in, the shared out in fp32; of squares: x, dy in, fp32 out
              and, for the shared, in and again in; of the decays: x, dy, squares in
    """
    half = shared / 2
    made = (2 * (width + half) + 4 * state) + (2 * shared + 4 * square)
    if not backward:
        return made + (4 + 2) * state + (4 * square + 2 * (width + half + state) + 2 * width)
    chain = (4 + 4) * state + (2 * (width + half) + 4 * state) + (4 + 4 + 2 + 2) * state
    inputs = 2 * (2 * width + half + state) + 4 * square + 2 * width
    groups = 2 * (2 * width + 2 * state) + 4 * shared
    squares = (4 * width + 4 * square) + 2 * (4 * square + 2 * half + 4 * half + 2 * half)
    return made + chain + inputs + groups + squares + (4 * width + 4 * square)


def scan_seconds(
    *,
    tokens: Values,
    sequence_length: Values,
    chunk: float,
    bytes_a_token: Values,
    memory_gb_per_s: float,
    backward: bool = False,
) -> Values:
    """Seconds of the scan over one layer's local heads. [s]

        tokens bytes / (0.42 bandwidth) + min(tokens, sequence length) / chunk chain    (twice the chain backward)

    Share and chain are those of the gated delta rule's kernels, which are of the same kind: assumed, no measurement of
    this scan was found.
    """
    chain = np.minimum(tokens, sequence_length) / chunk * CHAIN_SECONDS * (2 if backward else 1)
    return bytes_a_token * tokens / (BANDWIDTH_SHARE * memory_gb_per_s * GB) + chain
