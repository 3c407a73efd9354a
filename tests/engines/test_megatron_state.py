"""What Megatron's own step copies, and which fp8 weights Transformer Engine leaves: `python -m pytest -m engines`.

Both run on a CPU. The kernel that turns a weight is a plain transposition here, all else is the engines' own code.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from engine_layers import transformer_engine
from memory_problems import problem

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
