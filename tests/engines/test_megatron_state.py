"""What Megatron's step copies, adapters keep and fp8 weights are left as: `python -m pytest -m engines`.

All run on a CPU. The kernel that turns a weight is a plain transposition here, collectives move nothing, all else is
the engines' own code.
"""

from __future__ import annotations

import importlib.util
import sys
import typing
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from engine_layers import transformer_engine
from memory_problems import problem

from planner.costs.memory.tensor_widths import TensorSizes
from planner.search.space import build_space

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
ROWS, COLUMNS = 64, 8
HALF = ROWS * COLUMNS // 2


def counted(options: list[str], precision: str) -> Any:
    """Our own count for the same settings on an H100."""
    cluster = {"node": "hgx-h100-8", "num_gpus": 8}
    return problem(engine="megatron-core", cluster=cluster, engine_options=options, precision=precision)


@pytest.fixture(scope="module")
def engine() -> Any:
    """Transformer Engine, which must be there before Megatron asks for it."""
    if "megatron.core" not in sys.modules:
        return transformer_engine()
    return pytest.importorskip("transformer_engine.pytorch")


PRECISION_AWARE = {"use_precision_aware_optimizer": True}
STEPS = [
    ("float32", {}, [], "bf16"),
    ("bfloat16", {}, ["bf16_gradients"], "bf16"),
    ("bfloat16", PRECISION_AWARE, ["bf16_gradients", "bf16_moments"], "bf16"),
    ("bfloat16", PRECISION_AWARE | {"fp8_recipe": "delayed"}, ["bf16_gradients", "bf16_moments"], "fp8"),
    (
        "bfloat16",
        PRECISION_AWARE | {"fp8_recipe": "blockwise"},
        ["bf16_gradients", "bf16_moments", "block_scaled_fp8"],
        "fp8",
    ),
]


@pytest.mark.parametrize(("gradients", "settings", "options", "precision"), STEPS)
def test_the_step_copies_as_many_bytes_of_gradients_as_are_counted(
    engine: Any, gradients: str, settings: dict[str, Any], options: list[str], precision: str
) -> None:
    torch = pytest.importorskip("torch")
    distrib = pytest.importorskip("megatron.core.optimizer.distrib_optimizer")
    config = pytest.importorskip("megatron.core.optimizer.optimizer_config")

    moments = {f"{name}_dtype": torch.bfloat16 for name in ("exp_avg", "exp_avg_sq") if settings}
    given: dict[str, Any] = {"optimizer": "adam", "bf16": True, "use_distributed_optimizer": True} | settings | moments
    weight = torch.nn.Parameter(torch.zeros(ROWS, COLUMNS, dtype=torch.bfloat16))
    weight.main_grad = torch.zeros(ROWS, COLUMNS, dtype=getattr(torch, gradients))
    shard = torch.zeros(HALF)
    of_two = {"param": SimpleNamespace(start=0, end=HALF, size=HALF)}
    optimizer = SimpleNamespace(
        is_stub_optimizer=False,
        ddp_config=SimpleNamespace(use_megatron_fsdp=False),
        config=config.OptimizerConfig(**given),
        model_float16_groups=[[weight]],
        model_fp32_groups=[],
        shard_fp32_from_float16_groups=[[shard]],
        shard_float16_groups=[[shard]],
        shard_fp32_groups=[],
        _get_model_param_range_map=lambda _: of_two,
    )
    distrib.DistributedOptimizer._copy_model_grads_to_main_grads(optimizer)
    made = getattr(shard, "decoupled_grad", shard.grad)
    new = made.untyped_storage().data_ptr() != weight.main_grad.untyped_storage().data_ptr()
    copied = made.untyped_storage().nbytes() / HALF if new else 0
    assert copied == counted(options, precision).step_gradient_bytes


def test_nothing_takes_the_turned_copy_of_an_fp8_weight_away_again(engine: Any) -> None:
    """Gathered after a step, taken by a forward and a backward pass, and by those of the next micro-batch."""
    torch = pytest.importorskip("torch")
    storage = pytest.importorskip("transformer_engine.pytorch.tensor.storage.float8_tensor_storage")
    utils = pytest.importorskip("transformer_engine.pytorch.tensor.utils")
    base = pytest.importorskip("transformer_engine.pytorch.module.base")
    tensors = pytest.importorskip("transformer_engine.pytorch.tensor.float8_tensor")

    def turned(data: Any, dtype: Any, out: Any = None) -> Any:
        return data.T.contiguous() if out is None else out.copy_(data.T)

    dtype = next(iter(sys.modules["transformer_engine_torch"].DType))
    quantizer = tensors.Float8Quantizer(scale=torch.ones(1), amax=torch.zeros(1), fp8_dtype=dtype)

    def take(tensor: Any) -> None:
        """Without a cache no micro-batch is called the first: base.py of 2.18, or the module's method before it."""
        given = {"tensor": tensor, "quantizer": quantizer, "cache_name": None, "update_workspace": True}
        if hasattr(base, "quantize_weight"):
            base.quantize_weight(tensor=tensor, quantizer=quantizer, update_workspace=True, cache=False)
        else:
            base.TransformerEngineBaseModule.get_weight_workspace(SimpleNamespace(), **given)

    weight = tensors.Float8Tensor(
        shape=(ROWS, COLUMNS),
        dtype=torch.bfloat16,
        data=torch.zeros(ROWS, COLUMNS, dtype=torch.uint8),
        fp8_scale_inv=torch.ones(1),
        fp8_dtype=dtype,
        quantizer=quantizer,
        device=torch.device("cpu"),
    )

    def held() -> float:
        there = [t for t in (weight._data, weight._transpose) if t is not None]
        return sum(t.untyped_storage().nbytes() for t in there) / (ROWS * COLUMNS)

    on_hopper = {"return_value": False}
    with (
        mock.patch.object(storage.tex, "fp8_transpose", turned, create=True),
        mock.patch.object(storage, "is_non_tn_fp8_gemm_supported", **on_hopper),
        mock.patch.object(utils, "is_non_tn_fp8_gemm_supported", **on_hopper),
    ):
        seen = [held()]
        utils.post_all_gather_processing([weight])
        for _ in range(2):
            take(weight)
            seen.append(held())
            weight.update_usage(columnwise_usage=True)  # what the backward pass asks for (module/linear.py)
            seen.append(held())
    assert seen == [1, 2, 2, 2, 2]
    for options in (["fp8_parameters"], ["fp8_parameters", "no_fp8_transpose_cache"]):
        assert counted(options, "fp8").weight_bytes == seen[-1]


LENGTH, RANK = 1024, 8
HIDDEN, QUERY, KEYS, FFN = 2048, 2048, 1024, 8192  # of Llama-3.2-1B
MODULES = {
    "linear_qkv": (HIDDEN, QUERY + KEYS, False),
    "linear_proj": (QUERY, HIDDEN, True),
    "linear_fc1": (HIDDEN, 2 * FFN, False),
    "linear_fc2": (FFN, HIDDEN, True),
}


@pytest.fixture(scope="module")
def of_two(engine: Any) -> Any:
    """Megatron-Bridge's adapters on the first of two tensor-parallel ranks, of which the other is only said to be."""
    torch = pytest.importorskip("torch")
    if importlib.util.find_spec("megatron") is None or importlib.util.find_spec("megatron.bridge") is None:
        pytest.skip("no megatron.bridge")
    if not hasattr(typing, "override"):
        typing.override = pytest.importorskip("typing_extensions").override  # type: ignore[attr-defined, unused-ignore]
    store = pytest.importorskip("torch.testing._internal.distributed.fake_pg").FakeStore()
    parallel = pytest.importorskip("megatron.core.parallel_state")
    torch.distributed.init_process_group("fake", rank=0, world_size=2, store=store)
    try:
        with mock.patch.object(torch.cuda, "current_device", return_value=torch.device("cpu")):
            parallel.initialize_model_parallel(2, create_gloo_process_groups=False)
            yield pytest.importorskip("megatron.bridge.peft.utils").ParallelLinearAdapter
    finally:
        parallel.destroy_model_parallel()
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("options", [[], ["adapter_input_regather"]])
@pytest.mark.parametrize("module", list(MODULES))
def test_an_adapter_keeps_as_much_as_is_counted(of_two: Any, module: str, options: list[str]) -> None:
    """Under tensor and sequence parallelism; what attention keeps for itself is no adapter's."""
    torch = pytest.importorskip("torch")
    config = pytest.importorskip("megatron.core.transformer.transformer_config").TransformerConfig
    into, out, row = MODULES[module]
    adapter = of_two(
        into,
        out,
        RANK,
        module,
        activation="identity",
        input_is_parallel=row,
        dropout=0.0,
        model_parallel_config=config(
            num_layers=1,
            hidden_size=HIDDEN,
            num_attention_heads=32,
            tensor_model_parallel_size=2,
            sequence_parallel=True,
            bf16=True,
            params_dtype=torch.bfloat16,
            use_cpu_initialization=True,
            gradient_accumulation_fusion=False,
        ),
        disable_sequence_parallel_comm=False,
        sequence_parallel_input_regather=bool(options),
    )
    shape = (LENGTH, 1, into // 2) if row else (LENGTH // 2, 1, into)
    given = torch.zeros(shape, dtype=torch.bfloat16, requires_grad=True)
    weights = {each.untyped_storage().data_ptr() for each in adapter.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        place = tensor.untyped_storage()
        if place.data_ptr() not in weights:
            kept[place.data_ptr()] = place.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        adapter(given)
    if module == "linear_proj":
        kept.pop(given.untyped_storage().data_ptr())  # the output that attention keeps for itself

    whole = problem(
        engine="megatron-core",
        model="llama3.2-1b",
        cluster={"node": "hgx-h100-8", "num_gpus": 2},
        batch={"global_batch_size": 1, "sequence_length": LENGTH, "micro_batch_size": 1},
        layout={"tensor_parallel": 2, "sequence_parallel": True},
        adapter={"rank": RANK, "targets": [module]},
        engine_options=options,
    )
    layouts = build_space(whole.alone).layouts.take([0])
    counted = TensorSizes(whole, layouts).of(whole.engine.saved_by_adapter, moe_layer=False)
    assert sum(kept.values()) == float(counted[0])
