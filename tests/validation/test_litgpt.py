"""LitGPT by hand: what layers, the loss and its caller hold, beside the planner and what was measured."""

from __future__ import annotations

import pytest

from planner.costs.item_names import ItemName
from planner.units import GIB
from planner.validation.memory.express import Prediction
from planner.validation.memory.score import MemoryResult


@pytest.fixture(scope="module")
def rows(result: MemoryResult) -> dict[str, Prediction]:
    return {p.case.id: p for p in result.predictions if p.case.source == "thunder_litgpt_bench"}


def amount(p: Prediction, name: ItemName) -> float:
    return sum(gib for item, gib, _ in p.items() if item == name)


@pytest.mark.parametrize(
    ("name", "ranks", "layers"), [("thunder-01", 1, 2), ("thunder-03", 8, 2), ("thunder-15", 8, 20)]
)
def test_a_compiled_llama_by_hand(rows: dict[str, Prediction], name: str, ranks: int, layers: int) -> None:
    """13B, two sequences of 4,096: 6 B a parameter, 23.5 hidden vectors a layer in 16 bits, 4 x 2 B a logit."""
    tokens, hidden, ffn, vocab, heads = 8192, 5120, 13824, 32000, 40
    parameters = layers * (4 * hidden**2 + 3 * hidden * ffn + 2 * hidden) + 2 * vocab * hidden + hidden
    norms, attention, mlp = 4 * hidden, (3 + 2 + 1 + 1) * hidden, 3 * ffn
    layer = tokens * (2 * (norms + attention + mlp) + 4 * heads + 4 * 2)
    head = tokens * (8 * vocab + 4 * hidden)
    by_hand = (6 * parameters / ranks + layers * layer + head) / GIB
    assert rows[name].gib == pytest.approx(by_hand, rel=0.002)
    assert rows[name].gib == pytest.approx(rows[name].case.memory_gib, rel=0.015)


def test_the_caller_holds_logits_while_layers_run_backward(rows: dict[str, Prediction]) -> None:
    """Five sequences of 16,384, 32,000 logits each in 16 bits: 4.9 GiB of 47.5."""
    held = amount(rows["thunder-33"], ItemName.LOGITS_AND_LOSS)
    assert rows["thunder-33"].moment == "recomputation"
    assert held == pytest.approx(5 * 16384 * 32000 * 2 / GIB, rel=1e-6)
    assert rows["thunder-33"].error == pytest.approx(0, abs=0.02)


def test_modules_of_their_own_leave_nothing_gathered_at_the_loss(rows: dict[str, Prediction]) -> None:
    assert rows["thunder-07"].moment == "loss"
    assert amount(rows["thunder-07"], ItemName.GATHERED_LAYERS) == 0
    assert amount(rows["thunder-17"], ItemName.GATHERED_LAYERS) > 5


def test_blocks_side_by_side_read_one_input(rows: dict[str, Prediction]) -> None:
    """StableCode: one vector a layer and token less than a network whose MLP reads what attention was added to."""
    p = rows["thunder-21"]
    vectors = 3 + 5 + 2 + 8
    layer = 8192 * (2 * 2560 * vectors + 4 * 32 + 8 * 2)
    assert amount(p, ItemName.ACTIVATIONS_KEPT_LAYERS) == pytest.approx(32 * layer / GIB, rel=0.01)
    assert p.error == pytest.approx(0, abs=0.01)
