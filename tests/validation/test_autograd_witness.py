"""Our bytes of a layer against what autograd saves (validation/autograd/results.json). Needs no torch."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sources import nodes

from planner.costs.memory.tensor_widths import TensorSizes, tensor_bytes
from planner.costs.memory.weight_copies import layer_copies_bytes
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, override
from planner.problem.conditions import conditions
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.schema.architecture import LayerKind
from planner.schema.engine import Engine
from planner.schema.tensors import Tensor

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "validation" / "autograd"
RESULTS = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
ROWS = RESULTS["rows"]
CATALOG = default_catalog()
"""One for all problems: it reads each file once."""
DROPPED = "loss, outputs dropped"
LINEAR = "linear"
"""Ends the name of a layer with linear attention."""
WITHOUT = {"no fla": "torch_delta_rule", "no causal-conv1d": "torch_convolution"}
"""Engine options that say which package of kernels is not installed."""
ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
FUSED = {
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
    "qwen3_5_text": ["all-linear"],
}
"""All linear layers, of the model types that fuse some of them."""
OPTIONS = {"autocast": ["autocast"], "amp": ["autocast_16bit_weights"]}
"""Engine options of each format that the witness computes in."""
MASK = "attention mask"
UNSEEN = (MASK, "rotary tables", "rotary tables in fp32", "product inside the gradient of the soft-max")
"""Not among what each further sequence adds there: gone before the backward pass, one for all, made on CUDA alone."""
ZEROS = ("max_tokens", "zero_stage", "sequence_parallel", "optimizer", "wish")


def one_gpu(tokens: int) -> Layouts:
    columns = {f.name: 0 if f.name in ZEROS else 1 for f in fields(Layouts)}
    columns |= {"sequence_length": tokens, "mean_sequence_length": tokens}
    return Layouts(**{name: np.array([value], dtype=np.int64) for name, value in columns.items()})


def split(mode: str) -> tuple[str, str]:
    """(format, what is counted)."""
    for package in WITHOUT:
        mode = mode.replace(package, "").strip() or "full"
    first, _, rest = mode.partition(" ")
    return (first, rest or "full") if first in ("fp32", *OPTIONS) else ("bf16", mode)


def adapter_of(model_type: str, what: str) -> dict[str, Any]:
    targets = ["q_proj", "v_proj"] if "q_proj" in what else FUSED.get(model_type, ALL_LINEAR)
    variant = what if what in ("dora", "lora-fa") else "lora"
    dropout = 0.05 if what.endswith("dropout") else 0.0
    return {"rank": RESULTS["adapter_rank"], "targets": targets, "variant": variant, "dropout": dropout}


def problem(model: str, mode: str) -> Problem:
    """What a mode asks: one problem for all that differ only in what is counted."""
    form, what = split(mode)
    says = what.startswith(("lora", "dora", "eager")) or what in ("loss", "padded")
    packages = tuple(package for package in WITHOUT if package in mode)
    return _problem(model, form, what if says else "full", packages)


@cache
def _problem(model: str, form: str, what: str, packages: tuple[str, ...]) -> Problem:
    options = list(OPTIONS.get(form, []))
    changes: dict[str, Any] = {"model": model, "engine": "transformers"}
    if form == "fp32":
        changes["precision"] = "fp32"
    if what.startswith(("lora", "dora")):
        model_type = CATALOG.find("models", model).model_type
        base = "fp32" if form == "fp32" else "bf16"
        changes["adapter"] = adapter_of(model_type, what) | {"base_precision": base}
        options += ["adapters_as_computed"] if "16-bit" in what else []
    options += [WITHOUT[package] for package in packages]
    options += ["outputs_held"] if what == "loss" else ["padded_batches"] if what == "padded" else []
    options += ["unfused_attention"] if what.startswith("eager") else []
    scenario = load(str(ROOT / "scenarios" / "llama8b_sft_a100.yaml"))
    return question_of(override(scenario, changes | {"engine_options": options}), CATALOG).first


def kind_of(layer: str) -> LayerKind:
    """What ours calls a layer of the rows: of one block alone, with linear attention, or one that attends."""
    block, _, alone = layer.partition(" ")
    if alone == "alone":
        return "mamba" if block == "mamba" else "attention" if block == "attention" else "mlp"
    return "linear" if layer.endswith(LINEAR) else "full"


def counted(engine: Engine, what: str) -> list[Tensor]:
    """The tensors of ours that a mode counts."""
    if what == "weight copies":
        return [t for t in engine.saved if t.width == "router"]
    saved = [t for t in engine.saved if t.width != "router"]
    if what == "eager":
        return [t for t in saved if not {"dropout", "attention_dropout"} & {*conditions(t)}]
    if what.startswith(("lora", "dora")):
        return [*(t for t in saved if t.when != "dropout"), *engine.saved_by_adapter]
    if what in ("full", "padded"):
        return [t for t in saved if t.when != "dropout"]
    named = {"checkpoint": engine.stub, "backward": engine.backward, "dropout": saved}
    named |= {"loss": engine.loss, DROPPED: engine.loss}
    named |= {"eager dropout": saved, "eager backward": [t for t in engine.backward if t.name not in UNSEEN]}
    named |= {"eager mask": [t for t in engine.backward if t.name == MASK]}
    return named[what]


def ours(row: dict[str, Any]) -> float:
    p, (form, what) = problem(row["model"], row["mode"]), split(row["mode"])
    kind: dict[str, Any] = {"moe_layer": row["layer"].startswith("moe"), "kind": kind_of(row["layer"])}
    if (form, what) == ("autocast", "weight copies"):
        return layer_copies_bytes(p, **kind)
    tensors, beside = counted(p.engine, what), []
    if what == "eager backward":
        beside = [t for t in counted(p.engine, "eager") if t.each == "token"]
        # gpt-oss peaks in the forward pass, where the masks are.
        sinks = p.architecture.model_type == "gpt_oss"
        tensors = [*tensors, *(t for t in p.engine.backward if sinks and t.name == MASK)]
    return float(TensorSizes(p, one_gpu(row["tokens"])).of(tensors, beside=beside, **kind)[0])


@cache
def differences() -> dict[tuple[str, str, str], tuple[int, str]]:
    """Bytes and per cent by which we differ, for each (model, layer, mode) where we do."""
    out = {}
    for row in ROWS:
        mine = ours(row)
        if mine != row["bytes"]:
            share = f"{(mine / row['bytes'] - 1) * 100:+.4f}"
            out[row["model"], row["layer"], row["mode"]] = (round(mine) - row["bytes"], share)
    return out


def documented() -> dict[tuple[str, str, str], tuple[int, str]]:
    """The table of README.md."""
    out = {}
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 6 and cells[1].split()[0] in ("dense", "moe"):
            out[cells[0], cells[1], cells[2]] = (int(cells[3].replace(",", "")), cells[4])
    return out


def test_qwen_layer_is_the_published_number() -> None:
    row = next(r for r in ROWS if (r["model"], r["mode"]) == ("qwen2.5-7b", "full"))
    assert row["bytes"] == 923_238_400
    assert ours(row) == 923_238_400


def test_witness_covers_the_catalog() -> None:
    asked = {row["model"] for row in ROWS if row["mode"] == "full"}
    assert asked <= set(CATALOG.ids("models"))
    assert len(asked) == 82
    assert (RESULTS["torch"].split("+")[0], RESULTS["transformers"]) == ("2.13.0", "5.23.0")


def test_every_difference_is_documented_and_every_documented_one_exists() -> None:
    """Equal to the byte, or listed in README.md with the exact difference; no tolerance."""
    assert differences() == documented()


def test_most_rows_are_exact() -> None:
    assert len(ROWS) - len(differences()) >= 988


def test_nothing_but_the_running_layer_of_backward_differs() -> None:
    assert {split(mode)[1] for _, _, mode in differences()} == {"backward", "eager backward"}


def test_what_differs_is_on_the_safe_side() -> None:
    assert not [key for key, (_, share) in differences().items() if float(share) < 0]


@pytest.mark.parametrize(("form", "computed"), [("", 2), ("fp32 ", 4), ("autocast ", 2)])
def test_dropping_the_outputs_saves_the_logits_as_they_were_made(form: str, computed: int) -> None:
    by = {(r["model"], r["mode"]): r for r in ROWS}
    dropped = [model for model, mode in by if mode == f"{form}{DROPPED}"]
    assert dropped
    for model in dropped:
        held, gone = by[model, f"{form}loss"], by[model, f"{form}{DROPPED}"]
        a = problem(model, "full").architecture
        stay = 4 if a.is_hybrid else computed  # Nemotron-H casts its logits itself
        assert held["bytes"] - gone["bytes"] == stay * a.vocab_size * held["tokens"]


def test_capped_logits_cost_a_copy_more() -> None:
    """Gemma 2 keeps the tanh of its soft cap."""
    by = {(r["model"], r["mode"]): r for r in ROWS}
    for form, computed, whole in (("", 2, 16), ("fp32 ", 4, 20), ("autocast ", 2, 16)):
        row = by["gemma2-2b", f"{form}loss"]
        a = problem("gemma2-2b", f"{form}loss").architecture
        assert round(row["bytes"] / (row["tokens"] * a.vocab_size)) == whole
        assert whole - computed == round(by["gemma2-2b", f"{form}{DROPPED}"]["bytes"] / (4096 * a.vocab_size))


NAMED = re.compile(r"\b(torch|transformers|peft)\b")


def test_torch_stays_out_of_the_product_and_the_tests() -> None:
    for folder in ("planner", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "torch_device.py":
                continue  # `planner calibrate --device`: imports torch inside the functions that measure, nowhere else
            if not NAMED.search(path.read_text(encoding="utf-8")):
                continue
            for node in nodes(path):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {n.split(".")[0] for n in names} & {"torch", "transformers", "peft"}, path


KEPT_BY_ATTENTION = (
    *("query", "keys and values", "keys from latent", "padded values and output"),
    *("attention output", "attention log-sum-exp", "attention mask"),
)
SAME_HEADS = {
    (32, 32, 128): "olmo2-7b",
    (32, 8, 128): "llama3.1-8b",
    (12, 12, 64): "gpt2",
    (16, 16, 192): "deepseek-v2-lite",
}
"""Networks whose attention has so many heads of queries and keys, and of what size."""


@pytest.mark.parametrize("row", json.loads((FOLDER / "attention.json").read_text(encoding="utf-8"))["rows"])
def test_attention_keeps_what_torchs_kernels_for_cuda_keep(row: dict[str, Any]) -> None:
    """FlashAttention, cuDNN's and the one for fp32: ours but for the state of the random numbers, 16 or 24 bytes.

    With latent attention values are padded in 16 bits, and the output that is cut back lies beside the kernel's.
    """
    model = SAME_HEADS[row["heads"], row["key_heads"], row["head_size"]]
    masked = row["kernel"].endswith("masked")
    p = problem(model, "padded" if masked else "fp32" if row["dtype"] == "float32" else "full")
    a = p.architecture
    if a.is_mla and (masked or row["dtype"] == "float32"):
        return  # its values are a view into the up-projection there, not as wide as queries
    tensors = [t for t in p.engine.saved if t.name in KEPT_BY_ATTENTION]
    ours = float(tensor_bytes(p, one_gpu(row["tokens"]), tensors, moe_layer=a.is_moe)[0])
    cut_back = 2 * row["tokens"] * a.attention_out_width if a.is_mla else 0
    assert row["bytes"] - (ours - cut_back) in (16, 24)


DELTA_RULE = json.loads((FOLDER / "delta_rule.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("model", DELTA_RULE["bytes_a_token"])
def test_linear_attention_is_what_the_engines_own_modules_keep(model: str) -> None:
    """Megatron's and slime's modules over the kernels of flash-linear-attention, and the rule's own backward pass."""
    said, tokens = DELTA_RULE["bytes_a_token"][model], 4096
    changes = {"model": model, "rl.response_length": 1024, "batch": {"micro_batch_size": 1}}
    for name, engine in (("megatron", "nemo-rl"), ("slime", "slime")):
        document = override(load(str(ROOT / "scenarios" / "qwen7b_rl.yaml")), {**changes, "engine": engine})
        problem = question_of(document, CATALOG).first
        sizes, experts = TensorSizes(problem, one_gpu(tokens)), problem.architecture.is_moe
        for tensors, bytes_a_token in (
            (problem.engine.saved, said[name]),
            (problem.engine.backward, said["backward"]),
        ):
            own = [t for t in tensors if "linear_attention" in conditions(t) and not (t.copies or 0) < 0]
            assert float(sizes.of(own, moe_layer=experts, kind="linear")[0]) / tokens == bytes_a_token
