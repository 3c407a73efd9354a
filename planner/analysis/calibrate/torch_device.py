"""The GPU as torch sees it. The only module that imports torch, and only when a device is made."""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from planner.analysis.calibrate.device import GRAPH_REPEATS, Job, fastest, queued
from planner.errors import InputError, Mistake, Place


class TorchDevice:
    """One GPU (or, to try the calls, the CPU) through torch."""

    def __init__(self, kind: str = "cuda") -> None:
        try:
            import torch
        except ImportError:
            raise InputError(
                Mistake(
                    "calibrate --device needs torch",
                    where=Place("--device"),
                    because="it is not installed in this environment",
                    attempt="pip install 'planner[calibrate]' on the machine with the GPU",
                )
            ) from None
        self.torch: Any = torch
        if kind == "cuda" and not torch.cuda.is_available():
            raise InputError(
                Mistake(
                    "calibrate --device needs a GPU",
                    where=Place("--device"),
                    because=f"torch {torch.__version__} finds no CUDA device here",
                    attempt="the same command on a machine with one, or --log FILE of a run made there",
                )
            )
        self.kind = kind
        self.num_gpus = torch.cuda.device_count() if kind == "cuda" else 1
        self.attention_kernels: dict[str, str] = {}

    def facts(self) -> dict[str, str]:
        """Name, versions, and what the driver says about clocks."""
        torch = self.torch
        found = {"device": "CPU", "torch": str(torch.__version__), "cuda": str(torch.version.cuda)}
        if self.kind != "cuda":
            return found
        found |= {"device": torch.cuda.get_device_name(0), "num_gpus": str(self.num_gpus)}
        if self.attention_kernels:
            found["attention_kernels"] = "; ".join(f"{case}: {name}" for case, name in self.attention_kernels.items())
        wanted = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit"
        try:
            done = subprocess.run(
                ["nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader", "--id=0"],
                capture_output=True,
                text=True,
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return found | {"driver": "not known: nvidia-smi did not answer"}
        names = ("driver", "clock_sm", "clock_memory", "clock_sm_most", "power_limit")
        return found | dict(zip(names, (value.strip() for value in done.stdout.split(",")), strict=False))

    def total_bytes(self) -> float:
        """Memory that torch sees; of the CPU the host's. [bytes]"""
        if self.kind == "cuda":
            return float(self.torch.cuda.mem_get_info(0)[1])
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))

    def _tensor(self, *shape: int, grad: bool = False) -> Any:
        torch = self.torch
        return torch.randn(shape, device=self.kind, dtype=torch.bfloat16, requires_grad=grad)

    def _job(self, work: Callable[[], object]) -> Job:
        """Times each repeat between two events of the stream (the clock on a CPU)."""
        torch = self.torch

        def run(repeats: int) -> list[float]:
            if self.kind != "cuda":
                return [_clocked(work) for _ in range(repeats)]
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
            marks[0].record()
            for mark in marks[1:]:
                work()
                mark.record()
            torch.cuda.synchronize()
            return [before.elapsed_time(after) / 1e3 for before, after in itertools.pairwise(marks)]

        return run

    def _queued(self, work: Callable[[], object]) -> Job:
        """As `_job`; a short piece is replayed from a CUDA graph, so that the GPU does not wait for the host."""
        job = self._job(work)
        return queued(job, lambda: self._job(self._graph(work).replay)) if self.kind == "cuda" else job

    def _graph(self, work: Callable[[], object]) -> Any:
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            for _ in range(GRAPH_REPEATS):
                work()
        return graph

    def gemm(self, m: int, n: int, k: int) -> Job:
        """One bf16 product [m, k] x [k, n], the weight stored as torch.nn.Linear stores it."""
        left, weight, out = self._tensor(m, k), self._tensor(n, k), self._tensor(m, n)
        return self._queued(lambda: self.torch.matmul(left, weight.t(), out=out))

    def attention(self, batch: int, heads: int, tokens: int, head_size: int, backward: bool) -> Job:
        """Causal attention by the faster of torch's kernels: its flash one is FlashAttention 2 on Hopper too."""
        torch = self.torch
        shape = (batch, heads, tokens, head_size)
        query, key, value = (self._tensor(*shape, grad=backward) for _ in range(3))
        given = self._tensor(*shape)

        def job(kernel: Any) -> Job:
            def work() -> None:
                with torch.nn.attention.sdpa_kernel(kernel):
                    out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
                    if backward:
                        torch.autograd.grad(out, (query, key, value), given)

            return self._job(work)

        kinds = torch.nn.attention.SDPBackend
        jobs = {"flash": job(kinds.FLASH_ATTENTION)}
        if self.kind == "cuda" and hasattr(kinds, "CUDNN_ATTENTION"):
            jobs["cudnn"] = job(kinds.CUDNN_ATTENTION)
        name, best = fastest(jobs, RuntimeError)
        self.attention_kernels[f"{tokens} tokens, head size {head_size}{', backward' * backward}"] = name
        return best

    def copy(self, size_bytes: int) -> Job:
        """One copy inside device memory."""
        torch = self.torch
        source = torch.empty(size_bytes, dtype=torch.uint8, device=self.kind)
        target = torch.empty_like(source)
        return self._job(lambda: target.copy_(source))

    def training(self, hidden: int, feed_forward: int, heads: int, tokens: int) -> tuple[Job, Callable[[], float]]:
        """A step of two bf16 decoder layers with AdamW, and the peak memory since they were made."""
        torch = self.torch
        nn, functional = torch.nn, torch.nn.functional
        if self.kind == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

        class Layer(nn.Module):  # type: ignore[misc, name-defined]
            """Attention and gated MLP, each behind an RMS norm."""

            def __init__(self) -> None:
                super().__init__()
                self.norms = nn.ModuleList([nn.RMSNorm(hidden), nn.RMSNorm(hidden)])
                self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
                self.out = nn.Linear(hidden, hidden, bias=False)
                self.up = nn.Linear(hidden, 2 * feed_forward, bias=False)
                self.down = nn.Linear(feed_forward, hidden, bias=False)

            def forward(self, x: Any) -> Any:
                """One layer on [tokens, hidden]."""
                parts = self.qkv(self.norms[0](x)).view(tokens, 3, heads, hidden // heads)
                query, key, value = parts.permute(1, 2, 0, 3).unsqueeze(1)
                mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
                x = x + self.out(mixed[0].transpose(0, 1).reshape(tokens, hidden))
                gate, up = self.up(self.norms[1](x)).chunk(2, dim=-1)
                return x + self.down(functional.silu(gate) * up)

        model = nn.Sequential(Layer(), Layer()).to(device=self.kind, dtype=torch.bfloat16)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        data = self._tensor(tokens, hidden)

        def work() -> None:
            model(data).float().square().mean().backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        def peak() -> float:
            return float(torch.cuda.max_memory_allocated()) if self.kind == "cuda" else 0.0

        return self._job(work), peak

    def collective(self, op: str, num_gpus: int, sizes: Sequence[int], repeats: int) -> list[list[float]]:
        """Seconds of a collective over the first GPUs of the node, one process a GPU."""
        multiprocessing = self.torch.multiprocessing
        with tempfile.TemporaryDirectory() as folder:
            arguments = (num_gpus, op, list(sizes), repeats, folder, self.kind)
            multiprocessing.spawn(_rank, args=arguments, nprocs=num_gpus, join=True)
            text = Path(folder, "seconds").read_text(encoding="utf-8")
        return [[float(value) for value in line.split()] for line in text.splitlines()]


def _either(module: Any, name: str, older: str) -> Any:
    """A function by its name in torch 2.13, or before."""
    return getattr(module, name, None) or getattr(module, older)


def _clocked(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _rank(rank: int, size: int, op: str, sizes: list[int], repeats: int, folder: str, kind: str) -> None:
    """One process of a collective; the first one writes the seconds."""
    import torch

    group: Any = torch.distributed
    if kind == "cuda":
        torch.cuda.set_device(rank)
    meeting = f"file://{folder}/meeting"
    group.init_process_group("nccl" if kind == "cuda" else "gloo", init_method=meeting, rank=rank, world_size=size)
    lines = []
    for size_bytes in sizes:
        whole = torch.zeros(max(size, size_bytes // 2 // size * size), dtype=torch.bfloat16, device=kind)
        part = torch.zeros(whole.numel() // size, dtype=torch.bfloat16, device=kind)
        call, tensors = {
            "all_reduce": (group.all_reduce, (whole,)),
            "all_gather": (_either(group, "all_gather_single", "all_gather_into_tensor"), (whole, part)),
            "reduce_scatter": (_either(group, "reduce_scatter_single", "reduce_scatter_tensor"), (part, whole)),
        }[op]
        work = functools.partial(call, *tensors)
        inner = 20 if size_bytes <= 1 << 20 else 5

        def block(work: Callable[[], object] = work, inner: int = inner) -> float:
            if kind == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(inner):
                work()
            if kind == "cuda":
                torch.cuda.synchronize()
            return (time.perf_counter() - start) / inner

        statistics.mean(block() for _ in range(2))  # warm up
        lines.append(" ".join(repr(block()) for _ in range(repeats)))
    group.barrier()
    if rank == 0:
        Path(folder, "seconds").write_text("\n".join(lines) + "\n", encoding="utf-8")
    group.destroy_process_group()
