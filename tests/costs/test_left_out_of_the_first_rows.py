"""Tensors that one vocabulary or one stack could not show: fused heads, what FSDP1 leaves behind, packed gathers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_problems import ADAPTED, CATALOG, problem

from planner.costs.memory.stage_memory import StageMemory
from planner.costs.memory.tensor_widths import fused_head_chunk
from planner.errors import InputError
from planner.inputs.catalog import Catalog, shipped_folder
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.search.space import build_space

LAYERS, HIDDEN, TOKENS = 32, 4096, 4 * 4096


def one_layout(engine: str, gpus: int, **changes: Any) -> tuple[Problem, Layouts]:
    """Llama-3.1-8B with every layer recomputed, four sequences of 4,096 tokens a rank."""
    batch = {"global_batch_size": 4 * gpus, "sequence_length": 4096, "micro_batch_size": 4}
    layout = {"recomputed_layers": "all", "data_parallel": gpus}
    cluster = {"node": "hgx-h100-8", "num_gpus": gpus}
    whole = problem(engine=engine, cluster=cluster, batch=batch, layout=layout, **changes)
    return whole, build_space(whole.alone).layouts.take(0)


def items(moment: str, engine: str, gpus: int = 1, **changes: Any) -> dict[str, float]:
    """Bytes by item of one stage with all layers recomputed."""
    whole, layouts = one_layout(engine, gpus, **changes)
    one = np.zeros((1, 1), dtype=np.int64)
    memory = StageMemory(whole, layouts.expand(), one, one + LAYERS, one + LAYERS)
    return {item.name: float(np.ravel(item.amount)[0]) for item in memory.moment(moment)}


@pytest.mark.parametrize(("tokens", "chunk"), [(16384, 512), (4096, 128), (5000, 256), (1, 1)])
def test_a_fused_head_takes_the_power_of_two_above_its_share(tokens: int, chunk: int) -> None:
    whole, layouts = one_layout("transformers", 1)
    lengths = Layouts(**{**layouts.__dict__, "sequence_length": np.array([tokens]), "micro_batch_size": np.array([1])})
    # 128,256 entries over 4,096 hidden units are 32 parts.
    assert fused_head_chunk(whole, lengths)[0] == pytest.approx(128256 * chunk / tokens)


@pytest.mark.parametrize("engine", ["transformers", "fsdp1", "fsdp2", "deepspeed"])
def test_a_fused_head_makes_no_logits(engine: str) -> None:
    gpus = 1 if engine == "transformers" else 2
    plain, fused = (items("loss", engine, gpus, engine_options=on) for on in ([], ["fused_head"]))
    assert plain["logits and loss"] > 14 * 128256 * TOKENS
    assert fused["logits and loss"] < 14 * HIDDEN * TOKENS
    if CATALOG.find("engines", engine).states.gradients_appear:
        made = 2 * 128256 * HIDDEN / gpus  # the head's, on the way forward
        assert fused["gradients"] - plain["gradients"] == pytest.approx(made, rel=1e-4)


def test_fsdp1_leaves_a_gradient_of_every_recomputed_layer_under_adapters() -> None:
    name = "left until the backward pass ends"
    left = items("recomputation", "fsdp1", 2, adapter=ADAPTED)
    option = ["non_reentrant_checkpointing"]
    none = items("recomputation", "fsdp1", 2, adapter=ADAPTED, engine_options=option)
    assert left[name] == LAYERS * 2 * HIDDEN * TOKENS
    # The running layer's output gradient is one of them.
    assert sum(left.values()) - sum(none.values()) == (LAYERS - 1) * 2 * HIDDEN * TOKENS
    assert not items("recomputation", "fsdp1", 2)[name]


def test_a_quantised_base_is_gathered_as_it_is_stored() -> None:
    whole = items("backward", "fsdp1", 2, adapter=ADAPTED)["gathered layers"]
    packed = items("backward", "fsdp1", 2, adapter=ADAPTED | {"base_precision": "nf4"})["gathered layers"]
    layer = CATALOG.find("models", "llama3.1-8b")
    parameters = 2 * layer.hidden_size * (layer.query_width + layer.key_value_width)
    parameters += 3 * layer.hidden_size * layer.intermediate_size + 2 * layer.hidden_size
    stored = CATALOG.find("precisions", "nf4").weight_bytes
    # One layer beside embedding and head, which are larger and stay in 16 bits.
    assert whole - packed == pytest.approx((2 - stored) * parameters)


def test_options_of_another_engine_are_kept_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    folder.mkdir()
    (folder / "mine.yaml").write_text("extends: fsdp1\nkeeps_options: [fused_head]\nid: mine\nname: mine\n")
    mine = Catalog((tmp_path, shipped_folder())).find("engines", "mine")
    assert set(mine.options) == {"fused_head"}
    (folder / "mine.yaml").write_text("extends: fsdp1\nkeeps_options: [fused_haed]\nid: mine\nname: mine\n")
    with pytest.raises(InputError, match="fused_haed"):
        Catalog((tmp_path, shipped_folder())).find("engines", "mine")
