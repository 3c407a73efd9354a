"""Tensors that one vocabulary or one stack could not show: fused heads, what FSDP1 leaves behind, packed gathers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_problems import ADAPTED, CATALOG, problem

from planner.costs.memory.host import host_ledger
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.memory.tensor_widths import TensorSizes, fused_head_chunk, tokens_per_rank
from planner.errors import InputError
from planner.inputs.catalog import Catalog, shipped_folder
from planner.problem.conditions import conditions
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
    assert plain["logits and loss"] > 12 * 128256 * TOKENS
    # ZeRO-1 and 2 cut the gradient of the head's matrix after it is made: the new one stands whole beside the chunks.
    matrix = 2 * 128256 * HIDDEN if engine == "deepspeed" else 0
    assert matrix < fused["logits and loss"] < matrix + 14 * HIDDEN * TOKENS
    if CATALOG.find("engines", engine).states.gradients_appear:
        made = (4 if engine == "fsdp2" else 2) * 128256 * HIDDEN / gpus  # the head's, on the way forward
        assert fused["gradients"] - plain["gradients"] == pytest.approx(made, rel=1e-4)


def kept_by_a_layer(engine: str, **changes: Any) -> float:
    """Bytes a token that one layer of Llama-3.1-8B keeps, nothing recomputed."""
    whole, layouts = one_layout(engine, 1, **changes)
    one = np.zeros((1, 1), dtype=np.int64)
    memory = StageMemory(whole, layouts.expand(), one, one + LAYERS, one)
    return float(np.ravel(memory.layer_activations[0])[0]) / TOKENS


FFN, KEY_VALUE, LATENTS = 14336, 2048, 16 * 7
ATTENTION = 2 * (2 * HIDDEN + KEY_VALUE) + 4 * 32  # q, output, keys and values in 16 bits, one fp32 a head
NORM_SCALES = 2 * 4


def test_adapters_under_fsdp2_keep_one_16bit_input_for_all_that_read_it() -> None:
    """Layers see adapters gathered in 16 bits, so that peft casts nothing: fp32 norm inputs, gate, activation and up,
    inputs of both blocks, product. Two published runs of NeMo AutoModel on one H100 were 33 GiB over before."""
    expected = 8 * HIDDEN + NORM_SCALES + ATTENTION + 6 * FFN + 4 * HIDDEN + 2 * FFN + 2 * LATENTS
    assert kept_by_a_layer("fsdp2", adapter=ADAPTED) == pytest.approx(expected)
    whole, _ = one_layout("fsdp2", 2, adapter=ADAPTED)
    assert (whole.adapter_weight_bytes, whole.adapter_gradient_bytes) == (4, 4)
    assert whole.base_weight_bytes == 2


def test_fused_layers_keep_norm_inputs_gate_and_up_alone() -> None:
    """As linkedin/Liger-Kernel saves them for backward: X and one fp32 a token; a and b."""
    norms, reading, product = 4 * HIDDEN + NORM_SCALES, 4 * HIDDEN, 2 * FFN
    fused = {"engine_options": ["fused_layers"]}
    assert kept_by_a_layer("transformers", **fused) == pytest.approx(norms + reading + ATTENTION + 4 * FFN + product)
    plain = kept_by_a_layer("transformers")
    assert plain - kept_by_a_layer("transformers", **fused) == pytest.approx(4 * HIDDEN + 4 * HIDDEN + 2 * FFN)
    loss = {
        on: items("loss", "transformers", engine_options=["fused_head", *on])["logits and loss"]
        for on in ((), ("fused_layers",))
    }
    assert loss[()] - loss[("fused_layers",)] == pytest.approx((2 + 2) * HIDDEN * TOKENS)


@pytest.mark.parametrize(
    ("node", "changes", "bytes_each"),
    [
        ("hgx-h100-8", {}, 2),  # the copy and the turned one
        ("aws-p6-b200", {}, 1),
        # Blocks along rows and blocks along columns, a scale of 1 B for 32 in each.
        ("aws-p6-b200", {"engine_options": ["block_scaled_fp8"]}, 2.0625),
        ("hgx-h100-8", {"engine_options": ["block_scaled_fp8"]}, 2),
        ("hgx-h100-8", {"engine_options": ["fp8_parameters"]}, 0),
        ("hgx-h100-8", {"engine_options": ["no_fp8_transpose_cache"]}, 0),
        ("hgx-h100-8", {"precision": "bf16"}, 0),
        ("hgx-h100-8", {"adapter": ADAPTED | {"base_precision": "bf16"}}, 2),
    ],
)
def test_megatron_caches_fp8_copies_of_16bit_weights(node: str, changes: dict[str, Any], bytes_each: float) -> None:
    """Layers alone: Llama-3.1-8B without embedding, head and final norm."""
    batch = {"global_batch_size": 8, "sequence_length": 4096, "micro_batch_size": 1}
    cluster, layout = {"node": node, "num_gpus": 8}, {"tensor_parallel": 1, "data_parallel": 8, "recomputed_layers": 0}
    asked = {"precision": "fp8"} | changes
    whole = problem(engine="megatron-core", cluster=cluster, batch=batch, layout=layout, **asked)
    layouts = build_space(whole.alone).layouts.take(0)
    one = np.zeros((1, 1), dtype=np.int64)
    memory = StageMemory(whole, layouts.expand(), one, one + LAYERS, one)
    found = {item.name: float(np.ravel(item.amount)[0]) for item in memory.state}
    assert found.get("fp8 copies of weights", 0) == pytest.approx(bytes_each * 6_979_588_096, rel=1e-4)
    assert ("weight-gradient buffers" in found) == ("adapter" not in changes)


EACH_LAYER = 6_979_588_096 / LAYERS
"""Parameters of a layer of Llama-3.1-8B."""


def of_eight(recomputed: int, options: list[str], pipeline: int = 1, precision: str = "fp8") -> StageMemory:
    """First stage of Llama-3.1-8B on eight H100, a sequence of 4,096 a micro-batch, eight of them where stages wait."""
    batch = {"global_batch_size": 64 // pipeline, "sequence_length": 4096, "micro_batch_size": 1}
    cluster = {"node": "hgx-h100-8", "num_gpus": 8}
    layout = {"tensor_parallel": 1, "pipeline_parallel": pipeline, "data_parallel": 8 // pipeline}
    asked = {"engine_options": options, "precision": precision, "layout": layout | {"virtual_pipeline": 1}}
    whole = problem(engine="megatron-core", cluster=cluster, batch=batch, **asked)
    layouts, one = build_space(whole.alone).layouts.take(0), np.zeros((1, 1), dtype=np.int64)
    return StageMemory(whole, layouts.expand(), one, one + LAYERS // pipeline, one + recomputed)


def named(memory: StageMemory, moment: str, name: str) -> float:
    """Bytes of one item, 0 where there is none."""
    return {item.name: float(np.ravel(item.amount)[0]) for item in memory.moment(moment)}.get(name, 0.0)


@pytest.mark.parametrize(
    ("recomputed", "pipeline", "backward", "rebuilding"),
    [(0, 1, 32, 1), (32, 1, 0, 1), (8, 1, 24, 1), (0, 2, 2 * 16, 16 + 1), (4, 4, 4 * 4, 3 * 4 + 1)],
)
def test_fp8_copies_without_a_cache_wait_for_their_backward_pass(
    recomputed: int, pipeline: int, backward: int, rebuilding: int
) -> None:
    """Copy and turned copy of each kept layer and micro-batch in flight, by hand; one that is rebuilt makes its own."""
    memory = of_eight(recomputed, ["no_fp8_transpose_cache"], pipeline)
    for moment, layers in (("backward", backward), ("loss", backward), ("recomputation", rebuilding), ("optimizer", 0)):
        assert named(memory, moment, "fp8 copies of weights") == pytest.approx(2 * layers * EACH_LAYER), moment


@pytest.mark.parametrize(
    ("options", "bytes_each"),
    [([], 2), (["no_fp8_transpose_cache"], 2), (["fp8_turned_each_time"], 1)],
)
def test_fp8_weights_stay_turned_on_hopper(options: list[str], bytes_each: int) -> None:
    """Embedding, head and final norm stay in 16 bits."""
    memory = of_eight(0, ["fp8_parameters", *options])
    ends = 2 * (2 * 128_256 * HIDDEN + HIDDEN)
    assert named(memory, "backward", "weights") == pytest.approx(bytes_each * 6_979_588_096 + ends, rel=1e-4)
    assert named(memory, "backward", "fp8 copies of weights") == 0


@pytest.mark.parametrize(
    ("options", "precision", "bytes_each"),
    [
        ([], "bf16", 0),
        (["bf16_gradients"], "bf16", 4),
        (["bf16_gradients", "bf16_moments"], "bf16", 0),
        (["bf16_moments", "bf16_gradients"], "fp8", 0),
        (["bf16_moments", "bf16_gradients", "block_scaled_fp8"], "fp8", 4),
        (["bf16_moments", "block_scaled_fp8"], "fp8", 0),
    ],
)
def test_the_step_casts_16bit_gradients_of_its_shard(options: list[str], precision: str, bytes_each: int) -> None:
    """8,030,261,248 parameters over eight ranks."""
    memory = of_eight(0, options, precision=precision)
    found = named(memory, "optimizer", "optimizer temporaries")
    assert found == pytest.approx(bytes_each * 8_030_261_248 / 8, rel=1e-4)


@pytest.mark.parametrize(
    ("stage", "micro_batches", "on_gpu", "buffer", "on_host"),
    [(1, 1, 2, True, 4), (2, 1, 0, True, 4), (2, 2, 0, True, 4 + 2), (3, 1, 0, False, 4 + 2)],
)
def test_deepspeed_keeps_gradients_where_its_optimizer_is(
    stage: int, micro_batches: int, on_gpu: int, buffer: bool, on_host: int
) -> None:
    """Gradients of 8,030,261,248 parameters; the buffer is as large as the largest matrix, the table."""
    whole = problem(
        engine="deepspeed",
        cluster={"node": "hgx-h100-8", "num_gpus": 8},
        batch={"global_batch_size": 8 * micro_batches, "sequence_length": 4096, "micro_batch_size": 1},
        layout={"zero_stage": stage, "optimizer_offload": True, "data_parallel": 8},
    )
    layouts, one = build_space(whole.alone).layouts.take(0), np.zeros((1, 1), dtype=np.int64)
    memory = StageMemory(whole, layouts.expand(), one, one + LAYERS, one)
    assert named(memory, "backward", "gradients") == pytest.approx(on_gpu * 8_030_261_248)
    way = named(memory, "backward", "gradient on its way to the host")
    assert way == pytest.approx(buffer * 2 * 128_256 * HIDDEN, rel=1e-4)
    host = {item.name: float(np.ravel(item.amount)[0]) for item in host_ledger(whole, layouts)}
    waiting = host["gradients for the optimizer on the host"]
    assert waiting == pytest.approx(on_host * 8_030_261_248)


RL = {
    "prompt_length": 1024,
    "response_length": 7168,
    "response_distribution": {"mean": 3000, "p99": 7168},
    "rollout_batch_size": 8,
    "n_samples_per_prompt": 8,
    "rollout": {"tensor_parallel": 1, "gpu_memory_utilization": 0.5},
}


def rl_logits(engine: str, moment: str, name: str, **changes: Any) -> float:
    """One item of a step of reinforcement learning on 8,192 tokens a GPU, everything recomputed. [bytes]"""
    batch = {"micro_batch_size": 1}
    layout = {"recomputed_layers": "all", "data_parallel": 8}
    cluster = {"node": "hgx-h100-8", "num_gpus": 8}
    whole = problem(task="rl", engine=engine, cluster=cluster, batch=batch, layout=layout, rl=RL, **changes)
    layouts = build_space(whole.alone).layouts.take(0)
    one = np.zeros((1, 1), dtype=np.int64)
    memory = StageMemory(whole, layouts.expand(), one, one + LAYERS, one + LAYERS)
    return {item.name: float(np.ravel(item.amount)[0]) for item in memory.moment(moment)}[name]


def test_nemo_rl_takes_log_probabilities_in_chunks() -> None:
    """Logits in 16 bits and one chunk of 2,048 positions, with and without gradient, instead of whole fp32 ones."""
    tokens, vocabulary = 8192, 128256
    chunked = {"engine_options": ["chunked_log_probs"]}
    log_prob = ("log_prob", "log-probability logits")
    assert rl_logits("nemo-rl", *log_prob, **chunked) == pytest.approx((2 * tokens + 12 * 2048) * vocabulary, rel=1e-3)
    assert rl_logits("nemo-rl", *log_prob) == pytest.approx(12 * tokens * vocabulary, rel=1e-3)
    assert rl_logits("nemo-rl-fsdp2", *log_prob, **chunked) == pytest.approx((2 * tokens + 8 * 2048) * vocabulary)
    trained = rl_logits("nemo-rl", "loss", "logits and loss", **chunked)
    assert trained == pytest.approx((4 * tokens + 24 * 2048) * vocabulary, rel=0.02)


def test_openrlhf_holds_fp32_logits_until_its_step_is_over() -> None:
    """Scoring: logits in 16 bits and their copy. Loss: the copy, its gradient, and that in 16 bits. After: the copy."""
    logits = 8192 * 128256
    beside = 8192 * 4096 * (4 + 2 + 2) + 8192 * 4  # fp32 norm input, normalised, head input; scale
    assert rl_logits("openrlhf", "log_prob", "log-probability logits") == 6 * logits
    assert rl_logits("openrlhf", "loss", "logits and loss") == 10 * logits + beside
    assert rl_logits("openrlhf", "recomputation", "logits and loss") == 4 * logits


def test_fsdp1_leaves_a_gradient_of_every_recomputed_layer_under_adapters() -> None:
    name = "left until the backward pass ends"
    option = ["checkpoint_around_units"]
    left = items("recomputation", "fsdp1", 2, adapter=ADAPTED, engine_options=option)
    none = items("recomputation", "fsdp1", 2, adapter=ADAPTED)
    assert left[name] == LAYERS * 2 * HIDDEN * TOKENS
    # The running layer's output gradient is one of them.
    assert sum(left.values()) - sum(none.values()) == (LAYERS - 1) * 2 * HIDDEN * TOKENS
    assert name not in none
    assert not items("recomputation", "fsdp1", 2, engine_options=option)[name]


def test_fsdp2_as_automodel_runs_it_keeps_four_inputs_a_layer_and_three_gathered_layers() -> None:
    """Checkpoints of attention, MLP and both norms; 2 + 2 + 12 B a parameter; two layers gathered ahead."""
    own = ["checkpoints_of_blocks", "master_copy", "prefetch_two_back"]
    whole, _ = one_layout("fsdp2", 8)
    plain, ours = (items("recomputation", "fsdp2", 8, engine_options=on) for on in ([], own))
    stubs = "activations, recomputed layers"
    assert plain[stubs] == LAYERS * TOKENS * HIDDEN * 2
    assert ours[stubs] == 4 * plain[stubs]
    layer = whole.parameters.dense_layer.total
    assert ours["gathered layers"] - plain["gathered layers"] == pytest.approx(2 * layer)
    shard = whole.parameters.total / 8
    states = ("weights", "gradients", "optimizer")
    told = [items("optimizer", "fsdp2", 8, engine_options=on) for on in ([], own)]
    each = [[round(state[name] / shard, 3) for name in states] for state in told]
    assert each == [[4, 4, 8], [2, 2, 12]]


def test_ring_attention_holds_all_ranks_keys_and_values_and_sums_in_fp32() -> None:
    """96,352 B a token of Qwen3-0.6B on eight ranks by torch itself (validation/autograd/ring_attention.py)."""
    whole, layouts = one_layout("fsdp2", 8, model="qwen3-0.6b")
    told = [t for t in whole.engine.backward if "context_parallel" in conditions(t)]
    for ranks, expected in ((8, 96_352), (4, 79_968), (1, 0)):
        ring = Layouts(**{**layouts.__dict__, "context_parallel": np.array([ranks])})
        sizes = TensorSizes(whole, ring).of(told, moe_layer=False) / tokens_per_rank(ring)
        gradient = 2 * 16 * 128 * (ranks > 1)  # of attention's output, which the ring is handed
        assert sizes[0] == pytest.approx(expected + gradient, rel=1e-9), ranks


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


def test_torchtitan_takes_its_loss_in_chunks_today_and_whole_in_older_versions() -> None:
    today = items("loss", "torchtitan", 8)
    whole = items("loss", "torchtitan", 8, engine_options=["whole_logits"])
    eager = items("loss", "torchtitan", 8, engine_options=["eager_loss", "compile"])
    compiled = items("loss", "torchtitan", 8, engine_options=["whole_logits", "compile"])
    logit, hidden = 128256 * TOKENS, HIDDEN * TOKENS
    assert today["logits and loss"] == pytest.approx(16 / 8 * logit + 8 * hidden)
    assert whole["logits and loss"] == pytest.approx(16 * logit + 4 * hidden)
    assert eager["logits and loss"] == whole["logits and loss"]
    assert compiled["logits and loss"] == pytest.approx(4 * logit + 4 * hidden)
    # The head's gradient is summed whole in fp32, a chunk's own in bf16 beside it.
    assert today["gradients not yet reduced"] == pytest.approx(6 * (128256 + 1) * HIDDEN)
    assert not whole["gradients not yet reduced"]


def kept(engine: str, **changes: Any) -> float:
    """Bytes that one layer keeps, nothing recomputed in full."""
    layout = {"recomputed_layers": 0, "data_parallel": 8, "expert_parallel": changes.pop("expert_parallel", 1)}
    layout |= {"recompute_modules": changes.pop("recompute_modules", [])}
    batch = {"global_batch_size": 8, "sequence_length": 4096, "micro_batch_size": 1}
    cluster = {"node": "hgx-h100-8", "num_gpus": 8}
    whole = problem(engine=engine, cluster=cluster, batch=batch, layout=layout, **changes)
    layouts = build_space(whole.alone).layouts.take(0)
    one = np.zeros((1, 1), dtype=np.int64)
    return float(np.ravel(StageMemory(whole, layouts.expand(), one, one + LAYERS, one).layer_activations[0])[0])


def test_recomputation_by_operator_keeps_no_experts_but_what_was_exchanged() -> None:
    experts = {"model": "mixtral-8x7b"}
    whole, by_operator = (kept("torchtitan", recompute_modules=on, **experts) for on in ([], ["op"]))
    routed = 4096 * 2  # two experts a token
    assert whole - by_operator > routed * (8 * 14336 + 6 * 4096)
    apart = kept("torchtitan", recompute_modules=["op"], expert_parallel=8, **experts)
    assert apart - by_operator == pytest.approx(4 * routed * 4096)


def test_deepspeed_steps_one_sub_group_and_nothing_on_the_gpu_where_the_cpu_steps() -> None:
    def step(zero: int, offload: bool) -> float:
        batch = {"global_batch_size": 2, "sequence_length": 4096, "micro_batch_size": 1}
        layout = {"recomputed_layers": "all", "data_parallel": 2, "zero_stage": zero, "optimizer_offload": offload}
        cluster = {"node": "hgx-h100-8", "num_gpus": 2}
        limits = {"host_memory": False}
        whole = problem(engine="deepspeed", cluster=cluster, batch=batch, layout=layout, limits=limits)
        layouts = build_space(whole.alone).layouts.take(0).expand()
        one = np.zeros((1, 1), dtype=np.int64)
        memory = StageMemory(whole, layouts, one, one + LAYERS, one + LAYERS)
        return float(np.ravel({i.name: i.amount for i in memory.moment("optimizer")}["optimizer temporaries"])[0])

    assert step(2, False) == pytest.approx(8 * 8_030_261_248 / 2)
    assert step(3, False) == 8e9
    assert step(2, True) == step(3, True) == 0


def test_ddp_keeps_its_buckets() -> None:
    one = items("loss", "transformers")
    many = items("loss", "transformers-ddp", 8)
    assert many["gradient buckets"] == 2 * 8_030_261_248
    assert sum(many.values()) - sum(one.values()) == pytest.approx(2 * 8_030_261_248)


def test_ddp_under_autocast_reduces_fp32_gradients_in_fp32_buckets() -> None:
    """Its reducer makes a bucket in the format of its parameters, beside their gradients (gradient_as_bucket_view)."""
    ddp = "transformers-ddp"
    one, many = (items("optimizer", e, n, engine_options=["autocast"]) for e, n in (("transformers", 1), (ddp, 8)))
    assert many["weights"] == many["gradients"] == many["gradient buckets"] == 4 * 8_030_261_248
    assert many["optimizer"] == 8 * 8_030_261_248
    assert {name: amount for name, amount in many.items() if name != "gradient buckets"} == one


@pytest.mark.parametrize(("saved", "head"), [([], 0), (["lm_head"], 128_256 * 4_096)])
def test_ddp_reduces_fp32_adapters_in_fp32_buckets(saved: list[str], head: int) -> None:
    """A bucket has the format of its parameters: adapters are fp32 under peft, a head beside them is not."""
    adapter = {"rank": 16, "targets": ["q_proj", "v_proj"], "modules_to_save": saved}
    parameters = 32 * 16 * ((4_096 + 4_096) + (4_096 + 1_024))
    many = items("loss", "transformers-ddp", 8, adapter=adapter)
    assert many["gradient buckets"] == 4 * parameters + 2 * head


def test_torchtune_adapters_are_16_bits() -> None:
    peft, tune = (items("loss", engine, adapter=ADAPTED) for engine in ("transformers", "torchtune"))
    assert peft["weights"] == 2 * tune["weights"]
    assert peft["gradients"] == 2 * tune["gradients"]
    assert peft["optimizer"] == 2 * tune["optimizer"]
