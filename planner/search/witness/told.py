"""A plan in the words of its engine, and one assertion of an engine about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from planner.problem.problem import Problem


@dataclass(frozen=True)
class Told:
    """What an engine is told of a plan, by its own words for it."""

    world_size: int
    tensor: int
    pipeline: int
    chunks: int
    data: int
    context: int
    expert: int
    expert_tensor: int
    zero_stage: int
    global_batch: int
    micro_batch: int
    samples: int
    """Of one rollout; 0 without one."""
    packed: bool
    """Micro-batches hold samples up to a number of tokens, not a fixed number of them."""
    sequence: int
    """Its length as it is cut, padding with it."""
    sequence_parallel: bool
    layers: tuple[int, ...]
    """Of each stage."""
    recomputed: tuple[int, ...]
    """Of each stage, whole layers."""
    modules: tuple[str, ...]
    """Recomputed by themselves (selective)."""
    heads: int
    key_value_heads: int
    linear_heads: tuple[int, int]
    """Key and value heads of linear attention, where the engine cuts them."""
    linear_projection: int
    """Rows of its first projection."""
    network_layers: int
    width: int
    """Of the dense MLP."""
    expert_width: int
    experts: int
    """0 in a dense network."""
    leading_dense: int
    positions: int | None
    expert_bias: bool
    latent_attention: bool
    tied: bool
    precision: str
    optimizer: str
    offload: bool
    stages_before_data: bool
    """Ranks count up along the pipeline before they do along data parallelism (--use-tp-pp-dp-mapping)."""
    schedule: str
    options: frozenset[str]
    replicas: int
    """Of sharded state, over nodes (HSDP)."""
    whole_heads: bool
    """Context parallelism sends whole heads (Ulysses)."""
    splits: str
    """`any`, `first_last` or `no`: what the engine is told of stages that differ."""

    @property
    def inner(self) -> int:
        """Ranks of one data-parallel one."""
        return self.context * self.tensor

    @property
    def micro_batches(self) -> int:
        """Of one optimizer step on one rank; whole where the batch divides."""
        return self.global_batch // (self.micro_batch * self.data)


@dataclass(frozen=True)
class Check:
    """One assertion of an engine."""

    text: str
    source: str
    holds: Callable[[Told], bool]


def divides(small: int, large: int) -> bool:
    """Is the second number a multiple of the first."""
    return small > 0 and large % small == 0


def even_split(t: Told) -> bool:
    """--num-virtual-stages-per-pipeline-rank or nothing: the layers a stage, and of it a chunk, come out whole."""
    each = t.network_layers // t.pipeline
    alike = all(count == each for count in t.layers)
    return alike and divides(t.pipeline, t.network_layers) and divides(t.chunks, each)


def _replicas(problem: Problem, lay: Mapping[str, int]) -> int:
    """Nodes that the ranks of one pipeline and tensor rank span, where state is sharded inside nodes."""
    if "hybrid_sharding" not in problem.scenario.engine_options:
        return 1
    spanned = lay["data_parallel"] * lay["context_parallel"] * lay["tensor_parallel"]
    return max(1, spanned // problem.node.gpus_per_node)


def _padded(problem: Problem, lay: Mapping[str, int]) -> int:
    """Length of a sequence as ranks cut it: engines that pack pad each to pieces of one length for all ranks.

    slime v0.3.1 backends/megatron_utils/cp_utils.py:307-312, data.py:97-101; verl 0.9.1 models/mcore/util.py:77-83;
    NeMo-RL @7ea279ab data/llm_message_utils.py:355-358.
    """
    if problem.engine.packing is None:
        return lay["sequence_length"]
    pieces = 2 * lay["context_parallel"] * lay["tensor_parallel"]
    return -(-lay["sequence_length"] // pieces) * pieces


def _cuts_linear(problem: Problem) -> bool:
    """Whether the engine cuts heads of linear attention; slime's layers are whole on each rank."""
    said = problem.engine.linear_attention
    return said is None or said.heads_cut


def told(problem: Problem, lay: Mapping[str, int], layers: Sequence[int], recomputed: Sequence[int]) -> Told:
    """What the engine is told of a row of `Layouts` with these layers and recomputed layers of its stages."""
    a, scenario = problem.architecture, problem.scenario
    spec = scenario.layout
    offloading = ["fine_grained_offloading"] if spec.activation_offload is True else []
    return Told(
        world_size=lay["num_gpus"],
        tensor=lay["tensor_parallel"],
        pipeline=lay["pipeline_parallel"],
        chunks=lay["virtual_pipeline"],
        data=lay["data_parallel"],
        context=lay["context_parallel"],
        expert=lay["expert_parallel"],
        expert_tensor=lay["expert_tensor_parallel"],
        zero_stage=lay["zero_stage"],
        global_batch=lay["global_batch_size"],
        micro_batch=lay["micro_batch_size"],
        samples=problem.wishes[lay["wish"]].samples if problem.is_rl else 0,
        packed=bool(lay["max_tokens"]) and "fixed_micro_batches" not in scenario.engine_options,
        sequence=_padded(problem, lay),
        sequence_parallel=bool(lay["sequence_parallel"]),
        layers=tuple(layers),
        recomputed=tuple(recomputed),
        modules=tuple(spec.recompute_modules),
        heads=a.num_attention_heads,
        key_value_heads=a.num_key_value_heads,
        linear_heads=(a.linear_num_key_heads or 0, a.linear_num_value_heads or 0) if _cuts_linear(problem) else (0, 0),
        linear_projection=2 * (a.linear_key_width + a.linear_value_width + (a.linear_num_value_heads or 0)),
        network_layers=a.num_hidden_layers,
        width=a.intermediate_size,
        expert_width=a.moe_intermediate_size or 0,
        experts=a.num_experts or 0,
        leading_dense=a.first_k_dense_replace,
        positions=a.learned_positions,
        expert_bias=bool(a.mlp_bias),
        latent_attention=a.is_mla,
        tied=a.tie_word_embeddings,
        precision=problem.precision.id,
        optimizer=problem.optimizers[lay["optimizer"]].id,
        offload=bool(spec.optimizer_offload),
        stages_before_data=scenario.cluster.rank_order == "tp_pp_dp",
        schedule=str(spec.schedule),
        options=frozenset([*scenario.engine_options, *offloading]),
        replicas=_replicas(problem, lay),
        whole_heads=problem.engine.context_by_heads,
        splits=problem.engine.pipeline.uneven,
    )
