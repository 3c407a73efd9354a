"""Whole training steps on fake tensors: the bytes alive in each phase as torch makes and frees them, without a GPU.

    python validation/autograd/steps.py             prints the table
    python validation/autograd/steps.py --write     also writes validation/autograd/steps.json

Needs the extra `autograd` and peft. A network of the catalog in full depth is trained for a step with AdamW, whose
moments are there already; every storage that an operation makes is counted from its making until it is freed, in units
of 512 bytes as the CUDA allocator does. Nothing is measured: kernels' own scratch space, cuBLAS' workspace,
fragmentation and the CUDA context are not seen. Real FlashAttention keeps what the stub keeps.
"""

from __future__ import annotations

import argparse
import json
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import linear_kernels
import torch
import transformers
from networks import ATTENTION, configuration
from saved_bytes import prepare, targets_of
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from planner.inputs.catalog import default_catalog

RESULTS = Path(__file__).with_name("steps.json")
DATE = "2026-11-22"
BLOCK = 512
"""Smallest unit of the CUDA caching allocator. [bytes]"""
ADAPTER_RANK = 16


@dataclass(frozen=True)
class Step:
    """One training step of a network of the catalog."""

    model: str
    precision: str
    """bf16, fp32, or autocast: fp32 weights under 16-bit autocast, as Trainer(bf16=True) runs them."""
    checkpoint: bool
    micro_batch: int
    tokens: int
    adapter: str = ""
    """Empty, or the format of rank-16 adapters on all linear layers over a frozen base: fp32 (peft's default), bf16."""
    adamw: str = "foreach"
    """torch's implementation of AdamW: foreach (its default on CUDA) or fused."""
    outputs_held: bool = False
    """Does the caller hold the logits during backward? Trainer drops them, a bare loop does not."""
    accumulated: bool = False
    """Whether it is a step's second micro-batch: gradients of the first are there, new ones are added to them."""
    layers: int = 0
    """So many layers, all of one kind, instead of the network's own; 0 for those."""
    own_loss: bool = False
    """Does the caller compute cross-entropy itself, on a shifted copy of the logits as they are made?"""


class FlashStub(torch.autograd.Function):
    """FlashAttention 2: keeps the log-sum-exp; backward makes an fp32 query gradient and expanded k, v gradients."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """An empty output; [batch, tokens, heads, head size]."""
        batch, tokens, heads, _ = query.shape
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out, query.new_empty(batch, heads, tokens, dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor, ...]:
        """Empty gradients beside the kernel's temporaries."""
        query, key, value, _out, rows = ctx.saved_tensors
        temporaries = [torch.empty_like(query, dtype=torch.float32), torch.empty_like(rows)]
        if key.shape[2] != query.shape[2]:
            temporaries += [torch.empty_like(query), query.new_empty(*query.shape[:-1], value.shape[-1])]
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> tuple[torch.Tensor, None]:
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
    return FlashStub.apply(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)), None


class Alive(TorchDispatchMode):
    """Bytes of all storages alive, their peak since `begin`, and what was alive then."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = dict[int, tuple[int, str]]()
        self.now = self.peak = 0
        self.at_peak = dict[int, tuple[int, str]]()
        self.phase = ""

    def begin(self, phase: str) -> None:
        """Start a phase: the peak is what is alive now."""
        self.phase, self.peak, self.at_peak = phase, self.now, dict(self.sizes)

    def add(self, tensor: torch.Tensor, maker: str) -> None:
        """Count a tensor's storage, unless it is known."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // BLOCK) * BLOCK
        if key in self.sizes:
            return
        self.sizes[key] = (size, f"{self.phase}: {maker} {tuple(tensor.shape)} {str(tensor.dtype)[6:]}")
        self.now += size
        weakref.finalize(storage, self._free, key)
        if self.now > self.peak:
            self.peak, self.at_peak = self.now, dict(self.sizes)

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key)[0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor, str(func))
        return out


def _network(step: Step) -> torch.nn.Module:
    architecture = _architecture(step.model)
    layers = step.layers or architecture.num_hidden_layers
    config = configuration(architecture, layers=layers, moe_layer=architecture.is_moe, dropout=False)
    if architecture.learned_positions:
        config.n_positions = architecture.learned_positions
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16 if step.precision == "bf16" else torch.float32
    )
    if step.checkpoint:
        model.gradient_checkpointing_enable()
    if not step.adapter:
        return model.train()
    from peft import LoraConfig, get_peft_model

    model.enable_input_require_grads()
    targets = list(targets_of("lora", architecture))
    adapters = LoraConfig(r=ADAPTER_RANK, lora_alpha=2 * ADAPTER_RANK, target_modules=targets)
    model = get_peft_model(model, adapters).train()
    for parameter in model.parameters():
        if parameter.requires_grad:  # peft makes them fp32; autocast_adapter_dtype=False casts none on the meta device
            parameter.data = parameter.data.to(torch.float32 if step.adapter == "fp32" else torch.bfloat16)
    return model


def _faked(model: torch.nn.Module) -> torch.nn.Module:
    """Tensors of the meta device replaced by fake ones of the CPU, for autocast knows no meta device; ties stay."""
    made: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for name, old in [*module._parameters.items(), *module._buffers.items()]:
            if old is None:
                continue
            if id(old) not in made:
                new = torch.empty(old.shape, dtype=old.dtype)
                made[id(old)] = torch.nn.Parameter(new, old.requires_grad) if name in module._parameters else new
            (module._parameters if name in module._parameters else module._buffers)[name] = made[id(old)]
    return model


def _architecture(name: str) -> Any:
    from planner.errors import Place

    return default_catalog().find("models", name, Place("steps.py"))


def _own_loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in the format of the logits; a slice of several sequences is copied to be flattened."""
    return torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))


def run(step: Step) -> tuple[dict[str, int], dict[int, tuple[int, str]]]:
    """Bytes held before the step and at the peak of each phase; and what is alive at the peak of all phases."""
    peaks: dict[str, int] = {}
    fullest: dict[int, tuple[int, str]] = {}
    with torch.device("meta"):
        network = _network(step)
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        model = _faked(network)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, foreach=step.adamw == "foreach", fused=step.adamw == "fused")
        alive = Alive()
        for tensor in (*model.parameters(), *model.buffers()):
            alive.add(tensor, "weight")
        peaks["weights"] = alive.now
        stack.enter_context(alive)
        ids = torch.zeros(step.micro_batch, step.tokens, dtype=torch.long)
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        if not step.accumulated:
            optimizer.zero_grad(set_to_none=True)
        peaks["held"] = alive.now
        alive.begin("forward")
        with torch.autocast("cpu", torch.bfloat16) if step.precision == "autocast" else nullcontext():
            if step.own_loss:
                out = model(input_ids=ids, use_cache=False)
                loss = _own_loss(out.logits, ids)
            else:
                out = model(input_ids=ids, labels=ids, use_cache=False, num_items_in_batch=torch.ones(()))
                loss = out.loss
        held = out if step.outputs_held else None
        del out
        phases = {"forward": (alive.peak, alive.at_peak)}
        peaks["kept"] = alive.now
        alive.begin("backward")
        loss.backward()
        del loss, held
        phases["backward"] = (alive.peak, alive.at_peak)
        alive.begin("optimizer")
        optimizer.step()
        phases["optimizer"] = (alive.peak, alive.at_peak)
        peaks |= {name: peak for name, (peak, _) in phases.items()}
        fullest = max(phases.values(), key=lambda pair: pair[0])[1]
    return peaks, fullest


def steps() -> Iterator[Step]:
    """All rows: models and precisions with and without checkpointing; then lengths, batches, adapters, optimizers."""
    for model in ("llama3.2-1b", "qwen2.5-0.5b", "qwen2.5-1.5b", "qwen3-0.6b", "gemma2-2b"):
        for precision in ("bf16", "autocast", "fp32"):
            for checkpoint in (False, True):
                yield Step(model, precision, checkpoint, 1, 4096)
    for model in ("llama3.2-1b", "qwen2.5-1.5b"):
        for checkpoint in (False, True):
            yield Step(model, "bf16", checkpoint, 1, 4096, adapter="fp32")
            yield Step(model, "bf16", checkpoint, 1, 4096, adapter="bf16")
            yield Step(model, "autocast", checkpoint, 1, 4096, adapter="fp32")
            yield Step(model, "fp32", checkpoint, 1, 4096, adapter="fp32")
        for micro_batch, tokens in ((4, 1024), (4, 4096), (1, 16384)):
            yield Step(model, "bf16", True, micro_batch, tokens)
        yield Step(model, "bf16", False, 2, 1024)
        yield Step(model, "bf16", True, 1, 4096, outputs_held=True)
        for precision in ("bf16", "autocast"):
            yield Step(model, precision, True, 1, 512)
            yield Step(model, precision, True, 1, 512, adamw="fused")
    for model in ("olmo2-1b", "qwen3-1.7b", "llama3.2-3b", "gpt2-xl", "phi-3-mini-4k", "llama3.1-8b", "qwen3-30b-a3b"):
        for checkpoint in (False, True):
            yield Step(model, "bf16", checkpoint, 1, 1024 if model in ("gpt2-xl", "qwen3-30b-a3b") else 4096)
    for model in ("llama3.2-3b", "llama3.1-8b"):
        for adapter in ("fp32", "bf16"):
            yield Step(model, "bf16", True, 1, 4096, adapter=adapter)
    for model, layers in (("llama3.2-1b", 0), ("mixtral-8x7b", 4), ("qwen3-30b-a3b", 4), ("deepseek-v3", 2)):
        for checkpoint in (False, True):
            yield Step(model, "bf16", checkpoint, 1, 4096, layers=layers, accumulated=True)
    for checkpoint in (False, True):
        yield Step("qwen3.5-4b", "bf16", checkpoint, 1, 4096)
        yield Step("qwen3.5-35b-a3b", "bf16", checkpoint, 1, 4096, layers=4)
    yield Step("qwen3.5-4b", "autocast", True, 1, 4096)
    for checkpoint in (False, True):
        yield Step("qwen3.5-4b", "bf16", checkpoint, 1, 4096, adapter="fp32")
    for precision in ("autocast", "fp32"):
        yield Step("mixtral-8x7b", precision, True, 1, 4096, layers=4, accumulated=True)
    for model in ("llama3.2-1b", "llama3.1-8b"):
        yield Step(model, "bf16", True, 1, 256, accumulated=True)
    for model in ("llama3.2-1b", "llama3.1-8b", "gemma2-2b", "phi-3-mini-4k"):
        yield Step(model, "bf16", True, 2, 4096, own_loss=True)
    yield Step("llama3.2-1b", "bf16", False, 2, 4096, own_loss=True)
    for precision in ("fp32", "autocast"):
        yield Step("llama3.2-1b", precision, True, 2, 4096, own_loss=True)
    for model in ("llama3.2-1b", "llama3.2-3b"):
        yield Step(model, "bf16", True, 2, 4096, adapter="fp32", own_loss=True)
    yield Step("llama3.2-1b", "bf16", True, 2, 4096, accumulated=True, own_loss=True)


def main() -> None:
    """Count the rows, all or those not yet written, print them, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--missing", action="store_true", help="only rows that steps.json does not hold")
    parser.add_argument("--only", default="", help="models whose id holds this")
    parser.add_argument("--top", type=int, default=0, help="largest groups of tensors alive at the peak")
    arguments = parser.parse_args()
    prepare()
    if any(_architecture(step.model).is_linear for step in steps() if arguments.only in step.model):
        linear_kernels.prepare()
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
    names = [field.name for field in fields(Step)]
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    known = {Step(**{name: row[name] for name in names if name in row}): row for row in stored}
    for step in steps():
        if arguments.only not in step.model or (arguments.missing and step in known):
            continue
        peaks, fullest = run(step)
        known[step] = {**asdict(step), **peaks}
        print(json.dumps(known[step]), flush=True)
        groups: dict[str, int] = {}
        for size, maker in fullest.values():
            groups[maker] = groups.get(maker, 0) + size
        for maker, size in sorted(groups.items(), key=lambda pair: -pair[1])[: arguments.top]:
            print(f"    {size / 2**20:10.1f} MiB  {maker}")
        if arguments.write:
            _store([{**asdict(each), **known[each]} for each in steps() if each in known])


def _store(rows: list[dict[str, Any]]) -> None:
    head = {"date": DATE, "torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    text = json.dumps({**head, "adapter_rank": ADAPTER_RANK})[:-1]
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    RESULTS.write_text(f'{text}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
