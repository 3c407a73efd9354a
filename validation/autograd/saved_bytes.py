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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import linear_kernels
import torch
import transformers
from counting import Live, WeightCopies, own_storages
from linear_kernels import CONVOLUTION, RULE, without
from lora import Kind, add_adapters
from networks import configuration
from stand_ins import prepare
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel, AutoModelForCausalLM
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from planner.inputs.catalog import default_catalog
from planner.schema.catalog import Architecture

RESULTS = Path(__file__).with_name("results.json")
DATE = "2026-11-22"
TOKENS = 4096
MANY_TOKENS = 1 << 18
LOOPED_TOKENS = 1 << 13
"""The same where torch loops over chunks of the delta rule."""
ADAPTER_RANK = 16
VARIANTS = ("dora", "lora-fa")
"""Adapters that keep something else than LoRA's."""
ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FUSED_TARGETS = {
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "qwen3_5_text": (*ALL_TARGETS, "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj"),
}
"""All linear layers of the model types that fuse some of them, or have others."""
SEPARATE_MATRICES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2")
"""Model types whose projections carry the names above; phi3 and gpt2 fuse them."""
FAMILIES = (
    *("qwen2.5-vl-7b", "qwen3-vl-8b", "qwen3-vl-30b-a3b", "ministral-3-3b", "gemma-2b", "smollm3-3b", "seed-oss-36b"),
    *("granite-3.0-8b", "stablelm-2-1.6b", "pythia-1.4b", "phi-2", "starcoder2-3b", "nemotron-mini-4b", "afm-4.5b"),
    *("olmo3-7b", "qwen1.5-moe-a2.7b", "olmoe-1b-7b"),
)
"""One network of each further kind (`model_type`), asked in few modes."""
FAMILY_MODES = ("full", "autocast")
FINAL_NORMS = ("ln_f", "final_layer_norm", "final_layernorm", "norm_f", "norm")
WEIGHT_COPIES = "weight copies"
LINEAR = "linear"
"""Ends the name of a layer with linear attention."""
ALONE = {
    "mamba alone": "linear_attention",
    "attention alone": "full_attention",
    "moe alone": "moe",
    "dense alone": "mlp",
}
"""Layers of one block alone, as transformers calls the block."""
PACKAGES = {"no fla": (RULE,), "no causal-conv1d": (CONVOLUTION,)}
"""Modes of layers with linear attention without a package of kernels."""
LINEAR_MODELS = ("qwen3.5-4b", "qwen3.5-9b", "qwen3.5-27b", "qwen3.5-35b-a3b", "qwen3-next-80b-a3b")
LINEAR_MODES = (
    "backward",
    "fp32 backward",
    "autocast backward",
    "autocast weight copies",
    "no fla",
    "no causal-conv1d",
)
ALONE_MODES = ("backward", "fp32 backward", "autocast backward", "autocast weight copies")
LAYER_MODES = ("full", "checkpoint", "fp32", "fp32 checkpoint", "autocast", "autocast checkpoint")
"""Of every model but FAMILIES."""
ADAPTER_MODES = ("lora 16-bit", "lora dropout", "lora 16-bit dropout", "amp lora", "amp lora dropout", "fp32 lora")
COPY_MODELS = ("deepseek-v3", "qwen3-30b-a3b", "gpt-oss-20b", "llama3.1-8b", "gpt2", "phi-3-mini-4k", "glm-4.5-air")
PADDED = "padded"
PADDED_MODELS = (
    *("qwen2.5-7b", "qwen3-8b", "llama3.1-8b", "mistral-7b-v0.3", "gpt2-xl", "olmo2-7b", "phi-3-mini-4k"),
    *("mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite"),
)
"""A mask hides some tokens; Transformers' own sdpa decides what becomes of keys and values."""
EAGER, EAGER_BACKWARD, EAGER_DROPOUT, EAGER_MASK = "eager", "eager backward", "eager dropout", "eager mask"
"""Transformers' own attention of plain products; checkpointed layers hold its mask."""
EAGER_MODELS = (*PADDED_MODELS, "gemma2-9b", "gpt-oss-20b")
EAGER_BATCHES = 512
"""Scores grow with the square of the length: where a peak's slope is wanted, sequences are added instead of tokens."""
LOSS_MODELS = ("qwen2.5-0.5b", "qwen3-0.6b", "llama3.2-1b", "gpt2", "olmo2-1b", "gemma2-2b", "qwen3.5-4b")
BACKWARD_MODELS = (
    "qwen2.5-7b",
    "qwen3-8b",
    "llama3.1-8b",
    "mistral-7b-v0.3",
    "gpt2-xl",
    "olmo2-7b",
    "gemma2-9b",
    "phi-3-mini-4k",
    "mixtral-8x7b",
    "qwen3-30b-a3b",
    "gpt-oss-20b",
    "deepseek-v2-lite",
)


def _attend(model: Any, mode: str) -> None:
    """Transformers' own attention where a mode says so."""
    if split(mode)[1].startswith(EAGER):
        model.set_attn_implementation(EAGER)


def split(mode: str) -> tuple[str, str]:
    """(format, what is counted) of a mode: `fp32 checkpoint`, `autocast`, `lora`."""
    first, _, rest = mode.partition(" ")
    return (first, rest or "full") if first in ("fp32", "autocast", "amp") else ("bf16", mode)


@contextmanager
def _device(mode: str) -> Iterator[str]:
    """The meta device; under autocast a fake CPU, for autocast knows no meta device."""
    with ExitStack() as stack:
        autocast = split(mode)[0] in ("autocast", "amp")
        if autocast:
            stack.enter_context(FakeTensorMode())
        yield "cpu" if autocast else "meta"


@contextmanager
def _computing(mode: str) -> Iterator[None]:
    """The format that the forward pass computes in."""
    with ExitStack() as stack:
        if split(mode)[0] in ("autocast", "amp"):
            stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        yield


def _build(architecture: Architecture, layers: int, layer: str, mode: str, device: str, head: bool = False) -> Any:
    form, mode = split(mode)
    config = configuration(
        architecture,
        layers=layers,
        moe_layer=layer.startswith("moe"),
        dropout=mode in ("dropout", EAGER_DROPOUT),
        linear=layer.endswith(LINEAR),
        block=ALONE.get(layer),
    )
    with torch.device(device):
        model = (AutoModelForCausalLM if head else AutoModel).from_config(
            config, dtype=torch.bfloat16 if form in ("bf16", "amp") else torch.float32
        )
        if mode.startswith(("lora", "dora")):
            kind = Kind(
                ADAPTER_RANK,
                variant=mode if mode in VARIANTS else "lora",
                dropout=0.05 if mode.endswith("dropout") else 0.0,
                in_base_format="16-bit" in mode,
            )
            add_adapters(model, targets_of(mode, architecture), kind)
    if mode in ("checkpoint", EAGER_MASK):
        model.gradient_checkpointing_enable()
    return model.train()


def targets_of(mode: str, architecture: Architecture) -> tuple[str, ...]:
    """Adapted matrices of a LoRA mode."""
    if mode == "lora q_proj v_proj":
        return ("q_proj", "v_proj")
    return FUSED_TARGETS.get(architecture.model_type, ALL_TARGETS)


def saved_bytes(architecture: Architecture, layers: int, tokens: int, layer: str, mode: str, sequences: int = 1) -> int:
    """Bytes that a forward pass through that many layers leaves for backward; copies of weights are counted apart."""
    with _device(mode) as device, ExitStack() as stack:
        model = _build(architecture, layers, layer, mode, device)
        _attend(model, mode)
        own = own_storages(model)
        kept: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage
            return tensor

        ids = torch.zeros(sequences, tokens, dtype=torch.long, device=device)
        mask = {}
        if mode == PADDED:
            model.set_attn_implementation("sdpa")
            mask["attention_mask"] = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=device)
        copies = stack.enter_context(WeightCopies(own))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor))
        stack.enter_context(_computing(mode))
        out = model(input_ids=ids, use_cache=False, **mask)
        wanted = split(mode)[1] == WEIGHT_COPIES
        total = sum(s.nbytes() for key, s in kept.items() if (key in copies.copies) == wanted)
        del out
        return total


def live_after_forward(architecture: Architecture, layers: int, tokens: int, layer: str, mode: str) -> int:
    """Bytes alive when the forward pass is over: also sees what checkpointing keeps outside autograd's own lists."""
    with _device(mode) as device:
        model = _build(architecture, layers, layer, mode, device)
        _attend(model, mode)
        ids = torch.zeros(1, tokens, dtype=torch.long, device=device)
        own = own_storages(model)
        with WeightCopies(set(own)) as copies, Live(own) as live:
            with _computing(mode):
                out = model(input_ids=ids, use_cache=False)
            copies.copies.clear()
            now = live.now
        del out
        return now


def final_norm(model: torch.nn.Module) -> str:
    """Name of the norm behind the last layer."""
    return next(name for name in FINAL_NORMS if hasattr(model, name))


def backward_peak(architecture: Architecture, tokens: int, layer: str, mode: str, sequences: int = 1) -> int:
    """Peak of forward and backward through two layers, weight gradients included; the final norm is left out."""
    with _device(mode) as device:
        model = _build(architecture, 2, layer, mode, device)
        _attend(model, mode)
        setattr(model, final_norm(model), torch.nn.Identity())
        ids = torch.zeros(sequences, tokens, dtype=torch.long, device=device)
        with Live(own_storages(model)) as live:
            with _computing(mode):
                out = model(input_ids=ids, use_cache=False).last_hidden_state
            gradient = torch.empty_like(out)
            out.backward(gradient)
            return live.peak


class Given(torch.nn.Module):
    """In place of all layers: the last one's output, and the final norm."""

    def __init__(self, norm: torch.nn.Module, leaf: torch.Tensor) -> None:
        super().__init__()
        self.norm, self.leaf = norm, leaf

    def forward(self, *_: Any, **__: Any) -> Any:
        """What the head reads."""
        out = BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=self.norm(self.leaf * 1.0))
        out.router_logits = None  # asked for by networks of experts
        return out


def loss_peak(architecture: Architecture, tokens: int, keep_logits: bool, mode: str) -> int:
    """Peak of final norm, head, cross-entropy and their backward as Transformers has them, head gradient included."""
    with _device(mode) as device:
        model = _build(
            architecture, 1, "attention alone" if architecture.is_hybrid else "dense", mode, device, head=True
        )
        base = model.base_model
        stream = torch.bfloat16 if split(mode)[0] == "bf16" else torch.float32
        leaf = torch.empty(1, tokens, architecture.hidden_size, dtype=stream, device=device, requires_grad=True)
        ids = torch.zeros(1, tokens, dtype=torch.long, device=device)
        count = torch.empty((), dtype=torch.long, device=device)
        setattr(model, model.base_model_prefix, Given(getattr(base, final_norm(base)), leaf))
        known = own_storages(model) | {t.untyped_storage()._cdata for t in (leaf, ids, count)}
        with Live(known) as live:
            with _computing(mode):
                out = model(input_ids=ids, labels=ids, num_items_in_batch=count, use_cache=False)
            loss = out.loss
            if not keep_logits:
                del out
            loss.backward()
            return live.peak


def _slope(peak: Callable[[int], int], tokens: int, most: int) -> int:
    """Part of a peak that grows with tokens, at that many tokens; taken where it outweighs the weight gradients."""
    many = most // tokens
    return (peak(2 * many * tokens) - peak(many * tokens)) // many


def _eager_backward(architecture: Architecture, layer: str, form: str, tokens: int) -> int:
    """Part of two layers' peak that each further sequence adds, above what they keep of it."""
    few, many = EAGER_BATCHES, 2 * EAGER_BATCHES
    before = f"{form} " if form != "bf16" else ""

    def peak(sequences: int) -> int:
        return backward_peak(architecture, tokens, layer, f"{before}{EAGER_BACKWARD}", sequences)

    def kept(sequences: int) -> int:
        a = architecture
        more, less = (saved_bytes(a, n, tokens, layer, f"{before}{EAGER}", sequences) for n in (3, 2))
        return more - less

    return (peak(many) - peak(few)) // few - 2 * (kept(many) - kept(few)) // few


def measure(architecture: Architecture, layer: str, mode: str, tokens: int, most: int = MANY_TOKENS) -> int:
    """Bytes of one case; slopes are taken at `most` tokens."""
    form, what = split(mode)
    for package, names in PACKAGES.items():
        if package in mode:
            with without(architecture.model_type, *names):
                return measure(architecture, layer, mode.replace(package, "").strip() or "full", tokens, LOOPED_TOKENS)
    if what.startswith("loss"):
        return _slope(lambda n: loss_peak(architecture, n, what == "loss", mode), tokens, most)
    if what == EAGER_BACKWARD:
        return _eager_backward(architecture, layer, form, tokens)
    if what == EAGER_MASK:
        before = f"{form} " if form != "bf16" else ""
        eager, fused = (live_after_forward(architecture, 2, tokens, layer, before + m) for m in (what, "checkpoint"))
        return eager - fused
    if what == "backward":
        whole = form if form != "bf16" else "full"
        full = measure(architecture, layer, whole, 2 * tokens) - measure(architecture, layer, whole, tokens)
        return _slope(lambda n: backward_peak(architecture, n, layer, mode), tokens, most) - 2 * full
    count = live_after_forward if what == "checkpoint" else saved_bytes
    return count(architecture, 3, tokens, layer, mode) - count(architecture, 2, tokens, layer, mode)


def _alone(name: str, mlp: str) -> Iterator[tuple[str, str, str]]:
    """Rows of a network whose layers are one block alone."""
    for layer in ("mamba alone", "attention alone", f"{mlp} alone"):
        yield from ((name, layer, mode) for mode in (*LAYER_MODES, *ALONE_MODES))
    yield name, "dense alone", "loss"
    yield name, "dense alone", "loss, outputs dropped"


def cases(architectures: dict[str, Architecture]) -> Iterator[tuple[str, str, str]]:
    """(model, layer, mode) of every row."""
    for name, a in architectures.items():
        usual = "moe" if a.is_moe else "dense"
        if a.is_hybrid:
            yield from _alone(name, usual)
            continue
        kinds = [usual, "dense"] if a.first_k_dense_replace else [usual]
        for layer in [*kinds, *([f"{usual} {LINEAR}"] if a.is_linear else [])]:
            for mode in LAYER_MODES if name not in FAMILIES else FAMILY_MODES:
                yield name, layer, mode
        if a.hidden_dropout:
            yield name, "dense", "dropout"
        yield from ((name, "dense", mode) for mode in _adapter_modes(name, a))
        if name in COPY_MODELS:
            yield from ((name, usual, f"{form}{WEIGHT_COPIES}") for form in ("", "fp32 ", "autocast "))
        if name in (*BACKWARD_MODELS, *FAMILIES):
            more = () if name in FAMILIES else ("fp32 backward",)
            yield from ((name, usual, mode) for mode in ("backward", *more, "autocast backward"))
        if name in PADDED_MODELS:
            yield name, usual, PADDED
        if name in EAGER_MODELS:
            for form in ("", "fp32 ", "autocast "):
                yield from ((name, usual, f"{form}{mode}") for mode in (EAGER, EAGER_BACKWARD, EAGER_MASK))
        if name in EAGER_MODELS and a.attention_dropout:
            yield from ((name, usual, f"{form}{EAGER_DROPOUT}") for form in ("", "fp32 "))
        if name in LOSS_MODELS:
            for form in ("", "fp32 ", "autocast "):
                yield name, "dense", f"{form}loss"
                yield name, "dense", f"{form}loss, outputs dropped"
        if name in LINEAR_MODELS:
            yield from ((name, f"{usual} {LINEAR}", mode) for mode in LINEAR_MODES)
            yield name, usual, "backward"
            if not a.is_moe:  # experts' gradients outweigh what loops may be asked for
                yield name, f"{usual} {LINEAR}", "no fla backward"
                yield name, usual, "lora q_proj v_proj"
                for mode in ("lora", *VARIANTS, *ADAPTER_MODES):
                    yield from ((name, layer, mode) for layer in (usual, f"{usual} {LINEAR}"))


def _adapter_modes(name: str, a: Architecture) -> Iterator[str]:
    if a.model_type in SEPARATE_MATRICES:
        yield from ("lora", "lora q_proj v_proj")
    if a.model_type in FUSED_TARGETS and not a.is_linear:
        yield from ("lora", "lora 16-bit")
    if a.model_type in SEPARATE_MATRICES and name in BACKWARD_MODELS:
        yield from (*VARIANTS, *ADAPTER_MODES)


def table(only: list[str], modes: list[str]) -> list[dict[str, Any]]:
    """Every case of these models and modes, measured."""
    catalog = default_catalog()
    architectures = {name: catalog.find("models", name) for name in only or catalog.ids("models")}
    rows = []
    if any(a.several_kinds for a in architectures.values()):
        linear_kernels.prepare()
    for name, layer, mode in cases(architectures):
        if modes and mode not in modes:
            continue
        a = architectures[name]
        row = {
            "model": name,
            "layer": layer,
            "mode": mode,
            "tokens": TOKENS,
            "dtype": "bfloat16" if split(mode)[0] == "bf16" else "float32",
        }
        rows.append(row | {"bytes": measure(a, layer, mode, TOKENS)})
        print("  ".join(str(value) for value in rows[-1].values()), flush=True)
    return rows


def main() -> None:
    """Measure, print, and write on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="catalog ids; all of them when none is named")
    parser.add_argument("--modes", nargs="*", default=[], help="modes; all of them when none is named")
    parser.add_argument("--write", action="store_true", help="into results.json: replace all rows, or those measured")
    arguments = parser.parse_args()
    prepare()
    rows = table(arguments.models, arguments.modes)
    if arguments.write:
        measured = {(row["model"], row["layer"], row["mode"]): row for row in rows}
        old = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if arguments.models or arguments.modes else []
        rows = [*measured.values(), *(r for r in old if (r["model"], r["layer"], r["mode"]) not in measured)]
        rows.sort(key=lambda row: (row["model"], row["layer"], row["mode"]))
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
