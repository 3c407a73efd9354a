"""Shapes of the facts about the world: GPUs, node types, architectures, optimizers, precisions, prices.

File name = id. Architecture fields use Hugging Face `config.json` names verbatim.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.schema.base import (
    BytesEach,
    Count,
    Factor,
    Frozen,
    GbPerSecond,
    Gib,
    SomeBytesEach,
    SomeGib,
    Source,
    TeraFlops,
    Usd,
)

MOST_LAYERS = 4096
Width = Annotated[int, Field(ge=1, le=2**31)]
"""A size of a network, one at least."""
Parameters = Annotated[int, Field(ge=0, le=2**53)]
"""A number of parameters."""

LinkKind = Literal["switch", "full_mesh", "bridged_pairs", "hybrid_cube_mesh", "pcie_tree", "none"]
Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]


class Gpu(Frozen):
    """One GPU model. Memory is binary, bandwidth and FLOP are decimal."""

    id: str
    name: str
    vendor: Literal["nvidia", "amd"]
    chip: str
    """Chip generation and compute capability, such as 'Hopper sm_90'."""
    sm_count: Count | None = None
    memory_marketed_gb: Gib
    """The vendor's label; never used as a capacity."""
    memory_total_mib: Annotated[float, Field(ge=1, le=2**34)] | None = None
    """What nvidia-smi shows as total."""
    usable_gib: SomeGib
    """What the driver leaves to torch, lower end of what was seen (torch.cuda.mem_get_info total)."""
    usable_gib_inferred: bool = False
    """True where usable_gib is derived from the total, not seen."""
    memory_bandwidth_gb_per_s: GbPerSecond
    dense_tflops: Annotated[dict[str, TeraFlops], Field(min_length=1)]
    """Vendor peak without sparsity by precision id: fp32, tf32, bf16, fp16, fp8, int8 (TOP/s), fp4."""
    sustained_gemm_fraction: float | None = Field(default=None, ge=1e-3, le=1)
    """Share of the dense bf16 peak that large GEMMs sustain, where measured."""
    sustained_rate: dict[Literal["bf16", "fp8"], float] = Field(default_factory=dict)
    """Rate of matrix products in a training run over that of the GEMM grid (fp8: of the grid scaled by the ratio of
    peaks): boards at their power limit hold lower clocks over hours than over a sweep. Nothing stated: 1 in 16 bits."""
    sustained_rate_source: str | None = None
    gemm_grid: str | None = None
    """File in catalogs/measured/ with this device's own measured bf16 GEMM grid."""
    gemm_grid_from: str | None = None
    """Id of the GPU whose grid is scaled by peak FLOP and bandwidth when this one has none of its own."""
    attention_forward_tflops: TeraFlops | None = None
    """Peak of causal FlashAttention forward, head_dim 128, FLOPs of the causal half only."""
    nvlink_gb_per_s: GbPerSecond | None = None
    """One direction, all links of one GPU (NVLink, or Infinity Fabric on AMD)."""
    pcie_gb_per_s: GbPerSecond
    """One direction, x16 as wired, spec."""
    usual_node: str | None = None
    """Id of the node type that is meant where only this GPU is named; needless where there is only one."""
    aliases: list[str] = Field(default_factory=list)
    """Other names that people type for it."""
    peer_to_peer: bool = True
    """False where the driver forbids GPU-to-GPU copies over PCIe (GeForce)."""
    tdp_w: Factor | None = None
    notes: str | None = None
    sources: list[Source] = Field(min_length=1)


class Nics(Frozen):
    """Network adapters of one node."""

    count: Annotated[int, Field(ge=0, le=1024)]
    gbit_per_s_each: Factor
    fabric: str
    gb_per_s_per_gpu: Factor
    """One direction, decimal GB/s, that each GPU can use when all use their share."""


class NodeLinks(Frozen):
    """How the GPUs of one node are linked; one direction, decimal GB/s."""

    kind: LinkKind
    gb_per_s_per_gpu: GbPerSecond | None = None
    """All links of one GPU together (NVLink, Infinity Fabric, or PCIe for a pcie_tree)."""
    gb_per_s_per_pair: GbPerSecond | None = None
    """full_mesh and bridged_pairs: the direct link between two neighbours."""
    gb_per_s_per_link: GbPerSecond | None = None
    """hybrid_cube_mesh: one link."""
    edges: list[tuple[Count, Count, Count]] = Field(default_factory=list, max_length=4096)
    """hybrid_cube_mesh: (gpu, gpu, number of links)."""
    pcie_gb_per_s: GbPerSecond | None = None
    """PCIe path of one GPU, x16 one direction."""
    gpus_per_pcie_switch: int = Field(default=2, ge=1, le=4096)
    gpus_per_socket: int = Field(default=4, ge=1, le=4096)
    in_network_reduction: bool = False
    """The switch reduces in flight (NVLink SHARP)."""
    measured_as: str | None = None
    """Device name in catalogs/measured/nccl.csv whose intra-node curves hold here."""
    pcie_bus_gb_per_s: dict[int, GbPerSecond] = Field(default_factory=dict)
    """Measured all-reduce bus bandwidth over PCIe by group size, where there is no better link."""


class Node(Frozen):
    """One node type: GPUs, the links between them, network adapters, host memory."""

    id: str
    name: str
    gpu: str
    gpus_per_node: int = Field(ge=1, le=4096)
    """GPUs inside one NVLink domain or host; an NVL72 rack counts 72."""
    links: NodeLinks
    nics: Nics
    host_memory_gib: SomeGib | None = None
    """Lower end where builds differ."""
    gpus_per_host: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Only where one NVLink domain spans several hosts (GB200 NVL72: 4)."""
    cpu: str | None = None
    cloud: str | None = None
    instance: str | None = None
    bus_gb_per_s_inter: dict[Collective, GbPerSecond] = Field(default_factory=dict)
    """Measured large-message bus bandwidth between several such nodes, per GPU as nccl-tests prints it."""
    bus_gb_per_s_intra: dict[str, GbPerSecond] = Field(default_factory=dict)
    """Measured large-message bus bandwidth inside the node, e.g. all_reduce_8: 480."""
    notes: str | None = None
    sources: list[Source] = Field(min_length=1)


class ParameterCounts(Frozen):
    """Exact published counts, used to check the counting formulas, never as their input."""

    total: Parameters
    active_per_token: Parameters | None = None
    non_embedding: Parameters | None = None
    by_group: dict[str, Parameters] = Field(default_factory=dict)
    counted_with: str | None = None


class RopeScaling(Frozen):
    """Rotary frequencies stretched beyond the lengths first trained on; names are those of config.json."""

    rope_type: Literal["llama3", "yarn", "longrope", "linear", "dynamic"]
    factor: float = Field(ge=1e-3, le=1e6)
    original_max_position_embeddings: int = Field(gt=0, le=2**31)
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0


class Architecture(Frozen):
    """A decoder-only network; names are those of its Hugging Face config.json."""

    id: str
    hf_id: str | None = None
    aliases: list[str] = Field(default_factory=list)
    """Other names of the same network: releases whose weights differ and nothing else."""
    model_type: str
    hidden_size: int = Field(gt=0, le=2**26)
    num_hidden_layers: int = Field(gt=0, le=MOST_LAYERS)
    num_attention_heads: int = Field(gt=0, le=2**26)
    num_key_value_heads: int = Field(gt=0, le=2**26)
    head_dim: int = Field(gt=0, le=2**26)
    """Query/key head size; for multi-head latent attention qk_nope_head_dim + qk_rope_head_dim."""
    intermediate_size: int = Field(gt=0, le=2**26)
    vocab_size: int = Field(gt=0, le=2**26)
    max_position_embeddings: Width | None = None
    tie_word_embeddings: bool = False
    hidden_act: str = "silu"
    gated_mlp: bool = True
    """Two input projections (SwiGLU, GeGLU) instead of one."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_vectors: int | None = Field(default=None, ge=0, le=2)
    """Vectors of hidden_size that one norm learns, where not 1 (RMS norm) or 2 (layer norm): Cohere's has no bias."""
    norms_per_layer: int = Field(default=2, ge=1, le=64)
    """Norms over the hidden size in one layer (Gemma has 4, GPT-J 1)."""
    parallel_block: bool = False
    """Attention and MLP add to the same stream side by side (GPT-J, GPT-NeoX, Falcon, Cohere)."""
    qk_norm: Literal["none", "head", "full"] = "none"
    """Query/key norms over one head, or over the full projection width."""
    learned_positions: Width | None = None
    """Rows of a learned position embedding; none with rotary positions."""
    alibi: bool = False
    """Positions enter as a bias on the attention scores; nothing is rotated or learned."""
    embedding_norm: bool = False
    """A norm right behind the embedding (BLOOM)."""
    head_bias: bool = False
    """Bias on the logits (GPT-J, Phi-2)."""
    vision_parameters: int = Field(default=0, ge=0, le=10**12)
    """Parameters of a vision tower with its projector; whole on every GPU of the first stage, trained with the rest."""
    attention_bias: bool = False
    """Bias on the query, key and value projections."""
    attention_out_bias: bool = False
    attention_sinks: bool = False
    """One learned scalar a query head (gpt-oss)."""
    mlp_bias: bool = False
    """Bias on every MLP (or expert) projection."""
    router_bias: bool = False
    sliding_window: Width | None = None
    sliding_window_layers: Count = 0
    """How many layers attend only to the window."""
    q_lora_rank: Width | None = None
    kv_lora_rank: Width | None = None
    qk_nope_head_dim: Width | None = None
    qk_rope_head_dim: Width | None = None
    v_head_dim: Width | None = None
    num_experts: Width | None = None
    num_experts_per_tok: Width | None = None
    moe_intermediate_size: Width | None = None
    shared_expert_intermediate_size: Count = 0
    """Width of all shared experts of one layer together."""
    shared_expert_gate: bool = False
    first_k_dense_replace: Count = 0
    """Leading layers with a dense MLP although the rest route."""
    num_nextn_predict_layers: Count = 0
    norm_epsilon: float | None = Field(default=None, gt=0)
    """Added to the variance in every norm; like the fields below it changes no byte, and launch files need it."""
    rope_theta: float | None = Field(default=None, gt=0)
    """Base of the rotary frequencies; none with learned positions, or where the source is silent."""
    rope_scaling: RopeScaling | None = None
    partial_rotary_factor: float = Field(default=1.0, gt=0, le=1)
    """Share of each head that is rotated."""
    scoring_func: Literal["softmax", "sigmoid"] | None = None
    """How the router's logits become scores of experts."""
    norm_topk_prob: bool = True
    """The scores of the chosen experts are divided by their sum."""
    routed_scaling_factor: Factor = 1.0
    n_group: int = Field(default=1, ge=1, le=2**20)
    """Groups of experts of which topk_group are looked at."""
    topk_group: int = Field(default=1, ge=1, le=2**20)
    router_correction_bias: bool = False
    """A bias of each expert that takes part in the choice, not in the weight (e_score_correction_bias)."""
    attention_dropout: float = Field(default=0.0, ge=0, le=1)
    hidden_dropout: float = Field(default=0.0, ge=0, le=1)
    cautions: list[str] = Field(default_factory=list)
    """What a plan of this network leaves out or takes for something else; printed with the known errors."""
    parameters: ParameterCounts | None = None
    notes: str | None = None
    sources: list[Source] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Architecture:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        if self.is_moe and (self.num_experts_per_tok is None or self.moe_intermediate_size is None):
            raise ValueError("num_experts needs num_experts_per_tok and moe_intermediate_size")
        if self.is_mla and None in (self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim):
            raise ValueError("kv_lora_rank needs qk_nope_head_dim, qk_rope_head_dim and v_head_dim")
        return self

    @property
    def is_moe(self) -> bool:
        """True where some layers route tokens to experts."""
        return self.num_experts is not None

    @property
    def is_mla(self) -> bool:
        """True for multi-head latent attention."""
        return self.kv_lora_rank is not None

    @property
    def query_width(self) -> int:
        """Width of all query heads."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_value_width(self) -> int:
        """Width of all key heads, which is that of all value heads too (grouped-query attention)."""
        return self.num_key_value_heads * self.head_dim

    @property
    def attention_out_width(self) -> int:
        """Width that enters the output projection."""
        return self.num_attention_heads * (self.v_head_dim if self.v_head_dim is not None else self.head_dim)


class Optimizer(Frozen):
    """What an optimizer keeps for each trainable parameter."""

    id: str
    name: str
    state_bytes: BytesEach
    """Bytes a parameter of moments and the like, without the fp32 master copy."""
    master_bytes: BytesEach
    """Bytes a parameter of the fp32 master copy, where the optimizer keeps one beside 16-bit weights."""
    factored: bool = False
    """fp32 statistics for rows + columns of each matrix (Adafactor) come on top of state_bytes."""
    ends_state_bytes: BytesEach | None = None
    """In place of state_bytes for embedding, head and norms, where another optimizer takes them (Muon)."""
    projection_rank: int | None = Field(default=None, ge=1, le=2**20)
    """Moments of the layers' matrices live in a projection of this rank (GaLore)."""
    projector_bytes: BytesEach = 4
    """Bytes an element of the projector."""
    orthogonalising_iterations: int = Field(default=0, ge=0, le=1000)
    """Iterations, three matrix products each, that orthogonalise the update of every matrix of the layers (Muon)."""
    own_format: bool = False
    """Moments have a format of their own (8-bit blocks), whatever format the weights have."""
    paged: bool = False
    """State lies in memory that the driver moves to the host page by page: planned as if all of it were there."""
    transient_bytes: BytesEach = 0
    """Bytes a parameter of the largest temporary inside the step, on the shard being updated; in the moments' format,
    like `state_bytes`."""
    memory_passes_bytes: SomeBytesEach
    """Bytes read and written a parameter in one step; sets the time of a step."""
    notes: str | None = None
    sources: list[Source] = Field(min_length=1)


class Precision(Frozen):
    """A number format."""

    id: str
    name: str
    weight_bytes: SomeBytesEach
    """Bytes a weight, block scales included."""
    compute: str
    """Key into Gpu.dense_tflops for matrix products."""
    activation_bytes: SomeBytesEach
    """Bytes an activation element kept for backward."""
    trainable: bool
    """False for formats that only hold frozen weights (int8, int4, nf4)."""
    served_bytes: SomeBytesEach | None = None
    """Bytes a weight, block scales included, where an engine that only generates keeps no wider copy."""
    notes: str | None = None
    sources: list[Source] = Field(min_length=1)

    @property
    def quantised(self) -> bool:
        """Generating, it holds only the layers' weights; embedding and head stay in 16 bit."""
        return self.served_bytes is not None or not self.trainable


class Price(Frozen):
    """One offer: what one GPU-hour costs. US dollars, list prices without tax."""

    id: str
    provider: str
    instance: str
    node: str | None = None
    """Node type of this instance, where the catalog has one; only such offers can be planned on."""
    gpu: str
    gpus_per_instance: int = Field(ge=1, le=4096)
    on_demand_usd_per_gpu_hour: Usd | None = None
    spot_usd_per_gpu_hour: Usd | None = None
    """A snapshot, or the median of one."""
    reserved_usd_per_gpu_hour: Usd | None = None
    region: str | None = None
    notes: str | None = None
    sources: list[Source] = Field(min_length=1)
