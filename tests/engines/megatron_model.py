"""Megatron's own model on the meta device, over ranks only said to be there.

It builds its own tensor-parallel layers (`transformer_impl` local). Transformer Engine's, as launched runs have, hold
the same matrices, but for latent attention's down projections, which they keep whole on every rank
(multi_latent_attention.py, parallel_mode "duplicated") and which are whole here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest


@contextmanager
def on_meta() -> Iterator[None]:
    """Tensors on the meta device, wherever Megatron asks for the current GPU."""
    torch = pytest.importorskip("torch")
    from megatron.core.models.backends import LocalSpecProvider
    from megatron.core.models.gpt import gpt_layer_specs
    from megatron.core.transformer import multi_latent_attention as latent
    from megatron.core.transformer import transformer_block

    class Whole(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        """A projection that every tensor rank holds whole."""

        def __init__(self, input_size: int, output_size: int, bias: bool = False, **_: Any) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(output_size, input_size))
            assert not bias

    class Attention(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        """The product of queries and keys, which has no parameters; Megatron's own takes no context ranks."""

        def __init__(self, *_: Any, **__: Any) -> None:
            super().__init__()

    class Norm:
        """torch's own norm of that width: Megatron's wrapper of it takes no sequence parallelism."""

        def __new__(cls, config: Any, hidden_size: int, **_: Any) -> Any:
            return (torch.nn.LayerNorm if config.normalization == "LayerNorm" else torch.nn.RMSNorm)(hidden_size)

    def submodules(**given: Any) -> Any:
        given |= {"linear_q_down_proj": Whole, "linear_kv_down_proj": Whole}
        return latent.MLASelfAttentionSubmodules(**given)

    make = torch.tensor

    def tensor(*given: Any, pin_memory: bool = False, **named: Any) -> Any:
        return make(*given, **{**named, "device": "meta"} if pin_memory else named)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "tensor", tensor))
        stack.enter_context(mock.patch.object(torch.Tensor, "cuda", lambda self, **_: self))
        stack.enter_context(mock.patch.object(torch.cuda, "current_device", return_value=torch.device("meta")))
        stack.enter_context(mock.patch.object(torch.cuda, "Stream"))
        stack.enter_context(torch.device("meta"))
        stack.enter_context(mock.patch.object(latent, "TELinear", Whole))
        stack.enter_context(mock.patch.object(gpt_layer_specs, "MLASelfAttentionSubmodules", submodules))
        stack.enter_context(mock.patch.object(LocalSpecProvider, "core_attention", return_value=Attention))
        stack.enter_context(mock.patch.object(LocalSpecProvider, "layer_norm", return_value=Norm))
        stack.enter_context(mock.patch.object(transformer_block, "LayerNormImpl", Norm))
        stack.enter_context(mock.patch.object(gpt_layer_specs, "LNImpl", Norm))
        yield


def built(arguments: Any, args: Any, rank: int) -> int:
    """Parameters of all model chunks of one rank; raises what Megatron's builder and modules raise."""
    dist = pytest.importorskip("torch.distributed")
    from megatron.core import parallel_state
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.training.argument_utils import gpt_config_from_args
    from megatron.training.models.gpt import GPTModelBuilder

    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")

    config = arguments.core_transformer_config_from_args(args)
    config.transformer_impl, config.perform_initialization = "local", False
    config.gradient_accumulation_fusion, config.init_model_with_meta_device = False, True
    dist.init_process_group("fake", store=fake.FakeStore(), rank=rank, world_size=args.world_size)
    try:
        parallel_state.initialize_model_parallel(
            args.tensor_model_parallel_size,
            args.pipeline_model_parallel_size,
            args.virtual_pipeline_model_parallel_size,
            context_parallel_size=args.context_parallel_size,
            expert_model_parallel_size=args.expert_model_parallel_size,
            expert_tensor_parallel_size=args.expert_tensor_parallel_size,
            order="tp-cp-ep-pp-dp" if args.use_tp_pp_dp_mapping else "tp-cp-ep-dp-pp",
            create_gloo_process_groups=False,
        )
        builder = GPTModelBuilder(gpt_config_from_args(args, config))
        groups = ProcessGroupCollection.use_mpu_process_groups()
        chunks = args.virtual_pipeline_model_parallel_size
        with on_meta():
            models = [builder.build_model(groups, vp_stage=chunk) for chunk in (range(chunks) if chunks else [None])]
        return sum(weight.numel() for model in models for weight in model.parameters())
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()
