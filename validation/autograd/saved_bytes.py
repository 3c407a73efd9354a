"""What autograd really keeps: bytes of saved tensors of each decoder layer of the catalog, counted without a GPU.

    python validation/autograd/saved_bytes.py            prints the table
    python validation/autograd/saved_bytes.py --write    also writes validation/autograd/results.json

Needs the extra `autograd` (torch 2.13.0, transformers 5.23.0). Networks stand on the meta device, so nothing is
computed or allocated. A layer's bytes are those of three layers less those of two. Counted are distinct storages that
are neither parameters nor buffers. The attention kernel is a stub that keeps what FlashAttention keeps.
"""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from lora import add_adapters
from networks import ATTENTION, configuration
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModel, AutoModelForCausalLM, masking_utils
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from planner.inputs.catalog import default_catalog
from planner.schema.catalog import Architecture

RESULTS = Path(__file__).with_name("results.json")
DATE = "2026-11-21"
TOKENS = 4096
MANY_TOKENS = 1 << 18
ADAPTER_RANK = 16
VARIANTS = ("dora", "lora-fa")
"""Adapters that keep something else than LoRA's."""
ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SEPARATE_MATRICES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2")
"""Model types whose projections carry the names above; phi3 and gpt2 fuse them."""
LOSS_MODELS = ("qwen2.5-0.5b", "qwen3-0.6b", "llama3.2-1b", "gpt2", "olmo2-1b")
BACKWARD_MODELS = ("qwen2.5-7b", "qwen3-8b", "llama3.1-8b", "mistral-7b-v0.3", "gpt2-xl", "olmo2-7b", "gemma2-9b")


class FlashStub(torch.autograd.Function):
    """Keeps query, key, value, output and one fp32 log-sum-exp a row and head, as FlashAttention does."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """An empty output of the right shape; [batch, tokens, heads, head size]."""
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        batch, tokens, heads, _ = query.shape
        ctx.save_for_backward(query, key, value, out, query.new_empty(batch, heads, tokens, dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor, ...]:
        """Empty gradients."""
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> tuple[torch.Tensor, None]:
    if query.device.type != "meta" and torch.is_autocast_enabled(query.device.type):
        query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
    return FlashStub.apply(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)), None


def _cuda_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Dropout as CUDA does it: a mask of one byte an element. Off CUDA torch keeps a mask in the input's format."""
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def prepare() -> None:
    """Register the stub; replace the two places that look at values, or that differ between devices."""
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
    ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, flash_attention_mask)
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    torch.nn.functional.dropout = _cuda_dropout


class WeightCopies(TorchDispatchMode):
    """Notes storages that are a parameter in another format: autocast keeps them once a step, whatever the tokens."""

    def __init__(self, parameters: set[int]) -> None:
        super().__init__()
        self.parameters, self.copies = parameters, dict[int, Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; remember the result of casting a parameter."""
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self.parameters:
            self.copies[out.untyped_storage()._cdata] = out
        return out


class Live(TorchDispatchMode):
    """Bytes of all storages alive, and their peak."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known, self.now, self.peak = known, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _storages(model: torch.nn.Module) -> set[int]:
    return {t.untyped_storage()._cdata for t in [*model.parameters(), *model.buffers()]}


@contextmanager
def _device(mode: str) -> Iterator[str]:
    """The meta device; under autocast a fake CPU, for autocast knows no meta device."""
    with ExitStack() as stack:
        if mode == "autocast":
            stack.enter_context(FakeTensorMode())
        yield "cpu" if mode == "autocast" else "meta"


def _build(architecture: Architecture, layers: int, moe: bool, mode: str, device: str, head: bool = False) -> Any:
    config = configuration(architecture, layers=layers, moe_layer=moe, dropout=mode == "dropout")
    with torch.device(device):
        model = (AutoModelForCausalLM if head else AutoModel).from_config(
            config, dtype=torch.float32 if mode == "autocast" else torch.bfloat16
        )
        if mode.startswith(("lora", "dora")):
            add_adapters(model, targets_of(mode), ADAPTER_RANK, mode if mode in VARIANTS else "lora")
    if mode == "checkpoint":
        model.gradient_checkpointing_enable()
    return model.train()


def targets_of(mode: str) -> tuple[str, ...]:
    """Adapted matrices of a LoRA mode."""
    return ("q_proj", "v_proj") if mode == "lora q_proj v_proj" else ALL_TARGETS


def saved_bytes(architecture: Architecture, layers: int, tokens: int, moe: bool, mode: str) -> int:
    """Bytes that a forward pass through that many layers leaves for backward."""
    with _device(mode) as device, ExitStack() as stack:
        model = _build(architecture, layers, moe, mode, device)
        own = _storages(model)
        kept: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage
            return tensor

        ids = torch.zeros(1, tokens, dtype=torch.long, device=device)
        copies = stack.enter_context(WeightCopies(own))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        if mode == "autocast":
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        out = model(input_ids=ids, use_cache=False)
        total = sum(s.nbytes() for key, s in kept.items() if key not in copies.copies)
        del out
        return total


def live_after_forward(architecture: Architecture, layers: int, tokens: int, moe: bool, mode: str) -> int:
    """Bytes alive when the forward pass is over: also sees what checkpointing keeps outside autograd's own lists."""
    with _device(mode) as device:
        model = _build(architecture, layers, moe, mode, device)
        ids = torch.zeros(1, tokens, dtype=torch.long, device=device)
        with Live(_storages(model)) as live:
            out = model(input_ids=ids, use_cache=False)
            now = live.now
        del out
        return now


def backward_peak(architecture: Architecture, tokens: int) -> int:
    """Peak of forward and backward through two layers, weight gradients included; the final norm is left out."""
    model = _build(architecture, 2, False, "full", "meta")
    setattr(model, "ln_f" if hasattr(model, "ln_f") else "norm", torch.nn.Identity())
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    with Live(_storages(model)) as live:
        out = model(input_ids=ids, use_cache=False).last_hidden_state
        gradient = torch.empty_like(out)
        out.backward(gradient)
        return live.peak


def loss_peak(architecture: Architecture, tokens: int, keep_logits: bool) -> int:
    """Peak of final norm, head, cross-entropy and their backward as Transformers has them, head gradient included."""
    model = _build(architecture, 1, False, "full", "meta", head=True)
    base = model.base_model
    norm = base.ln_f if hasattr(base, "ln_f") else base.norm
    leaf = torch.empty(1, tokens, architecture.hidden_size, dtype=torch.bfloat16, device="meta", requires_grad=True)
    labels = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    count = torch.empty((), dtype=torch.long, device="meta")
    known = _storages(model) | {t.untyped_storage()._cdata for t in (leaf, labels, count)}
    with Live(known) as live:
        logits = model.lm_head(norm(leaf * 1.0))
        loss = model.loss_function(
            logits=logits, labels=labels, vocab_size=architecture.vocab_size, num_items_in_batch=count
        )
        if not keep_logits:
            del logits
        loss.backward()
        return live.peak


def _slope(peak: Callable[[int], int], tokens: int) -> int:
    """Part of a peak that grows with tokens, at that many tokens; taken where it outweighs the weight gradients."""
    many = MANY_TOKENS // tokens
    return (peak(2 * many * tokens) - peak(many * tokens)) // many


def measure(architecture: Architecture, moe: bool, mode: str, tokens: int) -> int:
    """Bytes of one case."""
    if mode == "loss":
        return _slope(lambda n: loss_peak(architecture, n, True), tokens)
    if mode == "loss, outputs dropped":
        return _slope(lambda n: loss_peak(architecture, n, False), tokens)
    if mode == "backward":
        return _slope(lambda n: backward_peak(architecture, n), tokens) - 2 * measure(architecture, moe, "full", tokens)
    count = live_after_forward if mode == "checkpoint" else saved_bytes
    return count(architecture, 3, tokens, moe, mode) - count(architecture, 2, tokens, moe, mode)


def cases(architectures: dict[str, Architecture]) -> Iterator[tuple[str, bool, str]]:
    """(model, layer with experts, mode) of every row."""
    for name, a in architectures.items():
        kinds = [True, False] if a.first_k_dense_replace else [a.is_moe]
        for moe in kinds:
            yield name, moe, "full"
            yield name, moe, "checkpoint"
        if a.hidden_dropout:
            yield name, False, "dropout"
        if a.model_type in SEPARATE_MATRICES:
            yield name, False, "lora"
            yield name, False, "lora q_proj v_proj"
            for variant in VARIANTS if name in BACKWARD_MODELS else ():
                yield name, False, variant
            yield name, False, "autocast"
        if name in BACKWARD_MODELS:
            yield name, False, "backward"
        if name in LOSS_MODELS:
            yield name, False, "loss"
            yield name, False, "loss, outputs dropped"


def table(only: list[str]) -> list[dict[str, Any]]:
    """Every case, measured."""
    catalog = default_catalog()
    architectures = {name: catalog.find("models", name) for name in only or catalog.ids("models")}
    rows = []
    for name, moe, mode in cases(architectures):
        a = architectures[name]
        row = {
            "model": name,
            "layer": "moe" if moe else "dense",
            "mode": mode,
            "tokens": TOKENS,
            "dtype": "float32" if mode == "autocast" else "bfloat16",
        }
        rows.append(row | {"bytes": measure(a, moe, mode, TOKENS)})
        print("  ".join(str(value) for value in rows[-1].values()), flush=True)
    return rows


def main() -> None:
    """Measure, print, and write on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="catalog ids; all of them when none is named")
    parser.add_argument("--write", action="store_true", help="replace results.json")
    arguments = parser.parse_args()
    prepare()
    rows = table(arguments.models)
    if arguments.write:
        head = {
            "what": "bytes a decoder layer keeps for backward, one sequence; see saved_bytes.py",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "date": DATE,
            "adapter_rank": ADAPTER_RANK,
        }
        lines = ",\n".join("    " + json.dumps(row) for row in rows)
        text = json.dumps(head, indent=2)[:-2] + f',\n  "rows": [\n{lines}\n  ]\n}}\n'
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
