"""The frozen reference formula for nanotron: which fit/OOM rows are hard. Never improve it: it only picks rows.

    stage 0      W(L/p layers + embedding) + min(m, p) L/p A                (+ 14 t v / tp where p = 1)
    last stage   W(L/p layers + head)      +           L/p A + 14 t v / tp
    W            20 bytes a parameter with ZeRO-0, 10 + 14 / dp with ZeRO-1
    A            t/tp (8 h + 4 (a d + 2 k d) + 2 a d + 8 f) + 4 t a / tp

Read off the corpus by hand, nothing fitted (closed form of the survey of public memory models). A row is hard when the
larger of the two stages lies between 40 and 130 GiB on an 80 GB card: half to one and a half times what torch can use.
"""

from __future__ import annotations

from planner.units import GIB
from planner.validation.memory.cases import Case

HARD_FROM_GIB = 40.0
HARD_TO_GIB = 130.0


def reference_peak_gib(case: Case) -> float:
    """Peak of the fuller of the first and the last stage by the closed form. [GiB]"""
    a, lay = case.arch, case.layout
    h, f, v = a["hidden_size"], a["intermediate_size"], a["vocab_size"]
    query, key = a["num_attention_heads"] * a["head_dim"], a["num_key_value_heads"] * a["head_dim"]
    tp, pp, dp = lay["tp"], lay["pp"], lay["dp"]
    layers = a["num_hidden_layers"] / pp
    tokens = case.micro_batch_size or 1
    tokens *= case.sequence_length or 1
    layer = (h * (query + 2 * key) + query * h + 3 * h * f) / tp
    table = v * h / tp
    each = 20.0 if lay["zero_stage"] == 0 or dp == 1 else 10 + 14 / dp
    kept = (
        tokens / tp * (8 * h + 4 * (query + 2 * key) + 2 * query + 8 * f) + 4 * tokens * a["num_attention_heads"] / tp
    )
    logits = 14 * tokens * v / tp
    tables = table if pp > 1 or a["tie_word_embeddings"] else 2 * table
    in_flight = min(case.grad_accum or pp, pp)
    first = each * (layers * layer + tables) + in_flight * layers * kept + (logits if pp == 1 else 0.0)
    last = each * (layers * layer + tables) + layers * kept + logits
    return float(max(first, last)) / GIB


def is_hard(case: Case) -> bool:
    """Near the limit by the reference formula."""
    return HARD_FROM_GIB <= reference_peak_gib(case) <= HARD_TO_GIB
