"""Megatron's own model on the meta device, over ranks only said to be there.

It builds its own tensor-parallel layers (`transformer_impl` local). Transformer Engine's, as launched runs have, hold
the same matrices, but for latent attention's down projections, which they keep whole on every rank
(multi_latent_attention.py, parallel_mode "duplicated") and which are whole here too.
"""

from __future__ import annotations

import ast
import inspect
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

    def there(made: Any) -> Any:
        return lambda *given, **named: made(*given, **named | {"device": "meta"})

    with ExitStack() as stack:
        for name in ("arange", "zeros"):
            stack.enter_context(mock.patch.object(torch, name, there(getattr(torch, name))))
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


def fused_parts() -> None:
    """Say that Transformer Engine 2.17.1's fused rotary embedding and permutation, and DeepEP, are there."""
    from megatron.core import utils
    from megatron.core.models.common.embeddings import rope_utils
    from megatron.core.transformer.moe import moe_utils, token_dispatcher
    from packaging.version import Version

    utils._te_version = Version("2.17.1")
    rope_utils.fused_apply_rotary_pos_emb = rope_utils.fused_apply_rotary_pos_emb_thd = object()
    for name in ("fused_dispatch", "fused_combine", "set_deepep_num_sms", "hybrid_ep_dispatch", "hybrid_ep_combine"):
        setattr(token_dispatcher, name, lambda *_: None)
    moved, sorted_by = ("permute", "unpermute", "permute_with_probs"), "sort_chunks_by_index"
    for name in (*moved, sorted_by, f"{sorted_by}_with_probs"):
        setattr(moe_utils, f"fused_{name}", object())


@contextmanager
def groups(own: Any, world_size: int, rank: int = 0, order: str = "tp-cp-ep-dp-pp") -> Iterator[None]:
    """Megatron's process groups of one rank as `own` says them, over ranks only said to be there."""
    dist = pytest.importorskip("torch.distributed")
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    from megatron.core import parallel_state

    dist.init_process_group("fake", store=fake.FakeStore(), rank=rank, world_size=world_size)
    try:
        parallel_state.initialize_model_parallel(
            own.tensor_model_parallel_size,
            own.pipeline_model_parallel_size,
            own.virtual_pipeline_model_parallel_size,
            context_parallel_size=own.context_parallel_size,
            expert_model_parallel_size=own.expert_model_parallel_size,
            expert_tensor_parallel_size=own.expert_tensor_parallel_size,
            num_distributed_optimizer_instances=getattr(own, "num_distributed_optimizer_instances", 1),
            order=order,
            create_gloo_process_groups=False,
        )
        yield
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def chunks_of(own: Any) -> list[int | None]:
    """Numbers of the model chunks of a rank, as Megatron counts them."""
    chunks = own.virtual_pipeline_model_parallel_size
    return list(range(chunks)) if chunks else [None]


def plainly(config: Any) -> Any:
    """The configuration over Megatron's own layers, which need neither Transformer Engine nor a GPU.

    Queries that come from no latent lose their norm, which Transformer Engine's layers alone can hold.
    """
    if config.multi_latent_attention and config.q_lora_rank is None:
        config.qk_layernorm = False
    config.transformer_impl, config.perform_initialization = "local", False
    config.gradient_accumulation_fusion, config.init_model_with_meta_device = False, True
    return config


def decoder(config: Any) -> list[Any]:
    """All model chunks of a rank of a plain GPT; raises what Megatron's modules raise."""
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec

    plainly(config).moe_grouped_gemm = False  # as many parameters, one expert after the other
    models = []
    for chunk in chunks_of(config):
        with on_meta():
            layers = get_gpt_decoder_block_spec(config, use_transformer_engine=False, vp_stage=chunk)
            width, longest = 128 * config.tensor_model_parallel_size, 1 << 20
            models.append(GPTModel(config, layers, width, longest, position_embedding_type="rope", vp_stage=chunk))
    return models


class Passed(Exception):
    """A layer has got to its work."""


def interleaved(config: Any, micro_batches: int) -> None:
    """The checks with which the interleaved schedule begins, by their own text: the rest of it needs GPUs."""
    from megatron.core.pipeline_parallel import schedules

    source = ast.parse(inspect.getsource(schedules.forward_backward_pipelining_with_interleaving)).body[0]
    assert isinstance(source, ast.FunctionDef)
    group = "microbatch_group_size_per_vp_stage"
    first = next(at for at, line in enumerate(source.body) if isinstance(line, ast.If) and group in ast.unparse(line))
    checks = ast.Module(source.body[first : first + 3], [])
    assert ast.unparse(checks).count("raise ") == 2
    names = {"config": config, "num_microbatches": micro_batches}
    names["pipeline_parallel_size"] = config.pipeline_model_parallel_size
    exec(compile(checks, "schedules.py", "exec"), names)


def first_pass(models: list[Any], config: Any, tokens: int, micro_batches: int) -> None:
    """What Megatron asks as a step begins: its schedule, tokens of a context rank over tensor ranks, layers of experts.

    core/tensor_parallel/mappings.py, core/transformer/moe/moe_layer.py (MoELayer.forward). Raises what they raise.
    """
    torch = pytest.importorskip("torch")
    from megatron.core.tensor_parallel.mappings import scatter_to_sequence_parallel_region
    from megatron.core.transformer.moe.moe_layer import MoELayer

    if config.virtual_pipeline_model_parallel_size:
        interleaved(config, micro_batches)
    states = torch.empty(tokens // config.context_parallel_size, 1, 1, device="meta")
    if config.sequence_parallel:
        scatter_to_sequence_parallel_region(states)
    for layer in (module for model in models for module in model.modules() if isinstance(module, MoELayer)):
        with ExitStack() as stack:
            for work in ("shared_experts_compute", "route"):
                stack.enter_context(mock.patch.object(MoELayer, work, side_effect=Passed, create=True))
            try:
                layer.train()(states)
            except Passed:
                break


def built(arguments: Any, args: Any, rank: int, begin: bool = False) -> int:
    """Parameters of all model chunks of one rank; raises what Megatron's builder and modules raise.

    With `begin` also what they raise as a forward pass begins.
    """
    pytest.importorskip("torch.distributed")
    from megatron.core.process_groups_config import ProcessGroupCollection
    from megatron.training.argument_utils import gpt_config_from_args
    from megatron.training.models.gpt import GPTModelBuilder

    config = plainly(arguments.core_transformer_config_from_args(args))
    order = "tp-cp-ep-pp-dp" if args.use_tp_pp_dp_mapping else "tp-cp-ep-dp-pp"
    with groups(args, args.world_size, rank, order):
        builder = GPTModelBuilder(gpt_config_from_args(args, config))
        own = ProcessGroupCollection.use_mpu_process_groups()
        with on_meta():
            models = [builder.build_model(own, vp_stage=chunk) for chunk in chunks_of(args)]
            if begin:
                step = args.micro_batch_size * args.data_parallel_size
                first_pass(models, config, args.seq_length, args.global_batch_size // step)
        return sum(weight.numel() for model in models for weight in model.parameters())
