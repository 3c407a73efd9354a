"""Memory snapshots of whole training steps in PyTorch's own format, with the owner of every tensor beside them.

    PYTHONPATH=validation/autograd python validation/snapshots/record.py       writes tests/fixtures/snapshots

Needs the extra `autograd`. Two steps of a network of the catalog run on fake tensors; each storage that an operation
makes goes through a small caching allocator (blocks of 512 bytes, best fit, segments as CUDA's), and what that did is
written as `torch.cuda.memory._dump_snapshot` writes it: segments with blocks, and the trace of the second step with
Python frames. As on CUDA, operations of the backward pass have no Python frames, for they run on a thread of their own.
Beside each snapshot stands what the planner cannot see: the item of its ledger that each block at the peak belongs to.
"""

from __future__ import annotations

import gzip
import json
import pickle
import sys
import weakref
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from networks import ATTENTION
from stand_ins import prepare
from steps import BLOCK, Step, _attention, _faked, _network
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

OUT = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "snapshots"
SMALL, LARGE, MIB = 1 << 20, 10 << 20, 1 << 20
MOST_FRAMES = 12
OF_THE_RECORDER = ("record.py", "steps.py", "_python_dispatch", "torch/_dynamo/eval_frame.py", "torch/_compile.py")
"""Frames that are there because a dispatch mode looks on; on CUDA there are none in autograd's thread."""
ROWS = {
    "qwen2.5-0.5b": (Step("qwen2.5-0.5b", "bf16", False, 1, 2048), False),
    "llama3.2-1b-checkpoint": (Step("llama3.2-1b", "bf16", True, 2, 4096), True),
    "qwen3-0.6b-autocast": (Step("qwen3-0.6b", "autocast", True, 1, 4096), True),
}
"""Name: the step, and whether the history began before the weights were made (else with the second step)."""


@dataclass
class Block:
    """A piece of a segment."""

    address: int
    size: int
    requested: int = 0
    frames: tuple[dict[str, Any], ...] = ()
    live: bool = False
    serial: int = 0
    """Which allocation of the address this is."""


class CachingAllocator:
    """Segments and blocks as CUDA's caching allocator makes them: best fit, split where enough is left."""

    def __init__(self) -> None:
        self.next = 0x7F0000000000
        self.segments: list[tuple[int, int, str, list[Block]]] = []
        self.trace: list[dict[str, Any]] = []
        self.recording = False
        self.clock = self.taken = 0

    def take(self, requested: int, frames: tuple[dict[str, Any], ...]) -> Block:
        """Allocate."""
        size = max(BLOCK, -(-requested // BLOCK) * BLOCK)
        kind = "small" if size <= SMALL else "large"
        free = [(b.size, b.address, blocks, b) for _, _, k, blocks in self.segments if k == kind for b in blocks
                if not b.live and b.size >= size]  # fmt: skip
        if free:
            _, _, blocks, block = min(free, key=lambda each: each[:2])
        else:
            total = 2 * MIB if kind == "small" else 20 * MIB if size < LARGE else -(-size // (2 * MIB)) * 2 * MIB
            block = Block(self.next, total)
            blocks = [block]
            self.segments.append((self.next, total, kind, blocks))
            self.event("segment_alloc", self.next, total, frames)
            self.next += total + (2 << 20)
        left = block.size - size
        if left >= BLOCK if kind == "small" else left > SMALL:
            blocks.insert(blocks.index(block) + 1, Block(block.address + size, left))
            block.size = size
        self.taken += 1
        block.live, block.requested, block.frames, block.serial = True, requested, frames, self.taken
        self.event("alloc", block.address, requested, frames)
        return block

    def give(self, block: Block) -> None:
        """Free, and join with free neighbours."""
        block.live = False
        for action in ("free_requested", "free_completed"):
            self.event(action, block.address, block.requested, ())
        blocks = next(blocks for start, total, _, blocks in self.segments if start <= block.address < start + total)
        at = blocks.index(block)
        if at + 1 < len(blocks) and not blocks[at + 1].live:
            block.size += blocks.pop(at + 1).size
        if at and not blocks[at - 1].live:
            blocks[at - 1].size += block.size
            blocks.pop(at)

    def event(self, action: str, address: int, size: int, frames: tuple[dict[str, Any], ...]) -> None:
        """One entry of the trace; allocations say what was asked for, before it was rounded."""
        self.clock += 10
        if self.recording:
            entry = {"action": action, "addr": address, "size": size, "stream": 0, "time_us": self.clock}
            self.trace.append({**entry, "frames": list(frames)})

    def snapshot(self) -> dict[str, Any]:
        """As `torch.cuda.memory._snapshot` returns it."""
        segments = []
        for start, total, kind, blocks in self.segments:
            live = sum(b.size for b in blocks if b.live)
            inner = [
                {
                    "address": b.address,
                    "size": b.size,
                    "requested_size": b.requested if b.live else b.size,
                    "state": "active_allocated" if b.live else "inactive",
                    "frames": list(b.frames) if b.live else [],
                }
                for b in blocks
            ]
            head = {"device": 0, "address": start, "total_size": total, "allocated_size": live, "active_size": live}
            head |= {"stream": 0, "segment_type": kind, "segment_pool_id": (0, 0), "is_expandable": False}
            segments.append({**head, "frames": [], "blocks": inner})
        settings = {"PYTORCH_CUDA_ALLOC_CONF": "", "max_split_size": -1, "garbage_collection_threshold": 0.0}
        return {"segments": segments, "device_traces": [self.trace], "allocator_settings": settings}


class Recorder(TorchDispatchMode):
    """Sends every storage through the allocator, and knows whose it is."""

    def __init__(self, allocator: CachingAllocator) -> None:
        super().__init__()
        self.allocator = allocator
        self.owner: dict[int, tuple[int, str]] = {}
        """Address and item by serial number."""
        self.blocks: dict[int, Block] = {}
        self.region = "weights"
        self.parameters: set[int] = set()
        self.frames: dict[tuple[str, int, str], dict[str, Any]] = {}
        self.now = self.peak = 0
        self.at_peak: dict[int, tuple[int, str]] = {}
        self.watching = False
        self.keeps_frames = False

    def stack(self) -> tuple[dict[str, Any], ...]:
        """Python frames, innermost first; in the backward pass those of re-entered Python alone."""
        out, frame = [], sys._getframe(3)
        while frame is not None and len(out) < MOST_FRAMES:
            code = frame.f_code
            if code.co_name == "_engine_run_backward":
                break
            place = code.co_filename.rpartition("site-packages/")[2].rpartition("lib/python3.11/")[2]
            if not any(part in place for part in OF_THE_RECORDER):
                key = (place, frame.f_lineno, code.co_name)
                made = {"filename": place, "line": key[1], "name": key[2]}
                out.append(self.frames.setdefault(key, made))
            frame = frame.f_back
        return tuple(out)

    def add(self, tensor: torch.Tensor, item: str) -> None:
        """Allocate a tensor's storage, unless it has been."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.blocks or not storage.nbytes():
            return
        frames = self.stack() if self.keeps_frames else ()
        block = self.allocator.take(storage.nbytes(), frames)
        self.blocks[key], self.owner[block.serial] = block, (block.address, item)
        self.now += block.requested
        weakref.finalize(storage, self._free, key)
        if self.watching and self.now > self.peak:
            self.peak, self.at_peak = self.now, dict(self.owner)

    def rename(self, tensor: torch.Tensor, item: str) -> None:
        """What a tensor turned out to be."""
        block = self.blocks.get(tensor.untyped_storage()._cdata)
        if block is not None:
            self.owner[block.serial] = block.address, item
            if block.serial in self.at_peak:
                self.at_peak[block.serial] = block.address, item

    def _free(self, key: int) -> None:
        block = self.blocks.pop(key)
        self.now -= block.requested
        self.owner.pop(block.serial)
        self.allocator.give(block)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and allocate what it made."""
        out = func(*args, **(kwargs or {}))
        item = self.region
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self.parameters:
            item = "16-bit copies of weights"
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor, item)
        return out


def _regions(model: Any, recorder: Recorder, step: Step) -> None:
    """Hooks that say which part of the ledger runs."""
    kept = "activations, kept layers"
    first = "activations, recomputed layers" if step.checkpoint else kept
    backward = {"on": False}

    def enter(*_: Any) -> None:
        rebuilt = "activations, layer being recomputed"
        recorder.region = rebuilt if backward["on"] else ("layer running forward" if step.checkpoint else kept)

    def leave(_: Any, __: Any, out: Any) -> None:
        if backward["on"]:
            recorder.region = "layer running backward"
            return
        hidden = out[0] if isinstance(out, tuple) else out
        recorder.rename(hidden, first)
        recorder.region = first

    def loss(*_: Any) -> None:
        recorder.region = "logits and loss"

    def last(out: Any) -> None:
        def reached(_: Any) -> None:
            backward["on"], recorder.region = True, "layer running backward"

        if out.requires_grad:
            out.register_hook(reached)

    decoder = (model.get_base_model() if step.adapter else model).model
    for layer in decoder.layers:
        layer.register_forward_pre_hook(enter)
        layer.register_forward_hook(leave)
    decoder.norm.register_forward_pre_hook(lambda _, inputs: (loss(), last(inputs[0]))[0])
    recorder.backward = backward  # type: ignore[attr-defined]


def record(step: Step, whole_history: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """(snapshot, what each block at the peak was)."""
    with torch.device("meta"):
        network = _network(step)
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode())
        model = _faked(network)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, foreach=True)
        allocator = CachingAllocator()
        recorder = Recorder(allocator)
        allocator.recording = recorder.keeps_frames = whole_history
        for tensor in (*model.parameters(), *model.buffers()):
            frozen = step.adapter and not tensor.requires_grad
            recorder.add(tensor, "frozen base weights" if frozen else "weights")
        recorder.parameters = {p.untyped_storage()._cdata for p in model.parameters()}
        _regions(model, recorder, step)
        stack.enter_context(recorder)
        ids = torch.zeros(step.micro_batch, step.tokens, dtype=torch.long)
        for turn in range(2):
            if turn == 1:
                allocator.recording = recorder.keeps_frames = recorder.watching = True
            recorder.region = "activations, recomputed layers" if step.checkpoint else "activations, kept layers"
            recorder.backward["on"] = False  # type: ignore[attr-defined]
            with torch.autocast("cpu", torch.bfloat16) if step.precision == "autocast" else nullcontext():
                out = model(input_ids=ids, labels=ids, use_cache=False, num_items_in_batch=torch.ones(()))
            loss = out.loss
            del out
            loss.backward()
            del loss
            for parameter in trained:
                recorder.rename(parameter.grad, "gradients")
            recorder.region = "optimizer temporaries"
            optimizer.step()
            for state in optimizer.state.values():
                for value in state.values():
                    recorder.rename(value, "optimizer")
            optimizer.zero_grad(set_to_none=True)
        snapshot = pickle.loads(pickle.dumps(allocator.snapshot(), protocol=4))
    owners = [[hex(address), item] for address, item in sorted(recorder.at_peak.values())]
    return snapshot, {"peak_bytes": recorder.peak, "owners": owners}


def main() -> None:
    """Record all rows."""
    prepare()
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (step, whole_history) in ROWS.items():
        snapshot, truth = record(step, whole_history)
        data = pickle.dumps(snapshot, protocol=4)
        (OUT / f"{name}.pickle.gz").write_bytes(gzip.compress(data, 9, mtime=0))
        text = json.dumps({"step": step.__dict__, **truth}, separators=(",", ":"))
        (OUT / f"{name}.owners.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        events = len(snapshot["device_traces"][0])
        print(f"{name}: peak {truth['peak_bytes'] / 2**30:.3f} GiB, {events} events, {len(data) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
