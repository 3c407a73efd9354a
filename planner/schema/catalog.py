"""Shapes of the facts about the world: GPUs, node types, architectures, optimizers, precisions, prices.

File name = id. Architecture fields use Hugging Face `config.json` names verbatim.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planner.schema.architecture import MOST_LAYERS as MOST_LAYERS
from planner.schema.architecture import Architecture as Architecture
from planner.schema.architecture import ParameterCounts as ParameterCounts
from planner.schema.architecture import RopeScaling as RopeScaling
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
    scales_bytes: Annotated[float, Field(ge=0, le=8)] = 0
    """Of these, what engines that shard weights leave whole on each GPU: scales that are no part of the parameter."""
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
