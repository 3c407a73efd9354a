"""What torchtitan, nanotron, Megatron-DeepSpeed, DualPipe, and engines on plain torch sharding check."""

from __future__ import annotations

from planner.search.witness.told import Check, divides, even_split

TORCHTITAN_SOURCE = "torchtitan @b5bcd76c "
TORCHTITAN = (
    Check(
        "dp * cp * tp * pp is the world",
        "torchtitan/distributed/parallel_dims.py:182",
        lambda t: t.data * t.context * t.tensor * t.pipeline == t.world_size,
    ),
    Check(
        "ep divides dp_shard * cp * tp, beside the expert tensor degree that 0.2 still has",
        "torchtitan/distributed/parallel_dims.py:188; 0.2 torchtitan/distributed/parallel_dims.py, _validate",
        lambda t: divides(t.expert * t.expert_tensor, t.data * t.context * t.tensor),
    ),
    Check(
        "replicas of sharded state are whole, and ep divides the ranks of one of them",
        "torchtitan/distributed/parallel_dims.py:182-193",
        lambda t: (
            t.replicas <= 1 or (divides(t.replicas, t.data) and divides(t.expert, t.data // t.replicas * t.inner))
        ),
    ),
    Check(
        "tp divides n_heads and n_kv_heads",
        "torchtitan/models/common/decoder.py:190-195",
        lambda t: divides(t.tensor, t.heads) and (t.latent_attention or divides(t.tensor, t.key_value_heads)),
    ),
    Check(
        "num_experts is a multiple of ep",
        "torchtitan/models/common/decoder.py:204",
        lambda t: t.expert == 1 or (t.experts > 0 and divides(t.expert, t.experts)),
    ),
    Check(
        "tied embeddings need pp 1",
        "torchtitan/models/common/decoder.py:168",
        lambda t: not t.tied or t.pipeline == 1,
    ),
    Check(
        "tokens divide by tp, times 2 * cp where cp > 1",
        "torchtitan/trainer.py:296-309",
        lambda t: divides(t.tensor * (2 * t.context if t.context > 1 else 1), t.sequence),
    ),
    Check(
        "the batch divides into micro-batches",
        "torchtitan/trainer.py:419",
        lambda t: divides(t.micro_batch * t.data, t.global_batch),
    ),
    Check(
        "1F1B has at least pp micro-batches; a looped schedule pp > 1 and as many in each round",
        "torch 2.13 distributed/pipelining/schedules.py:1020,2938,3049",
        lambda t: (
            t.chunks == 1
            if t.pipeline == 1
            else divides(max(1, t.micro_batches // t.pipeline), t.micro_batches)
            if t.chunks > 1 or t.schedule == "zb-h1"
            else t.micro_batches >= t.pipeline
        ),
    ),
    Check(
        "every stage has its layers",
        "torchtitan/distributed/pipeline_parallel.py:233,413-417",
        lambda t: len(t.layers) == t.pipeline and sum(t.layers) == t.network_layers and min(t.layers) >= t.chunks,
    ),
)

NANOTRON_SOURCE = "nanotron @2411b022 "
NANOTRON = (
    Check(
        "tp * pp * cp * dp is the world",
        "src/nanotron/parallel/context.py:26",
        lambda t: t.tensor * t.pipeline * t.context * t.data == t.world_size,
    ),
    Check(
        "tp divides num_attention_heads and num_key_value_heads",
        "src/nanotron/config/config.py:537; src/nanotron/models/llama.py:348-353",
        lambda t: divides(t.tensor, t.heads) and divides(t.tensor, t.key_value_heads),
    ),
    Check(
        "1F1B has at least pp - 1 micro-batches",
        "src/nanotron/parallel/pipeline_parallel/engine.py, OneForwardOneBackwardPipelineEngine.train_batch_iter",
        lambda t: t.micro_batches >= t.pipeline - 1,
    ),
    Check(
        "the batch divides into micro-batches",
        "src/nanotron/data/samplers.py:166",
        lambda t: divides(t.micro_batch * t.data, t.global_batch),
    ),
    Check(
        "a stage has blocks, and all of them are built",
        "src/nanotron/models/base.py, build_model",
        lambda t: t.chunks == 1 and len(t.layers) == t.pipeline and sum(t.layers) == t.network_layers,
    ),
)

TORCH_SOURCE = ""
TORCH = (
    Check(
        "train_batch_size = micro batch * accumulation * ranks",
        "DeepSpeed @edaa72212 deepspeed/runtime/config.py:925-940; accelerate and FSDP loops alike",
        lambda t: divides(t.micro_batch * t.data, t.global_batch),
    ),
    Check(
        "one pipeline stage, no tensor parallelism of its own",
        "DeepSpeed @edaa72212 deepspeed/runtime/pipe/engine.py:76-77 (ZeRO-2 and 3 have none); nor has FSDP",
        lambda t: t.pipeline == 1 and t.chunks == 1 and t.layers == (t.network_layers,),
    ),
    Check(
        "ranks make up the world",
        "torch distributed/device_mesh.py, init_device_mesh",
        lambda t: t.tensor * t.data * t.context == t.world_size,
    ),
    Check(
        "parameters wait on the host only where they are sharded",
        "DeepSpeed @edaa72212 deepspeed/runtime/zero/config.py, offload_param: valid only with stage 3",
        lambda t: "parameter_offload" not in t.options or t.zero_stage == 3,
    ),
    Check(
        "copies of sharded state are whole: a mesh of two dimensions, one copy a row",
        "verl 0.9.1 workers/engine/fsdp/utils.py:47-52; accelerate 1.15.0 parallelism_config.py:169,372-377",
        lambda t: t.replicas <= 1 or divides(t.replicas, t.data * t.context),
    ),
    Check(
        "without dynamic batches the samples of a rollout are a multiple of the GPUs",
        "verl 0.9.1 utils/config.py:101-128, validate_config",
        lambda t: not t.whole_heads or t.packed or divides(t.world_size, t.samples),
    ),
    Check(
        "Ulysses: context ranks take whole heads",
        "verl @b178a3cd models/transformers/monkey_patch.py:333; DeepSpeed @edaa72212 deepspeed/sequence/layer.py:40",
        lambda t: not t.whole_heads or divides(t.context, t.heads),
    ),
)

MEGATRON_DEEPSPEED_SOURCE = "Megatron-DeepSpeed @4efb479d "
MEGATRON_DEEPSPEED = (
    Check(
        "tp * pp * dp is the world",
        "megatron/arguments.py:102-108; megatron/core/parallel_state.py:138-142",
        lambda t: t.tensor * t.pipeline * t.data * t.context == t.world_size,
    ),
    Check(
        "sequence parallelism of DeepSpeed stands alone: tp and pp are 1",
        "megatron/core/parallel_state.py:145-147",
        lambda t: t.context == 1 or (t.tensor == 1 and t.pipeline == 1),
    ),
    Check(
        "layers and heads divide",
        "megatron/model/transformer.py:562-566 (heads), 1613 (layers), 1803 (chunks)",
        lambda t: even_split(t) and divides(t.tensor, t.heads) and divides(t.tensor, t.key_value_heads),
    ),
    Check(
        "the batch divides into micro-batches",
        "megatron/microbatches.py:64-71",
        lambda t: divides(t.micro_batch * t.data, t.global_batch),
    ),
)

DUALPIPE_SOURCE = "deepseek-ai/DualPipe @bb214e82 "
DUALPIPE = (
    Check(
        "ranks make up the world, experts divide over them",
        "arXiv:2412.19437, section 3.2: 16-way pipeline, 64-way expert and ZeRO-1 data parallelism",
        lambda t: (
            t.tensor * t.pipeline * t.data * t.context == t.world_size
            and (t.expert == 1 or (divides(t.expert, t.experts) and divides(t.expert, t.data * t.inner)))
        ),
    ),
    Check(
        "an even number of ranks; an even number of chunks, at least two a rank",
        "dualpipe/dualpipe.py, DualPipe.step",
        lambda t: (
            t.pipeline == 1
            or (divides(2, t.pipeline) and divides(2, t.micro_batches) and t.micro_batches >= 2 * t.pipeline)
        ),
    ),
    Check(
        "every stage has a module, and all layers are built",
        "dualpipe/dualpipe.py, DualPipe.__init__",
        lambda t: t.chunks == 1 and sum(t.layers) == t.network_layers and min(t.layers) >= 1,
    ),
    Check(
        "the batch divides into micro-batches",
        "dualpipe/utils.py, scatter",
        lambda t: divides(t.micro_batch * t.data, t.global_batch),
    ),
)

LLAMA3_SOURCE = "arXiv:2407.21783, section 3.3.2: "
LLAMA3 = (
    Check(
        "tensor, context, pipeline and data ranks make up the world",
        "figure 5",
        lambda t: t.tensor * t.context * t.pipeline * t.data == t.world_size,
    ),
    Check(
        "tensor ranks take whole heads",
        "splits individual weight tensors",
        lambda t: divides(t.tensor, t.heads) and divides(t.tensor, t.key_value_heads),
    ),
    Check(
        "a sequence is cut into 2 x CP chunks",
        "context parallelism for long sequences",
        lambda t: t.context == 1 or divides(2 * t.context, t.sequence),
    ),
    Check(
        "chunks hold all layers; embedding and loss may stand alone in the first and the last one",
        "pipeline parallelism improvements",
        lambda t: (
            len(t.layers) == t.pipeline
            and sum(t.layers) == t.network_layers
            and all(
                count >= t.chunks - (t.chunks > 1 and place in (0, t.pipeline - 1))
                for place, count in enumerate(t.layers)
            )
        ),
    ),
    Check(
        "the batch divides into micro-batches",
        "table 4",
        lambda t: divides(t.micro_batch * t.data, t.global_batch),
    ),
)
