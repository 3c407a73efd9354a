"""Seconds of the gated delta rule of linear attention: kernels that read and write, and a chain from chunk to chunk.

Each chunk of 64 tokens passes a state of key times value size a head on to the next one. Source of the kernels:
fla-org/flash-linear-attention @bc3b101d fla/ops/gated_delta_rule/chunk.py; bytes are what each of them must read and
write.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.units import GB

Values: TypeAlias = float | NDArray[np.float64]

CHUNK = 64
BANDWIDTH_SHARE = 0.42
"""Of the memory bandwidth on the data sheet that the kernels reach together, forward: 0.40 on H100, 0.42 on H200 and
0.46 on B200 by ai-dynamo/aiconfigurator @095f58a5, gdn_perf.parquet of sglang 0.5.14 (H100, B200) and vllm 0.22.0
(H200), 32 and 8 value heads of 128 at 32,768 tokens. Going backward taken alike: counted, not measured."""
CHAIN_SECONDS = 1.3e-6
"""A chunk's wait for the one before: 0.75 us on H100, 2.1 us on B200, by the same rows."""
LAUNCHES = {False: 6, True: 10}
"""Kernels of the rule, forward and backward."""


def rule_bytes(*, key: float, value: float, backward: bool = False) -> float:
    """Bytes that a token and value head move, 16 bits an element, with a state of key times value every 64 tokens.

    forward   A: k in; w, u: k, v, A in, two out; state: k, w, u in, v' and state out; output: q, k, v', state in,
              o out
    backward  w, u and states again; dv: q, k, do in, one out; dstate: q, k, w, do, dv in, dstate and dv out;
              dq, dk, dw: q, k, v', w, do, dv and both states in, three out; k, v, A, dw, du in, dk and dv out;
              dk added
    """
    state, triangle = key * value / CHUNK, float(CHUNK)
    again = 2 * key + 2 * value + triangle + (2 * key + 2 * value + state)
    if not backward:
        return 2.0 * (key + triangle + again + (2 * key + 2 * value + state))
    local = 2 * key + 2 * value
    states = 3 * key + 3 * value + state
    main = 6 * key + 3 * value + 2 * state
    return 2.0 * (again + local + states + main + (3 * key + 3 * value + triangle) + 3 * key)


def rule_seconds(
    *,
    tokens: Values,
    sequence_length: Values,
    heads: Values,
    key: float,
    value: float,
    memory_gb_per_s: float,
    backward: bool = False,
) -> Values:
    """Seconds of the rule over one layer's local value heads. [s]

        heads tokens bytes / (0.42 bandwidth) + min(tokens, sequence length) / 64 chain    (twice the chain backward)

    Assumes sequences of one micro-batch to pass their chains side by side. H100, 32 heads of 128, 32,768 tokens in one
    sequence: 4.0 ms measured.
    """
    moved = rule_bytes(key=key, value=value, backward=backward) * heads * tokens
    chain = np.minimum(tokens, sequence_length) / CHUNK * CHAIN_SECONDS * (2 if backward else 1)
    return moved / (BANDWIDTH_SHARE * memory_gb_per_s * GB) + chain
