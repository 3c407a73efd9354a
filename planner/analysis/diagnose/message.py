"""What an out-of-memory message says: which limit was hit, how many bytes were asked for, where it happened.

Forms read, with their source:

    CUDA            PyTorch c10/cuda/CUDACachingAllocator.cpp, the present form and the one before 2.2
    memory saver    torch_memory_saver.cpp `malloc return OOM` (the exact size, where slime prints it)
    engine start    vLLM v1/core/kv_cache_utils.py and v1/worker/gpu_worker.py; SGLang model_runner.py
    host            Ray's memory monitor (node_manager.cc), Linux oom-killer and control groups
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import partial
from typing import Literal

from planner.errors import InputError, Mistake, Place
from planner.units import GIB, parse_size_bytes

Kind = Literal["cuda", "no_cache", "too_long", "fraction_too_large", "pool_full", "host"]
KINDS: dict[Kind, str] = {
    "cuda": "a GPU allocation failed",
    "no_cache": "a rollout engine found no room for its key-value pool while starting",
    "too_long": "a rollout engine's key-value pool is too small for one longest request",
    "fraction_too_large": "a rollout engine wants more memory at start than is free",
    "pool_full": "a rollout engine's key-value pool ran full",
    "host": "a process was killed for host memory",
}
MOST_BYTES = 2.0**54
"""16 PiB: no machine has more."""
ROUNDING = 2 * 1024**2
"""PyTorch rounds allocations above 10 MiB up to this (kRoundLarge), and prints the rounded size. [bytes]"""

_PLAIN = r"([0-9]{1,18}(?:\.[0-9]+)?)"
_SIZE = r"([0-9][0-9,]*(?:\.[0-9]+)?)\s*(KiB|MiB|GiB|TiB|KB|MB|GB|TB|bytes|B)\b"
_FIRST: tuple[tuple[Kind, str], ...] = (
    ("host", r"killed due to memory pressure|killed due to the node running low on memory|oom-kill:|oom_kill"),
    ("host", r"Out of memory: Killed process|Memory cgroup out of memory|OOMKilled|host memory\s+[0-9]"),
    ("no_cache", r"No available memory for the cache blocks"),
    ("no_cache", r"Not enough memory\.? Please try to increase --mem-fraction-static"),
    ("too_long", r"KV cache is needed, which is larger than the available KV cache memory"),
    ("too_long", r"larger than the maximum number of tokens that can be stored in KV cache"),
    ("fraction_too_large", r"on startup is less than desired GPU memory utilization"),
    ("pool_full", r"KV cache pool is full|Decode out of memory|Prefill out of memory"),
    ("cuda", r"Tried to allocate|CUDA out of memory|CUDA error: out of memory|CUDA Error: out of memory"),
    ("cuda", r"OutOfMemoryError: (?:CUDA|HIP)|HIP out of memory|cudaErrorMemoryAllocation|malloc return OOM"),
)


@dataclass(frozen=True)
class Site:
    """Where in a run a message arose, from names in its traceback."""

    side: Literal["trainer", "rollout engine"]
    phase: str
    about: tuple[str, ...]
    """Groups of tensors (`Candidate.group`) that this place allocates."""


SITES: tuple[tuple[str, Site], ...] = (
    (r"[Cc]apture.{0,20}cuda.?graph|cuda.?graph.{0,20}[Cc]apture|CudaGraphRunner",
     Site("rollout engine", "engine start, CUDA graphs", ("rollout",))),
    (r"cumem_allocator|wake_up|resume_memory_occupation|onload_weights|update_weights|sync_weights|refit",
     Site("rollout engine", "weight sync", ("weights", "rollout"))),
    (r"optimizer\.step|exp_avg|_foreach_|adamw?\.py|fused_adam",
     Site("trainer", "optimizer step", ("state",))),
    (r"log_?probs?\b|log_probs_and_entropy|cross_entropy|float_conversion|lm_head|output_layer|log_softmax|entropy",
     Site("trainer", "training, logits and loss", ("logits",))),
    (r"\.backward\(|autograd/__init__|backward_step",
     Site("trainer", "training, backward", ("activations", "state"))),
    (r"all_gather|_unshard|all_gather_into_tensor|fetch_sub_module",
     Site("trainer", "training, gathering weights", ("weights",))),
    (r"param_and_grad_buffer|grad_data|main_grad",
     Site("trainer", "start of training, gradient buffer", ("state",))),
    (r"mlp\.py|experts\.py|moe_layer|linear_fc|gate_up_proj|swiglu",
     Site("trainer", "training, MLP", ("activations",))),
    (r"flash_attn|dot_product_attention|attention\.py",
     Site("trainer", "training, attention", ("activations",))),
    (r"load_model|load_weights|from_pretrained",
     Site("trainer", "loading weights", ("weights",))),
)  # fmt: skip
_SCORING = re.compile(r"compute_(?:ref_)?log_probs?\b(?!\()|forward_only|get_logprobs|reference_(?:policy_)?logprobs")
_ROLLOUT = re.compile(r"vllm|sglang|EngineCore|model_runner|ModelRunner|scheduler\.py|gpu_worker")


@dataclass(frozen=True)
class Message:
    """One out-of-memory message. Amounts are bytes; None where the message does not say."""

    kind: Kind
    quote: str
    """The line that was understood."""
    requested: tuple[float, float] | None = None
    """Smallest and largest size that prints as the message does."""
    exact: bool = False
    """The size was printed in bytes, already rounded up to 2 MiB."""
    capacity: float | None = None
    free: float | None = None
    allocated: float | None = None
    reserved_unallocated: float | None = None
    others: float = 0.0
    """Used by other processes on the same GPU."""
    host_used: float | None = None
    host_limit: float | None = None
    fraction: float | None = None
    """Memory fraction that the message names."""
    site: Site | None = None


def read_message(text: str, name: str = "the message") -> Message:
    """Understand an out-of-memory message, or a log around one; the first one in the text counts. `name` stands for
    the text in messages.

    Raises InputError when there is none, or for an amount that no machine has.
    """
    found = [(m.start(), order, kind) for order, (kind, p) in enumerate(_FIRST) if (m := re.search(p, text))]
    if not found:
        raise InputError(
            Mistake(
                "no out-of-memory message recognised" if text.strip() else "the message is empty",
                Place(name, 1),
                "known: PyTorch `Tried to allocate ...`, vLLM and SGLang start-up errors, Ray and kernel host kills",
                "paste the whole line that says what was out of memory, best with the traceback above it",
            )
        )
    start, _, kind = min(found)
    quote = text[text.rfind("\n", 0, start) + 1 :].partition("\n")[0].strip()
    where = Place(name, text.count("\n", 0, start) + 1)
    return _plausible({"host": _host, "cuda": _cuda}.get(kind, partial(_start, kind))(text, quote), where)


def _start(kind: Kind, text: str, quote: str) -> Message:
    """An engine that did not start, or whose pool ran full."""
    share = re.search(r"utilization \(?([01]?\.[0-9]+)", text)
    free = re.search(r"Free memory on device \(" + _PLAIN + "/" + _PLAIN + r" GiB\)", text)
    return Message(
        kind,
        _short(quote),
        free=float(free.group(1)) * GIB if free else None,
        capacity=float(free.group(2)) * GIB if free else None,
        fraction=float(share.group(1)) if share else None,
        site=Site("rollout engine", "rollout" if kind == "pool_full" else "engine start", ("rollout",)),
    )


def _plausible(message: Message, where: Place) -> Message:
    """The message, unless it asks for nothing or names an amount beyond all memory: then InputError."""
    amounts = {each.name: getattr(message, each.name) for each in fields(message)}
    wrong = [name for name, value in amounts.items() if isinstance(value, float) and not 0 <= value <= MOST_BYTES]
    if message.requested is not None and not 0 < sum(message.requested) <= 2 * MOST_BYTES:
        wrong.append("requested")
    if wrong:
        what = f"the message names no amount of memory as {wrong[0].replace('_', ' ')}"
        raise InputError(Mistake(what, where, message.quote, "amounts above 0 B, up to 16 PiB"))
    return message


def _cuda(text: str, quote: str) -> Message:
    exact = re.search(r"malloc return OOM.{0,80}?\(alloc\)size=([0-9]+)", text)
    asked = re.search(r"[Tt]ried to allocate " + _SIZE, text)
    requested = None
    if exact is not None:
        requested = (max(1.0, float(exact.group(1)) - ROUNDING + 1), float(exact.group(1)))
    elif asked is not None:
        requested = printed_range(asked.group(1), asked.group(2))
    old = re.search(_SIZE + r" reserved in total by PyTorch", text)
    allocated = _find(text, _SIZE + r" (?:is allocated by PyTorch|already allocated)")
    loose = _find(text, _SIZE + r" is reserved by PyTorch but unallocated")
    if old is not None and allocated is not None and loose is None:
        loose = max(0.0, _bytes(old.group(1), old.group(2)) - allocated)
    others = sum(_bytes(*m) for m in _unique(re.findall(r"(Process [0-9]+) has " + _SIZE + r" memory in use", text)))
    own = _find(text, r"this process has " + _SIZE + r" memory in use")
    if own is None and others and allocated is not None:
        others = max(0.0, others - _largest(text))
    return Message(
        "cuda",
        _short(quote),
        requested,
        exact is not None,
        capacity=_find(text, r"total capacity of " + _SIZE) or _find(text, _SIZE + r" total capacity"),
        free=_find(text, _SIZE + r" (?:is )?free"),
        allocated=allocated,
        reserved_unallocated=loose,
        others=others,
        site=_site(text),
    )


def _host(text: str, quote: str) -> Message:
    pair = re.search(_SIZE + r"\s*/\s*" + _SIZE + r"\s*\(0?\.[0-9]+\)", text)
    pair = pair or re.search(r"memory\s+" + _PLAIN + r"()\s*/\s*" + _PLAIN + r"\s*(GB|GiB)", text)
    pair = pair or re.search(_SIZE + r"\s*/\s*" + _SIZE, text)
    used = limit = None
    if pair is not None:
        limit = _ray_bytes(pair.group(3), pair.group(4))
        used = _ray_bytes(pair.group(1), pair.group(2) or pair.group(4))
    elif (rss := re.search(r"anon-rss:([0-9]+)kB", text)) is not None:
        used = float(rss.group(1)) * 1024
    phase = "checkpoint" if re.search(r"save_checkpoint|save_model|checkpointing", text) else "host memory"
    return Message("host", _short(quote), host_used=used, host_limit=limit, site=Site("trainer", phase, ()))


def printed_range(number: str, unit: str) -> tuple[float, float]:
    """Smallest and largest size that is printed as this number. [bytes]

    >>> [round(x / 304128) for x in printed_range("58.15", "GiB")]
    [205284, 205320]
    """
    number = number.replace(",", "")
    step = 10.0 ** -len(number.partition(".")[2]) * _bytes("1", unit)
    middle = _bytes(number, unit)
    return (middle - step / 2, middle + step / 2) if unit not in ("B", "bytes") else (middle, middle)


def _bytes(number: str, unit: str) -> float:
    return parse_size_bytes(f"{number.replace(',', '')} {'B' if unit == 'bytes' else unit}")


def _ray_bytes(number: str, unit: str) -> float:
    """Ray prints GB and means 2^30 bytes."""
    return _bytes(number, unit.replace("GB", "GiB"))


def _find(text: str, pattern: str) -> float | None:
    match = re.search(pattern, text)
    return None if match is None else _bytes(match.group(1), match.group(2))


def _unique(found: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Sizes of distinct processes."""
    return list({process: (number, unit) for process, number, unit in found}.values())


def _largest(text: str) -> float:
    sizes = re.findall(r"Process [0-9]+ has " + _SIZE + r" memory in use", text)
    return max(_bytes(*size) for size in sizes)


def _site(text: str) -> Site | None:
    for pattern, site in SITES:
        if re.search(pattern, text):
            if site.about == ("logits",) and _SCORING.search(text):
                return Site(site.side, "log-probabilities", site.about)
            if site.side == "trainer" and _ROLLOUT.search(text) and "Train" not in text:
                return Site("rollout engine", "rollout", ("rollout",))
            return site
    return Site("rollout engine", "rollout", ("rollout",)) if _ROLLOUT.search(text) else None


def _short(line: str, limit: int = 160) -> str:
    line = " ".join(line.split())
    return line if len(line) <= limit else line[: limit - 4].rsplit(" ", 1)[0] + " ..."
