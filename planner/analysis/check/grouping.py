"""Allocations of a snapshot grouped to the items of a ledger: by stack, by life, by size.

    stack    functions of PyTorch, Megatron, FSDP and others that allocate one thing only (STACKS)
    life     what is there before the recorded events and after them is state; what a step frees is not
    size     a parameter's shape (weights.py), or tokens times the vocabulary

An allocation that none of them places is unexplained, and said to be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from planner.analysis.check.weights import BLOCK, NAMINGS, block_bytes, weight_sizes
from planner.costs.item_names import ItemName
from planner.costs.memory.tensor_widths import padded_vocab_size
from planner.inputs.snapshot import Allocation, Snapshot, Stack
from planner.search.plan import Plan

SMALLEST = 1 << 20
"""Blocks below this are counted together where nothing places them. [bytes]"""
STACKS: tuple[tuple[str, ItemName], ...] = (
    (r"getCurrentCUDABlasHandle|getCUDABlasLtWorkspace|cublas_lt_workspace|get_cublas_workspace",
     ItemName.LIBRARY_WORKSPACES),
    (r"_fsdp_collectives\.py:|_fsdp_param_group\.py:|_flat_param\.py:_?(?:unshard|all_gather)|partition_parameters\.py:"
     r"|partitioned_param_coordinator\.py:", ItemName.GATHERED_LAYERS),
    (r"utils/checkpoint\.py:(?:unpack_hook|recompute_fn|recompute|backward)|tensor_parallel/random\.py:backward",
     ItemName.ACTIVATIONS_LAYER_BEING_RECOMPUTED),
    (r"log_?probs?_and_entropy|compute_log_probs|calculate_log_probs|logprobs_from_logits|get_logprobs|forward_only",
     ItemName.LOG_PROBABILITY_LOGITS),
    (r"cross_entropy|loss_utils\.py:|loss_function|lm_head|output_layer|float_conversion|compute_language_model_loss",
     ItemName.LOGITS_AND_LOSS),
    (r"param_and_grad_buffer\.py:|main_grad", ItemName.GRADIENTS),
)  # fmt: skip
"""Names in stacks. Sources: torch 2.13.0 (ATen/cuda/CublasHandlePool.cpp, distributed/fsdp, utils/checkpoint.py),
Megatron-core 0.19 (distributed/param_and_grad_buffer.py, tensor_parallel/random.py, models/common/language_module),
DeepSpeed 0.19 (runtime/zero), transformers 5.23 (loss/loss_utils.py), slime 0.3 (utils/ppo_utils.py)."""
STEPPING = re.compile(
    r"torch/optim/|distrib_optimizer\.py:|optimizer\.py:step|bitsandbytes/optim|zero/stage|fused_adam"
)
TURNED_BACK = "torch/autograd/function.py:apply"
"""Outermost frame of a backward pass that Python runs: autograd's own thread calls it, beneath any layer's frame."""
CHECKPOINTED = re.compile(r"utils/checkpoint\.py:|modeling_layers\.py:__call__|tensor_parallel/random\.py:forward")
LINEAR = re.compile(r"modules/linear\.py:forward|functional\.py:linear")
_STACKS = tuple((re.compile(pattern), item) for pattern, item in STACKS)


@dataclass(frozen=True)
class Grouped:
    """Bytes of a snapshot's fullest moment by item of a ledger."""

    bytes: dict[ItemName, int]
    unexplained: tuple[tuple[int, int, str], ...]
    """(bytes together, blocks, size and innermost function), largest first."""
    small_bytes: int
    """Blocks below 1 MiB that nothing places."""
    matched_bytes: int
    """Placed by a parameter's size."""

    @property
    def explained_share(self) -> float:
        """Share of all bytes that land on an item."""
        found = sum(self.bytes.values())
        rest = self.small_bytes + sum(size for size, _, _ in self.unexplained)
        return found / (found + rest) if found + rest else 1.0


def grouped(snapshot: Snapshot, plan: Plan, stage: int) -> Grouped:
    """Group what was allocated at the fullest moment of a rank of that stage, by the naming that explains most."""
    found = [_Grouping(snapshot, plan, stage, naming).run() for naming in NAMINGS]
    return max(found, key=lambda each: each.matched_bytes)


class _Grouping:
    """What is still open while a snapshot is grouped."""

    def __init__(self, snapshot: Snapshot, plan: Plan, stage: int, naming: tuple[str, ...]) -> None:
        self.snapshot, self.plan = snapshot, plan
        sizes = weight_sizes(plan, stage, naming)
        self.matched = 0
        self.buffers = sizes.buffers
        self.wanted = {size: dict(items) for size, items in sizes.demand.items()}
        self.found: Counter[ItemName] = Counter()
        a, tp = plan.problem.architecture, plan.layout["tensor_parallel"]
        by = plan.problem.engine.vocab_divisible_by
        self.vocab = {
            int(padded_vocab_size(vocab_size=a.vocab_size, divisible_by=by, tensor_parallel=np.asarray(tp))) // tp,
            a.vocab_size,
        }
        lengths = plan.layout["sequence_length"] * plan.layout["micro_batch_size"]
        self.tokens = max(lengths, plan.layout["max_tokens"]) * 1.5
        self.recomputes = any(plan.recomputed)
        self.known: dict[Stack, str] = {}
        made = [e.made for e in snapshot.peak if e.made is not None and e.freed is not None and self.is_loss(e)]
        self.first_logits = min(made, default=-1)
        """Event that begins the loss: what passes and was made before it is of the forward pass."""

    def run(self) -> Grouped:
        rest: list[Allocation] = []
        standing: list[Allocation] = []
        passing: list[Allocation] = []
        for each in self.snapshot.peak:
            (standing if self.stands(each) else passing).append(each)
        for each in standing:
            self.place(each, self.state(each), rest)
        for each in passing:
            self.place(each, self.of_step(each), rest)
        small = sum(each.size for each in rest if each.size < SMALLEST)
        return Grouped(dict(self.found), _kinds(each for each in rest if each.size >= SMALLEST), small, self.matched)

    def place(self, each: Allocation, item: ItemName | None, rest: list[Allocation]) -> None:
        if item is None:
            rest.append(each)
        else:
            self.found[item] += each.size

    def text(self, each: Allocation) -> str:
        return self.known.setdefault(each.stack, "\n".join(each.stack))

    def stands(self, each: Allocation) -> bool:
        """State is there before the events or made in a step, and not freed; without events nothing is known."""
        if not self.snapshot.events:
            return False
        ended = self.snapshot.peak_event is not None and self.snapshot.peak_event >= self.snapshot.events
        if each.freed is not None:
            return False
        return each.made is None or not ended or bool(STEPPING.search(self.text(each)))

    def state(self, each: Allocation) -> ItemName | None:
        """An item that lasts over steps."""
        text = self.text(each)
        if STEPPING.search(text):
            self.take(each.size, (ItemName.OPTIMIZER,))
            return ItemName.OPTIMIZER
        known = self.by_stack(text)
        if known in (ItemName.LIBRARY_WORKSPACES, ItemName.GRADIENTS):
            return known
        kept = (ItemName.WEIGHTS, ItemName.FROZEN_BASE_WEIGHTS, ItemName.OPTIMIZER, ItemName.GRADIENTS)
        return self.take(each.size, kept) or self.buffers.get(block_bytes(each.size))

    def of_step(self, each: Allocation) -> ItemName | None:
        """An item that a step makes and frees."""
        text = self.text(each)
        if STEPPING.search(text):
            return ItemName.OPTIMIZER_TEMPORARIES
        if (known := self.by_stack(text)) is not None:
            return known
        if not text:
            return self.without_stack(each)
        if each.stack[-1].endswith(TURNED_BACK) and not CHECKPOINTED.search(text):
            made = self.take(each.size, (ItemName.GRADIENTS,))
            if made is not None:
                return made
        if LINEAR.search(text) and (copy := self.take(each.size, (ItemName.COPIES_OF_WEIGHTS,))):
            return copy
        if self.is_logits(each.size):
            return ItemName.LOGITS_AND_LOSS
        return self.forward(self.recomputes and bool(CHECKPOINTED.search(text)))

    def forward(self, recomputed: bool) -> ItemName:
        """What layers keep for the backward pass."""
        return ItemName.ACTIVATIONS_RECOMPUTED_LAYERS if recomputed else ItemName.ACTIVATIONS_KEPT_LAYERS

    def without_stack(self, each: Allocation) -> ItemName | None:
        """Python has no frames where autograd's own thread allocates; nor where no stacks were recorded."""
        events = bool(self.snapshot.events)
        if events and each.made is not None and each.made < self.first_logits:
            copy = self.take(each.size, (ItemName.COPIES_OF_WEIGHTS,))
            return copy or self.forward(self.recomputes)
        state = () if events else (ItemName.WEIGHTS, ItemName.FROZEN_BASE_WEIGHTS, ItemName.OPTIMIZER)
        found = self.take(each.size, (*state, ItemName.GRADIENTS)) or self.buffers.get(block_bytes(each.size))
        if found is not None:
            return found
        if self.is_logits(each.size):
            return ItemName.LOGITS_AND_LOSS
        if self.stacks_known:
            return ItemName.LAYER_RUNNING_BACKWARD
        return ItemName.ACTIVATIONS_KEPT_LAYERS if self.is_of_tokens(each.size) else None

    @property
    def stacks_known(self) -> bool:
        return any(each.stack for each in self.snapshot.peak if each.freed is not None)

    def by_stack(self, text: str) -> ItemName | None:
        return next((item for pattern, item in _STACKS if pattern.search(text)), None)

    def take(self, size: int, items: tuple[ItemName, ...]) -> ItemName | None:
        """One of the tensors of that size that an item still wants."""
        wanted = self.wanted.get(block_bytes(size), {})
        for item in items:
            if wanted.get(item, 0) > 0:
                wanted[item] -= 1
                self.matched += size
                return item
        return None

    def is_logits(self, size: int) -> bool:
        """Whole tokens times a vocabulary shard, in 16 or 32 bits, up to 512 bytes of rounding."""
        for width in self.vocab:
            for each in (2, 4):
                tokens = size // (width * each)
                if 64 <= tokens <= self.tokens and size - tokens * width * each < BLOCK:
                    return True
        return False

    def is_loss(self, each: Allocation) -> bool:
        """Logits that the forward pass makes: what is as large as the table is as large as those of hidden_size tokens.

        Its gradient is made by autograd's own thread, without Python frames, and its temporaries by the optimizer;
        without any frames sizes must tell.
        """
        if not self.is_logits(each.size):
            return False
        if self.stacks_known:
            return bool(each.stack) and not STEPPING.search(self.text(each))
        return block_bytes(each.size) not in self.wanted

    def is_of_tokens(self, size: int) -> bool:
        """Tokens of a micro-batch times a width of a layer, in 16 or 32 bits."""
        lay, a = self.plan.layout, self.plan.problem.architecture
        tokens = lay["sequence_length"] * lay["micro_batch_size"] // lay["context_parallel"]
        wide = a.num_experts_per_tok * (a.moe_intermediate_size or 0) if a.num_experts_per_tok else a.intermediate_size
        for width in (a.hidden_size, wide, 2 * wide, a.query_width, a.key_value_width):
            for cut in {1, lay["tensor_parallel"]}:
                if any(0 <= size - tokens * width // cut * each < BLOCK for each in (2, 4)):
                    return True
        return False


def _kinds(rest: Iterable[Allocation]) -> tuple[tuple[int, int, str], ...]:
    """What is left by size and innermost function."""
    kinds: dict[tuple[int, str], int] = {}
    for each in rest:
        key = each.size, each.stack[0] if each.stack else ""
        kinds[key] = kinds.get(key, 0) + 1
    rows = [(size * count, count, f"{size:,} bytes {where}".strip()) for (size, where), count in kinds.items()]
    return tuple(sorted(rows, key=lambda row: (-row[0], row[2])))
