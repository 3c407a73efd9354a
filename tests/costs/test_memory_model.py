"""The memory model as a whole: one file adds an engine, every item has a source, every estimate is finite and fast."""

from __future__ import annotations

import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_problems import ADAPTED, CATALOG, combinations, estimated, pinned, problem, scenario

from planner.costs.coefficients import RowCosts
from planner.costs.item_names import ItemName
from planner.costs.ledger import total
from planner.costs.memory.host import host_ledger
from planner.costs.memory.leading import LEADING_REBUILT
from planner.costs.memory.stage_memory import StageMemory, moments
from planner.costs.memory.tensor_widths import tensor_bytes, tokens_per_rank
from planner.errors import InputError
from planner.formulas.activations import in_flight_layers_factor
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.search.estimate import estimate
from planner.search.plan import PHASES
from planner.search.search import plan
from planner.search.space import build_space

ENGINES = tuple(CATALOG.ids("engines"))
NETWORKS = {"dense": "llama3.1-8b", "experts": "mixtral-8x7b", "latent attention": "deepseek-v2-lite"}


@cache
def wide(engine: str, model: str = "llama3.1-8b") -> tuple[Problem, Layouts]:
    """A problem on as many GPUs as the engine can use, and its layouts."""
    found = CATALOG.find("engines", engine)
    gpus = [8, 16] if found.data_parallel else 1
    whole = problem(engine=engine, model=model, cluster={"node": "hgx-h100-8", "num_gpus": gpus})
    return whole, build_space(whole.alone).layouts


OWN_FILES = {
    "engines/own-engine.yaml": "extends: torchtitan\nid: own-engine\nname: own engine\n",
    "optimizers/own-optimizer.yaml": """
id: own-optimizer
name: one byte a parameter
state_bytes: 1
master_bytes: 0
memory_passes_bytes: 8
sources: [{ref: "made up for this test", date: "2026-11"}]
""",
    "models/own-model.yaml": """
id: own-model
model_type: llama
hidden_size: 1024
num_hidden_layers: 8
num_attention_heads: 16
num_key_value_heads: 4
head_dim: 64
intermediate_size: 4096
vocab_size: 32000
tie_word_embeddings: false
gated_mlp: true
hidden_act: silu
norm: rmsnorm
max_position_embeddings: 8192
sources: [{ref: "made up for this test", date: "2026-11"}]
""",
}
OWN = {"engine": "own-engine", "optimizer": "own-optimizer", "model": "own-model"}


@pytest.mark.parametrize("by", ["environment", "argument"])
def test_an_engine_an_optimizer_and_a_model_are_one_file_each(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in OWN_FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    if by == "environment":
        monkeypatch.setenv("PLANNER_CATALOGS", str(tmp_path))
    catalog = default_catalog([] if by == "environment" else [tmp_path])
    document = scenario(cluster={"node": "hgx-h100-8", "num_gpus": 8}, **OWN)
    found = plan(parse_document(json.dumps(document), "own.yaml"), catalog, check_points=0).plan
    assert found is not None
    optimizer = next(e for e in found.memory[0].items if e.name == "optimizer")
    shipped = estimated(pinned("torchtitan", model=str(tmp_path / "models" / "own-model.yaml")))
    assert optimizer.source == "catalogs/optimizers/own-optimizer.yaml"
    assert shipped.problem.parameters.total == found.problem.parameters.total
    assert {
        f"{kind}/{name}.yaml" for kind, name in zip(("engines", "optimizers", "models"), OWN.values(), strict=True)
    } <= {name for name, _ in found.problem.provenance}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS.keys())
def test_every_item_cites_a_source_and_none_is_negative(engine: str, model: str) -> None:
    """Without and, where the engine states what adapters keep, with adapters; on the GPU and on the host."""
    adapters: list[dict[str, Any] | None] = [None]
    if CATALOG.find("engines", engine).saved_by_adapter:
        adapters.append(ADAPTED)
    for adapter in adapters:
        whole, layouts = wide(engine, model)
        if adapter is not None:
            whole = problem(engine=engine, model=model, adapter=adapter)
            layouts = build_space(whole.alone).layouts
        layouts = layouts.take(np.arange(0, len(layouts), max(1, len(layouts) // 40)))
        first = np.zeros((1, 1), dtype=np.int64)
        memory = StageMemory(whole, layouts.expand(), first, first + whole.architecture.num_hidden_layers, first)
        for name in moments(whole):
            for item in memory.ledger(name):
                assert item.source.strip(), (name, item.name)
                assert np.all(np.isfinite(item.amount)), (name, item.name)
                assert np.min(item.amount) >= 0, (name, item.name)
        assert all(item.source.strip() and np.min(item.amount) >= 0 for item in host_ledger(whole, layouts))


def test_estimate_is_finite_on_every_combination() -> None:
    documents = [parse_document(json.dumps(document), "memory.yaml") for document in combinations()]
    assert len(documents) > 110
    for document in documents:
        found = estimate(document, CATALOG)
        amounts = [e.amount for phase in found.memory for e in phase.items] + [e.amount for e in found.time]
        amounts += [e.amount for e in found.host]
        assert np.all(np.isfinite(amounts)), document.data
        assert found.peak_gib > 0
        assert found.step_seconds > 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS.keys())
def test_memory_is_affine_in_layers_and_recomputed_layers(engine: str, model: str) -> None:
    """Ledgers at random n and r give what the coefficients, read off three points, say."""
    whole, layouts = wide(engine, model)
    rng = np.random.default_rng(11)
    layouts = layouts.take(rng.integers(0, len(layouts), 200))
    costs = RowCosts(whole.alone, layouts)
    layers = rng.integers(1, 40, (len(layouts), costs.stages))
    recomputed = rng.integers(0, layers + 1)
    memory = StageMemory(whole, layouts.expand(), np.arange(costs.stages)[None, :], layers, recomputed)
    for name in moments(whole):
        by_ledger = np.broadcast_to(total(memory.ledger(name)), layers.shape)
        by_lines, second = costs.memory[name].at(layers, recomputed), costs.memory.get(name + LEADING_REBUILT)
        if second is not None:
            more = np.maximum(by_lines, second.at(layers, recomputed))
            by_lines = np.where(recomputed > 0, more, by_lines)
        np.testing.assert_allclose(by_lines, by_ledger, rtol=1e-9)


@pytest.mark.parametrize("engine", ["megatron-core", "torchtitan"])
def test_expert_parallelism_does_not_divide_routed_activations(engine: str) -> None:
    """A rank that holds fewer experts gets as many tokens from others as it sends away."""
    whole, layouts = wide(engine, "mixtral-8x7b")
    saved = tensor_bytes(whole, layouts, whole.engine.saved, moe_layer=True)
    compared = 0
    for tp in (1, 2):
        same = (layouts.tensor_parallel == tp) & (layouts.expert_tensor_parallel == 1) & (layouts.context_parallel == 1)
        same &= layouts.micro_batch_size == 1
        assert len(set(saved[same].tolist())) == 1
        compared += len(set(layouts.expert_parallel[same].tolist()))
    assert compared >= 6


@pytest.mark.parametrize("engine", ENGINES)
def test_the_peak_names_its_stage_and_moment(engine: str) -> None:
    found = estimated(pinned(engine))
    assert found.binding.stage == 0
    assert found.binding.phase in PHASES
    assert found.peak_gib == pytest.approx(sum(e.amount for e in found.binding.items), rel=1e-12)
    assert len({(p.stage, p.phase) for p in found.memory}) == len(found.memory)


PIPELINE = {"tensor_parallel": 1, "pipeline_parallel": 4, "context_parallel": 1, "recomputed_layers": 0}


def pipeline(schedule: str | None, batch: int = 64, **layout: Any) -> Problem:
    """Llama-3.1-8B in four equal stages of torchtitan."""
    return problem(
        engine="torchtitan",
        cluster={"node": "hgx-h100-8", "num_gpus": 8},
        batch={"global_batch_size": batch, "sequence_length": 4096, "micro_batch_size": 1},
        layout=PIPELINE | ({"schedule": schedule} if schedule else {}) | layout,
    )


@pytest.mark.parametrize("batch", [4, 8, 64])
def test_zero_bubble_keeps_what_the_first_stage_of_1f1b_keeps(batch: int) -> None:
    """arXiv:2401.10241: p M_B on every stage; with fewer micro-batches than stages, which 1F1B refuses, all of them."""
    for whole in (pipeline("1f1b", max(batch, 8)), pipeline("zb-h1", batch)):
        layouts = build_space(whole.alone).layouts.take(0).expand()
        stage, layers = np.arange(4)[None, :], np.full((1, 4), 8)
        memory = StageMemory(whole, layouts, stage, layers, layers * 0)
        kept = [sum(i.amount for i in memory.moment("backward") if i.name.startswith("activations"))]
        micro_batches = int(layouts.num_micro_batches[0, 0])
        one = 8 * memory.layer_activations[0][0, 0]
        flight = np.minimum(micro_batches, 4 - stage)
        if whole.scenario.layout.schedule == "zb-h1":
            flight = np.minimum(micro_batches, 4) + 0 * stage
        np.testing.assert_allclose(np.asarray(kept[0]), flight * one, rtol=1e-12)


def test_zero_bubble_time_is_its_simulation() -> None:
    """Equal stages, no recomputation: (p - 1)(F + B - W) by the closed form and by the schedule run event by event."""
    from planner.costs.time.step_time import StepTime
    from planner.formulas.schedule import simulate

    seconds = {}
    for name in ("1f1b", "zb-h1"):
        whole = pipeline(name)
        layouts = build_space(whole.alone).layouts.take(0).expand()
        step = StepTime(whole, layouts, np.arange(4)[None, :])
        heavy, light = (float(np.ravel(w)[0]) for w in step.weights("train"))
        layer = float(np.ravel(sum(row.layer for row in step.train))[0])
        forward = float(np.ravel(sum(row.recomputed for row in step.train))[0])
        products = next(row for row in step.train if row.name == "matrix products")
        weight = float(np.ravel(products.layer - products.recomputed)[0]) / 2
        seconds[name] = heavy * layer + light * 4 * layer
    run = simulate(
        stages=4,
        micro_batches=32,
        forward=[forward] * 4,
        backward=[layer - forward - weight] * 4,
        weight=[weight] * 4,
        schedule="zb-h1",
    )
    assert seconds["zb-h1"] == pytest.approx(32 * layer + 3 * (layer - 2 * weight), rel=1e-9)
    assert seconds["zb-h1"] == pytest.approx(run.seconds, rel=0.02)
    assert seconds["zb-h1"] < seconds["1f1b"]


def test_schedules_are_refused_where_they_do_not_exist() -> None:
    with pytest.raises(InputError, match="no zero-bubble schedule"):
        problem(layout={"schedule": "zb-h1"})
    with pytest.raises(InputError, match="nothing to put off"):
        problem(engine="torchtitan", adapter=ADAPTED, layout={"schedule": "zb-h1"})
    assert not len(build_space(pipeline("zb-h1", virtual_pipeline=2).alone).layouts)
    assert not len(build_space(pipeline("interleaved").alone).layouts)
    assert len(build_space(pipeline("interleaved", virtual_pipeline=2).alone).layouts)


def long_context(
    tokens: int, cp: int, *options: str, tp: int = 8, model: str = "llama3.1-8b"
) -> tuple[Problem, Layouts]:
    """One sequence of so many tokens, cut over cp ranks."""
    whole = problem(
        model=model,
        cluster={"node": "hgx-h100-8", "num_gpus": tp * cp if tp * cp < 8 else -(-tp * cp // 8) * 8},
        batch={"global_batch_size": 1, "sequence_length": tokens, "micro_batch_size": 1},
        layout={"tensor_parallel": tp, "context_parallel": cp, "pipeline_parallel": 1, "data_parallel": 1},
        engine_options=list(options),
    )
    return whole, build_space(whole.alone).layouts


def activation_bytes(tokens: int, cp: int, *options: str, tp: int = 8) -> float:
    whole, layouts = long_context(tokens, cp, *options, tp=tp)
    one = np.zeros((1, 1), dtype=np.int64)
    memory = StageMemory(whole, layouts.take(0).expand(), one, one + 32, one)
    return float(np.ravel(sum(i.amount for i in memory.moment("backward") if i.name.startswith("activations")))[0])


@pytest.mark.parametrize("options", [(), ("a2a_context_parallel",)])
def test_activations_of_a_million_tokens(options: tuple[str, ...]) -> None:
    """Kept bytes follow tokens a rank: linear in the sequence, one over cp, nothing quadratic.

    torchtitan's published runs say so up to 262,144 tokens: Llama-3-8B at 32,768 tokens a rank reserves 84.2, 84.0 and
    84.5 GiB with cp 2, 4 and 8. Beyond, the law is all there is.
    """
    million = 2**20
    tp = 1 if options else 8
    cps = (2, 4, 8) if options else (2, 4, 8, 16, 32, 64)
    kept = [activation_bytes(million, cp, *options, tp=tp) for cp in cps]
    for before, after in itertools.pairwise(kept):
        assert after == pytest.approx(before / 2, rel=1e-9)
    if not options:
        assert activation_bytes(million // 8, 2) == pytest.approx(activation_bytes(million, 16), rel=1e-9)
        # full attention scores would be 2 x 10^13 bytes a head and layer
        assert kept[-1] < 40 * 2**30


def test_estimate_at_a_million_tokens_is_finite() -> None:
    document = scenario(
        cluster={"node": "hgx-h100-8", "num_gpus": 256},
        batch={"global_batch_size": 1, "sequence_length": 2**20, "micro_batch_size": 1},
        layout={"tensor_parallel": 8, "context_parallel": 32, "pipeline_parallel": 1, "recomputed_layers": 0},
    )
    found = estimated(document)
    assert np.isfinite(found.peak_gib)
    assert 20 < found.peak_gib < 79
    assert 1 < found.step_seconds < 120


def test_all_to_all_needs_whole_heads_and_a_ring_does_not() -> None:
    """Ulysses: 8 key and value heads on TP 4 leave 2 a rank, so cp 2 and no more; a ring takes any degree."""
    for cp, ulysses in ((2, True), (4, False), (8, False)):
        assert len(long_context(2**17, cp, tp=4)[1]) > 0
        assert bool(len(long_context(2**17, cp, "a2a_context_parallel", tp=4)[1])) == ulysses


@pytest.mark.parametrize(("ranks", "chunks"), [(4, 8), (8, 20), (16, 120)])
def test_both_directions_keep_what_dualpipe_keeps(ranks: int, chunks: int) -> None:
    """Chunks forward less chunks backward, counted through the eight steps of deepseek-ai/DualPipe's own schedule."""
    half, peaks = ranks // 2, []
    for rank in range(ranks):
        near = min(rank, ranks - 1 - rank)
        alive = peak = (half - near - 1) * 2 + (near + 1) * 2
        for _ in range(half - near - 1):
            peak = max(peak, alive - 1 + 1)
        for _ in range(2 * (chunks // 2 - ranks + near + 1) + half - near - 1):
            peak = max(peak, alive + 1)  # a forward chunk beside the backward chunk that it overlaps
        peaks.append(peak)
    counted = in_flight_layers_factor(
        stage=np.arange(ranks),
        pipeline_parallel=np.full(ranks, ranks),
        virtual_pipeline=np.ones(ranks, dtype=int),
        num_micro_batches=np.full(ranks, chunks),
        bidirectional=True,
    )
    assert counted.tolist() == peaks == [ranks + 1] * ranks


def test_dualpipe_keeps_two_copies_of_weights_and_one_of_the_optimizer() -> None:
    held = {}
    for engine, options in (("deepseek-dualpipe", []), ("megatron-core", ["bf16_moments"])):
        where = problem(
            engine=engine,
            model="qwen3-30b-a3b",
            engine_options=options,
            cluster={"node": "hgx-h100-8", "num_gpus": 32},
            batch={"global_batch_size": 64, "sequence_length": 4096, "micro_batch_size": 1},
            layout={"tensor_parallel": 1, "context_parallel": 1, "pipeline_parallel": 4, "expert_parallel": 8},
        )
        rows = build_space(where.alone).layouts.take(np.array([0]))
        stages = StageMemory(where, rows, np.array([[1]]), np.array([[12.0]]), np.array([[0.0]]))
        held[engine] = {i.name: float(np.ravel(i.amount)[0]) for i in stages.state}
    ours, theirs = held["deepseek-dualpipe"], held["megatron-core"]
    assert ours[ItemName.WEIGHTS] == pytest.approx(2 * theirs[ItemName.WEIGHTS])
    assert ours[ItemName.GRADIENTS] == pytest.approx(2 * theirs[ItemName.GRADIENTS])
    assert ours[ItemName.OPTIMIZER] == pytest.approx(theirs[ItemName.OPTIMIZER])


def test_experts_keep_fp8_inputs_under_fp8() -> None:
    """Bytes a token of a layer of Qwen3-30B-A3B (h 2,048, 8 of 128 experts of 768, 32 heads of 128, 4 key-value)."""
    kept = {}
    for precision in ("bf16", "fp8"):
        alone = {f"{axis}_parallel": 1 for axis in ("tensor", "pipeline", "context", "expert")}
        where = problem(model="qwen3-30b-a3b", precision=precision, layout=alone)
        rows = build_space(where.alone).layouts.take(np.array([0]))
        each = tensor_bytes(where, rows, where.engine.saved, moe_layer=True)
        kept[precision] = float(np.ravel(each)[0]) / float(tokens_per_rank(rows)[0])
    attention = 2 * 2 * 2048 + 2 * 4096 + 2 * 1024 + 2 * 4096 + 4 * 32
    routing = 8 * 128 + 8 * 8
    assert kept["bf16"] == attention + 2 * 2 * 2048 + routing + 8 * (2 * 2048 + 2 * 2 * 768 + 2 * 768)
    in_fp8 = attention + 4096 + (1 + 2) * 2048 + routing + 8 * (2048 + 2 * 2 * 768 + 768)
    assert kept["fp8"] == in_fp8


def test_solver_and_ledgers_agree_where_both_ends_share_a_rank() -> None:
    """The loss peaks on the first rank too, which holds the head of the other direction."""
    free = {"tensor_parallel": 1, "context_parallel": 1, "expert_parallel": "any", "pipeline_parallel": 2}
    asked = scenario(
        engine="deepseek-dualpipe",
        model="deepseek-v2-lite",
        precision="fp8",
        cluster={"node": "hgx-h100-8", "num_gpus": 8},
        batch={"global_batch_size": 16, "sequence_length": 8192, "micro_batch_size": 1},
        layout=free,
        limits={"headroom_gib": 0},
    )
    outcome = plan(parse_document(json.dumps(asked), "memory.yaml"))
    assert outcome.status == "optimal"
    assert outcome.plan is not None
    assert {p.stage for p in outcome.plan.memory if p.phase == "loss"} == {0, 1}
