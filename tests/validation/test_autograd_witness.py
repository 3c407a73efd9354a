"""Our bytes of a layer against what autograd saves (validation/autograd/results.json). Needs no torch."""

from __future__ import annotations

import ast
import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planner.costs.memory.tensor_widths import tensor_bytes
from planner.inputs.document import load, override
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.resolve import question_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "validation" / "autograd"
RESULTS = json.loads((FOLDER / "results.json").read_text(encoding="utf-8"))
ROWS = RESULTS["rows"]
NOT_CLAIMED = "loss, outputs dropped"
ADAPTED = {
    "lora": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "lora q_proj v_proj": ["q_proj", "v_proj"],
}
ADAPTED |= {"dora": ADAPTED["lora"], "lora-fa": ADAPTED["lora"]}
ZEROS = ("zero_stage", "sequence_parallel", "optimizer", "wish")


def one_gpu(tokens: int) -> Layouts:
    columns = {f.name: 0 if f.name in ZEROS else 1 for f in fields(Layouts)}
    columns |= {"sequence_length": tokens, "mean_sequence_length": tokens}
    return Layouts(**{name: np.array([value], dtype=np.int64) for name, value in columns.items()})


@cache
def problem(model: str, mode: str) -> Problem:
    changes: dict[str, Any] = {"model": model, "engine": "transformers"}
    if mode in ADAPTED:
        changes["adapter"] = {"rank": RESULTS["adapter_rank"], "targets": ADAPTED[mode], "variant": mode.split()[0]}
    if mode == "autocast":
        changes["engine_options"] = ["autocast"]
    return question_of(override(load(str(ROOT / "scenarios" / "llama8b_sft_a100.yaml")), changes)).first


def ours(row: dict[str, Any]) -> float:
    mode = row["mode"]
    p = problem(row["model"], mode if mode in ADAPTED or mode == "autocast" else "full")
    engine = p.engine
    tensors = {"checkpoint": engine.stub, "backward": engine.backward, "loss": engine.loss}.get(mode, engine.saved)
    if mode in ADAPTED:
        tensors = [*engine.saved, *engine.saved_by_adapter]
    if mode == "full":
        tensors = [t for t in tensors if t.when != "dropout"]
    return float(tensor_bytes(p, one_gpu(row["tokens"]), tensors, moe_layer=row["layer"] == "moe")[0])


@cache
def differences() -> dict[tuple[str, str, str], tuple[int, str]]:
    """Bytes and per cent by which we differ, for each (model, layer, mode) where we do."""
    out = {}
    for row in ROWS:
        mine = ours(row) if row["mode"] != NOT_CLAIMED else row["bytes"]
        if mine != row["bytes"]:
            share = f"{(mine / row['bytes'] - 1) * 100:+.4f}"
            out[row["model"], row["layer"], row["mode"]] = (round(mine) - row["bytes"], share)
    return out


def documented() -> dict[tuple[str, str, str], tuple[int, str]]:
    """The table of README.md."""
    out = {}
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 6 and cells[1] in ("dense", "moe"):
            out[cells[0], cells[1], cells[2]] = (int(cells[3].replace(",", "")), cells[4])
    return out


def test_qwen_layer_is_the_published_number() -> None:
    row = next(r for r in ROWS if (r["model"], r["mode"]) == ("qwen2.5-7b", "full"))
    assert row["bytes"] == 923_238_400
    assert ours(row) == 923_238_400


def test_witness_covers_the_catalog() -> None:
    from planner.inputs.catalog import default_catalog

    asked = {row["model"] for row in ROWS if row["mode"] == "full"}
    assert asked <= set(default_catalog().ids("models"))
    assert len(asked) == 58
    assert (RESULTS["torch"].split("+")[0], RESULTS["transformers"]) == ("2.13.0", "5.23.0")


def test_every_difference_is_documented_and_every_documented_one_exists() -> None:
    """Equal to the byte, or listed in README.md with the exact difference; no tolerance."""
    assert differences() == documented()


def test_most_rows_are_exact() -> None:
    assert len(ROWS) - len(differences()) >= 210


@pytest.mark.parametrize(
    "mode", ["full", "dropout", "lora", "lora q_proj v_proj", "dora", "lora-fa", "autocast", "checkpoint", "loss"]
)
def test_no_claimed_difference_reaches_a_thousandth_and_a_bit(mode: str) -> None:
    """What differs in these modes is constant weight copies and routing masks."""
    assert all(abs(float(share)) < 0.11 for (_, _, m), (_, share) in differences().items() if m == mode)


def test_dropping_the_outputs_saves_the_16_bit_logits() -> None:
    by = {(r["model"], r["mode"]): r for r in ROWS}
    dropped = [model for model, mode in by if mode == NOT_CLAIMED]
    assert dropped
    for model in dropped:
        held, gone = by[model, "loss"], by[model, NOT_CLAIMED]
        vocab = problem(model, "full").architecture.vocab_size
        assert held["bytes"] - gone["bytes"] == 2 * vocab * held["tokens"]


def test_torch_stays_out_of_the_product_and_the_tests() -> None:
    for folder in ("planner", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "torch_device.py":
                continue  # `planner calibrate --device`: imports torch inside the functions that measure, nowhere else
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {n.split(".")[0] for n in names} & {"torch", "transformers", "peft"}, path
