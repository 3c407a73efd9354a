"""Bytes that Megatron's own cross-entropy moves, counted while it runs on a CPU: `python -m pytest -m engines`."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

import pytest

from planner.inputs.catalog import default_catalog

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
TOKENS, VOCABULARY = 32, 2048
MOVE_NOTHING = ("aten::view", "aten::detach", "aten::index", "aten::index_put_")
"""Operators that make a view, or touch one logit a token."""


def test_the_plain_loss_moves_as_many_bytes_a_logit_as_the_engine_file_says() -> None:
    torch = pytest.importorskip("torch")
    loss = pytest.importorskip("megatron.core.tensor_parallel.cross_entropy")
    mode = pytest.importorskip("torch.utils._python_dispatch").TorchDispatchMode
    tree_flatten = pytest.importorskip("torch.utils._pytree").tree_flatten

    moved: list[int] = []

    class Counting(mode):  # type: ignore[misc, valid-type, unused-ignore]
        """Whole tensors of logits that an operator reads and writes; what it writes in place it reads as well."""

        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = op(*args, **(kwargs or {}))
            if op._schema.name not in MOVE_NOTHING:
                tensors = [*tree_flatten(args)[0], *tree_flatten(made)[0]]
                whole = [t for t in tensors if isinstance(t, torch.Tensor) and t.numel() == TOKENS * VOCABULARY]
                moved.append(sum(t.element_size() for t in whole))
            return made

    with mock.patch.dict(os.environ, MASTER_ADDR="127.0.0.1", MASTER_PORT="29577"):
        torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    try:
        logits = torch.randn(TOKENS, 1, VOCABULARY, dtype=torch.bfloat16, requires_grad=True)
        target = torch.randint(0, VOCABULARY, (TOKENS, 1))
        with Counting():
            each = loss.vocab_parallel_cross_entropy(logits, target, tp_group=torch.distributed.group.WORLD)
            (each * 0.5).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert [one for one in moved if one] == [6, 4, 8, 8, 4, 8, 8, 6]
    assert sum(moved) == default_catalog().find("engines", "megatron-core").timing.loss_bytes
