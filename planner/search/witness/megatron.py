"""What Megatron-core checks: arguments, transformer configuration, groups of ranks, schedules."""

from __future__ import annotations

from planner.search.witness.told import Check, Told, divides, even_split


def _first_and_last(t: Told) -> bool:
    """--decoder-first-pipeline-num-layers and --decoder-last-pipeline-num-layers."""
    if t.pipeline < 2:
        return False
    first, last, between, stages = t.layers[0], t.layers[-1], sum(t.layers[1:-1]), t.pipeline - 2
    left = t.network_layers - first - last
    if first <= 0 or last <= 0 or first % t.chunks or last % t.chunks or bool(left) != bool(stages) or left != between:
        return False
    return not stages or (left % stages == 0 and len(set(t.layers[1:-1])) == 1 and left // stages % t.chunks == 0)


def _counted_ends(t: Told) -> bool:
    """--account-for-embedding-in-pipeline-split and --account-for-loss-in-pipeline-split."""
    each, over = divmod(t.network_layers + 2, t.pipeline)
    wanted = [each] * t.pipeline
    wanted[0] -= 1
    wanted[-1] -= 1
    return not over and each % t.chunks == 0 and list(t.layers) == wanted


def _layout(t: Told) -> bool:
    """--pipeline-model-parallel-layout: as many parts as chunks of all stages, every decoder layer in one of them.

    A part of the embedding or of the loss alone needs none (pipeline_parallel_layer_layout.py:89-130)."""
    if len(t.layers) != t.pipeline or sum(t.layers) != t.network_layers or not t.layers:
        return False
    first, last = t.layers[0] + (t.chunks > 1), t.layers[-1] + (t.chunks > 1)
    return min(first, last, *t.layers[1:-1]) >= t.chunks and min(t.layers) >= 1


def _megatron_split(t: Told) -> bool:
    ways = {"any": (even_split, _first_and_last, _counted_ends, _layout), "first_last": (even_split, _first_and_last)}
    return any(way(t) for way in ways.get(t.splits, (even_split,)))


def _one_number(t: Told) -> bool:
    """--recompute-num-layers: with block so many of each chunk, with uniform every layer in groups."""
    for count, layers in zip(t.recomputed, t.layers, strict=True):
        each, over = divmod(layers, t.chunks)
        sizes = [each] * (t.chunks - over) + [each + 1] * over
        if count not in {sum(min(size, number) for size in sizes) for number in range(max(sizes) + 1)}:
            return False
    return True


def _interleaved(t: Told) -> bool:
    if t.chunks == 1:
        return True
    group = 5 if "interleaved_groups_of_five" in t.options else t.pipeline
    rest = t.micro_batches % group
    return t.pipeline > 1 and t.pipeline <= group <= t.micro_batches and not 0 < rest < t.pipeline


MEGATRON_SOURCE = "Megatron-LM core_v0.19.0 "
MEGATRON = (
    Check(
        "world_size is a multiple of tp * pp * cp",
        "megatron/training/arguments.py:430; megatron/core/parallel_state.py:822",
        lambda t: t.tensor * t.pipeline * t.context * t.data == t.world_size,
    ),
    Check(
        "world_size is a multiple of etp * ep * pp",
        "megatron/core/parallel_state.py:881",
        lambda t: divides(t.expert_tensor * t.expert * t.pipeline, t.world_size),
    ),
    Check(
        "with ranks not ordered pp last, attention and experts have the same data parallelism",
        "megatron/core/parallel_state.py:898-902",
        lambda t: (
            not (t.stages_before_data and t.experts and t.pipeline > 1)
            or t.world_size // (t.expert_tensor * t.expert * t.pipeline) == t.data
        ),
    ),
    Check(
        "global_batch_size is a multiple of micro_batch_size * dp, at least 1 micro-batch",
        "megatron/core/num_microbatches_calculator.py:381-391",
        lambda t: divides(t.micro_batch * t.data, t.global_batch) and t.micro_batches >= 1,
    ),
    Check(
        "num_attention_heads is a multiple of tp",
        "megatron/core/transformer/transformer_config.py:1323",
        lambda t: divides(t.tensor, t.heads),
    ),
    Check(
        "num_query_groups is a multiple or a divisor of tp",
        "megatron/core/transformer/transformer_config.py:1338-1341",
        lambda t: t.latent_attention or divides(t.tensor, t.key_value_heads) or divides(t.key_value_heads, t.tensor),
    ),
    Check(
        "linear_num_key_heads and linear_num_value_heads are multiples of tp * cp",
        "megatron/core/transformer/transformer_config.py:1374-1382",
        lambda t: all(divides(t.tensor * t.context, heads) for heads in t.linear_heads),
    ),
    Check(
        "weights in fp8 products have a multiple of 8 rows, those into linear attention among them",
        "TransformerEngine @d0067d0da transformer_engine/pytorch/utils.py:614-624",
        lambda t: t.precision != "fp8" or divides(8 * t.tensor, t.linear_projection),
    ),
    Check(
        "ffn_hidden_size divides by tp, moe_ffn_hidden_size by etp",
        "megatron/core/tensor_parallel/layers.py:965,1328 (divide)",
        lambda t: (
            (bool(t.experts and not t.leading_dense) or divides(t.tensor, t.width))
            and (not t.experts or divides(t.expert_tensor, t.expert_width))
        ),
    ),
    Check(
        "seq_length is a multiple of 2 * cp",
        "megatron/training/arguments.py:1295-1298",
        lambda t: t.context == 1 or divides(2 * t.context, t.sequence),
    ),
    Check(
        "with sequence parallelism the tokens of a context rank divide by tp",
        "megatron/core/tensor_parallel/mappings.py:74",
        lambda t: not t.sequence_parallel or t.tensor == 1 or divides(t.tensor, t.sequence // t.context),
    ),
    Check(
        "seq_length is at most max_position_embeddings",
        "megatron/training/arguments.py:1314",
        lambda t: t.positions is None or t.sequence <= t.positions,
    ),
    Check(
        "num_experts is a multiple of ep, and there are experts where ep > 1",
        "megatron/training/arguments.py:1600-1603",
        lambda t: t.expert == 1 or (t.experts > 0 and divides(t.expert, t.experts)),
    ),
    Check(
        "experts with tp > 1 need sequence parallelism",
        "megatron/core/transformer/moe/moe_layer.py:629",
        lambda t: not t.experts or t.tensor == 1 or t.sequence_parallel,
    ),
    Check(
        "biases in experts need etp 1",
        "megatron/core/transformer/transformer_config.py:2279",
        lambda t: not (t.experts and t.expert_bias) or t.expert_tensor == 1,
    ),
    Check(
        "layers a stage, or first and last, or ends counted as layers, or a layout, come out whole",
        "megatron/core/transformer/transformer_config.py:1935-2110; core/transformer/pipeline_parallel_layer_layout.py",
        _megatron_split,
    ),
    Check(
        "chunks of a stage need pp > 1, and micro-batches in whole groups or a rest of at least pp",
        "megatron/core/pipeline_parallel/schedules.py:1132-1153; megatron/core/parallel_state.py:828",
        _interleaved,
    ),
    Check(
        "recompute_num_layers is one number a process",
        "megatron/core/transformer/transformer_config.py:1742-1748; core/transformer/transformer_block.py",
        _one_number,
    ),
    Check(
        "recompute_granularity is selective or full, not both",
        "megatron/core/transformer/transformer_config.py:1749-1755",
        lambda t: not (t.modules and any(t.recomputed)),
    ),
    Check(
        "recompute_modules mla_up_proj needs multi-latent attention",
        "megatron/core/transformer/transformer_config.py:1789",
        lambda t: "mla_up_proj" not in t.modules or t.latent_attention,
    ),
    Check(
        "recompute_modules moe_act needs grouped experts",
        "megatron/core/transformer/transformer_config.py:1784",
        lambda t: "moe_act" not in t.modules or (t.experts > 0 and "sequential_experts" not in t.options),
    ),
    Check(
        "recompute_modules moe beside overlapped exchanges, graphs of the router, or activations offloaded inside",
        "megatron/core/transformer/transformer_config.py:2165, 2862 and 3031 @d98e8a64",
        lambda t: (
            "moe" not in t.modules
            or not {"moe_a2a_overlap", "scoped_cuda_graphs", "fine_grained_offloading"} & t.options
        ),
    ),
    Check(
        "weights in fp8 need products in fp8",
        "megatron/core/transformer/transformer_config.py:1439",
        lambda t: "fp8_parameters" not in t.options or t.precision == "fp8",
    ),
    Check(
        "delayed scaling in fp8 does not recompute moe_act and layernorm",
        "megatron/core/transformer/transformer_config.py:1821-1832",
        lambda t: (
            t.precision != "fp8" or "block_scaled_fp8" in t.options or not {"moe_act", "layernorm"} & set(t.modules)
        ),
    ),
    Check(
        "overlap of the experts' all-to-all needs ep > 1, chunks where pp > 1, 16 bit, no full recomputation",
        "megatron/core/transformer/transformer_config.py:2669-2704",
        lambda t: (
            "moe_a2a_overlap" not in t.options
            or (t.expert > 1 and (t.pipeline == 1 or t.chunks > 1) and t.precision != "fp32" and not any(t.recomputed))
        ),
    ),
    Check(
        "tp_comm_overlap needs sequence parallelism",
        "megatron/training/arguments.py:1401",
        lambda t: "tp_comm_overlap" not in t.options or (t.tensor > 1 and t.sequence_parallel),
    ),
    Check(
        "the flex dispatcher over DeepEP needs etp * ep > 1",
        "megatron/core/transformer/moe/token_dispatcher.py:1770",
        lambda t: "expert_deduplication" not in t.options or not t.experts or t.expert_tensor * t.expert > 1,
    ),
    Check(
        "the flex dispatcher over DeepEP does not pad experts' input to their capacity",
        "megatron/core/transformer/transformer_config.py:1601-1607",
        lambda t: not {"expert_deduplication", "dropped_tokens"} <= t.options,
    ),
    Check(
        "graphs of single modules: the router's need experts, and no layer is recomputed whole",
        "megatron/core/transformer/transformer_config.py:2492-2496,2521-2525",
        lambda t: "scoped_cuda_graphs" not in t.options or (t.experts > 0 and not any(t.recomputed)),
    ),
    Check(
        "graphs of the MLP alone: no layer is recomputed whole",
        "megatron/core/transformer/transformer_config.py:2521-2525",
        lambda t: "mlp_cuda_graphs" not in t.options or not any(t.recomputed),
    ),
    Check(
        "a deferred weight gradient of the head needs pp > 1 and fused accumulation",
        "megatron/core/model_parallel_config.py:545-552",
        lambda t: (
            "deferred_embedding_gradient" not in t.options
            or (t.pipeline > 1 and "unfused_gradient_accumulation" not in t.options)
        ),
    ),
    Check(
        "instances of the distributed optimizer divide dp * cp",
        "megatron/core/parallel_state.py:922-925",
        lambda t: "two_optimizer_instances" not in t.options or divides(2, t.data * t.context),
    ),
    Check(
        "context parallelism by all-to-all: the heads of a tensor rank, keys' and values' too, divide by cp",
        "TransformerEngine @d0067d0da pytorch/attention/dot_product_attention/context_parallel.py:4246",
        lambda t: (
            "a2a_context_parallel" not in t.options
            or (
                divides(t.context, t.heads // t.tensor)
                and (t.latent_attention or divides(t.context, max(1, t.key_value_heads // t.tensor)))
            )
        ),
    ),
    Check(
        "optimizer offload and 16-bit moments need the distributed Adam",
        "megatron/training/arguments.py:1803-1812; megatron/core/optimizer/optimizer_config.py, __post_init__",
        lambda t: not (t.offload or "bf16_moments" in t.options) or (t.zero_stage >= 1 and t.optimizer == "adamw"),
    ),
)
