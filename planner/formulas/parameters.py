"""How many parameters a decoder-only network has, exactly, split by how parallelism treats them.

Checked by equality against counts made with transformers 5.23.0 on the meta device for every model of the catalog:
`AutoModelForCausalLM.from_config`, tied weights once, buffers excluded, layers that predict further tokens not counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.formulas.matrices import all_linear, attention_matrices, linear_matrices, mlp_matrices

if TYPE_CHECKING:
    from planner.schema.architecture import LayerKind
    from planner.schema.catalog import Architecture

ALL_LINEAR = "all-linear"
"""LoRA on every linear layer of a block; not on embeddings, head or router."""
MLP_OUT = ("down_proj", "linear_fc2", "fc2", "c_proj")
"""Names of the MLP matrix whose outputs are the hidden size."""
MLP_IN = ("gate_proj", "up_proj", "gate_up_proj", "linear_fc1", "c_fc", "fc1")
"""Names of MLP matrices that read the hidden size."""
ATTENTION_OUT = ("o_proj", "linear_proj", "c_proj", "out_proj")
"""Names of the matrix that reads what attention makes, of linear attention out_proj. GPT-2 calls it and the MLP's last
matrix c_proj."""
LATENTS = ("q_a_proj", "kv_a_proj_with_mqa")
"""Down-projections of latent attention."""


@dataclass(frozen=True)
class LayerParameters:
    """Parameters of one transformer layer, of the mean one where layers are of several kinds. [elements]"""

    attention_sharded: float
    """Query, key, value (or latent up-projections) and output matrices, biases of the first three, attention sinks."""
    attention_replicated: float
    """Query/key norms, output bias, and the down-projections of latent attention with their norms."""
    norm: int
    """The norms over the hidden size."""
    dense_mlp_sharded: float
    dense_mlp_replicated: float
    """Bias of the down-projection."""
    router: float
    """Router matrix and bias, and the gate of the shared expert."""
    routed_experts: float
    """All experts of the layer together."""
    shared_experts: float
    linear_sharded: float = 0
    """Of linear attention or Mamba-2: projections in and out, convolution, decay rates and step biases of the heads."""
    linear_replicated: float = 0
    """The norm over one value head of linear attention."""

    @property
    def total(self) -> float:
        """The whole layer. [elements]"""
        return (
            self.attention_sharded
            + self.attention_replicated
            + self.linear_sharded
            + self.linear_replicated
            + self.norm
            + self.dense_mlp_sharded
            + self.dense_mlp_replicated
            + self.router
            + self.routed_experts
            + self.shared_experts
        )


@dataclass(frozen=True)
class ArchitectureParameters:
    """Parameters of a whole network. [elements]"""

    embedding: int
    position_embedding: int
    embedding_norm: int
    vision: int
    """A vision tower with its projector."""
    projector: int
    """Of these, the projector's."""
    lm_head: int
    """0 where the head is tied to the embedding."""
    head_bias: int
    final_norm: int
    dense_layer: LayerParameters
    """A layer with a dense MLP, also where the network has none such (num_dense_layers 0)."""
    moe_layer: LayerParameters | None
    num_dense_layers: int
    num_moe_layers: int
    routed_experts_idle: int
    """Routed-expert parameters that one token does not visit, over all layers."""
    full_attention: tuple[int, int]
    """Sharded and replicated parameters of attention in a layer that attends."""
    linear_attention: tuple[int, int]
    """The same of linear attention or Mamba-2 in a layer that has it; none where no layer has."""
    mlp_share: float
    """Share of the layers that have an MLP or experts: 1 unless each layer is one block alone."""

    @property
    def total(self) -> int:
        """All parameters, tied weights once. [elements]"""
        moe = self.moe_layer.total * self.num_moe_layers if self.moe_layer is not None else 0
        ends = self.embedding + self.beside_embedding + self.lm_head + self.beside_head
        return round(ends + self.dense_layer.total * self.num_dense_layers + moe)

    def frozen(self, parts: Collection[str]) -> int:
        """Those of a vision tower of which these parts (`vision_tower`, `projector`) are frozen. [elements]"""
        return (self.vision - self.projector) * ("vision_tower" in parts) + self.projector * ("projector" in parts)

    @property
    def beside_embedding(self) -> int:
        """What stands with the embedding and is not cut with it: learned positions, its norm, a vision tower."""
        return self.position_embedding + self.embedding_norm + self.vision

    @property
    def beside_head(self) -> int:
        """What stands with the head and is not cut with it: the final norm and a bias on the logits."""
        return self.final_norm + self.head_bias

    @property
    def active_per_token(self) -> int:
        """All but the routed experts that a token does not visit; embedding and head included. [elements]"""
        return self.total - self.routed_experts_idle


def count_parameters(architecture: Architecture) -> ArchitectureParameters:
    """Exact parameter count of a catalog architecture.

    With h hidden_size, a heads, g key/value heads, d head_dim, f intermediate_size, V vocab_size, E experts:

        attention  h (a + 2g) d + a d h                      (+ biases, q/k norms, sinks; a gate as wide as q, h a d)
        linear     h (2 k + 2 w + 2 n) + c (2 k + w) + w h + 2 n + w / n
                   k, w the widths of all key and value heads, n value heads, c the convolution's kernel
        latent     h q + q a (n + r) + h (c + r) + c a (n + v) + a v h + q + c
                   q, c the query and key/value ranks; n, r, v the nope, rope and value head sizes;
                   without q_lora_rank the query matrix is h a (n + r)
        Mamba-2    h (2 w + 2 g N + n) + (c + 1) (w + 2 g N) + 3 n + w + w h
                   w the width of n heads, g groups of N numbers, c the convolution's kernel
        MLP        3 h f gated, 2 h f plain                  (+ biases)
        MoE        E times an MLP of moe_intermediate_size + the shared MLP + router h E
        ends       V h + V h unless tied + learned positions times h + final norm (+ V where the head has a bias)

    Source: modelling code of transformers 5.23.0; Llama-3-8B gives 8,030,261,248, DeepSeek-V3 671,026,404,352.
    """
    return _count(architecture)


def matrix_elements(architecture: Architecture, *, moe_layer: bool, kind: LayerKind = "full") -> int:
    """Elements of the matrices of one layer's linear modules: no biases, no norms, no routed experts. [elements]

    In a layer with experts, router, shared experts and their gate; in one with linear attention its projections.
    """
    s = architecture
    other = kind in ("linear", "mamba")
    attention = linear_matrices(s) if other else attention_matrices(s) if kind != "mlp" else {}
    names = attention if other else all_linear(s)
    separate = sum(into * out for into, out in (attention[n] for n in names if n in attention))
    if kind in ("mamba", "attention"):
        return separate
    width = s.shared_expert_intermediate_size if moe_layer else s.intermediate_size
    router = s.hidden_size * ((s.num_experts or 0) + s.shared_expert_gate) * moe_layer
    return separate + (3 if s.gated_mlp else 2) * s.hidden_size * width + router


def lora_parameters(architecture: Architecture, rank: int, targets: Iterable[str] | str = ALL_LINEAR) -> int:
    """Parameters of LoRA adapters. [elements]

        rank (inputs + outputs)   for every adapted matrix, in every layer, in every expert

    Targets are the module names of Hugging Face (q_proj, gate_up_proj, c_attn, kv_b_proj, ...) or Megatron (linear_qkv,
    linear_proj, linear_fc1, linear_fc2), or `all-linear`. A fused name is one adapter over the fused matrix.
    Source: Hu et al. 2021, arXiv:2106.09685; Llama-3-8B at rank 16 on all linear layers has 41,943,040.
    """
    return rank * sum(into + out for into, out in adapted_sides(architecture, targets))


def adapted_sides(architecture: Architecture, targets: Iterable[str] | str = ALL_LINEAR) -> tuple[tuple[int, int], ...]:
    """(sum of inputs, sum of outputs) of all adapted matrices, one pair for each target name. [elements]

    DoRA (Liu et al. 2024, arXiv:2402.09353) adds one magnitude an output: Llama-3.2-3B at rank 32 on q_proj
    and v_proj trains 9,289,728. LoRA-FA (Zhang et al. 2023, arXiv:2308.03303) trains the rank x outputs only.
    """
    names = [targets] if isinstance(targets, str) else list(dict.fromkeys(targets))
    attention, mlp = attention_matrices(architecture), mlp_matrices(architecture)
    linear, attending = linear_matrices(architecture), architecture.full_attention_layers
    others = architecture.linear_layers + architecture.mamba_layers
    unknown = [n for n in names if n != ALL_LINEAR and n not in attention and n not in linear and n not in mlp]
    if unknown:
        known = ", ".join([ALL_LINEAR, *attention, *linear, *mlp])
        raise ValueError(f"no linear layer is named {', '.join(unknown)}; this architecture has {known}")
    widths = _mlp_widths(architecture)
    sides: list[tuple[int, int]] = []
    for name in all_linear(architecture) if ALL_LINEAR in names else names:
        into, out = (side * attending for side in attention.get(name, (0, 0)))
        more = (side * others for side in linear.get(name, (0, 0)))
        into, out = (one + other for one, other in zip((into, out), more, strict=True))
        if name in mlp:
            wide = sum(mlp[name] * width * count for width, count in widths)
            hidden = sum(architecture.hidden_size * count for _, count in widths)
            into, out = (into + wide, out + hidden) if name in MLP_OUT else (into + hidden, out + wide)
        sides.append((into, out))
    return tuple(sides)


def adapted_shapes(architecture: Architecture, targets: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """(inputs, outputs) of each matrix that carries a target name, of the widest MLP. [elements]"""
    attention = attention_matrices(architecture) | linear_matrices(architecture)
    mlp, hidden = mlp_matrices(architecture), architecture.hidden_size
    widest = max(width for width, count in _mlp_widths(architecture) if count)
    sides = []
    for name in target_names(architecture, targets):
        sides += [attention[name]] if name in attention else []
        wide = mlp.get(name, 0) * widest
        sides += [(wide, hidden) if name in MLP_OUT else (hidden, wide)] if name in mlp else []
    return tuple(sides)


@dataclass(frozen=True)
class Adapted:
    """One adapted matrix of a layer."""

    inputs: int
    outputs: int
    cut: str
    """Which side tensor parallelism cuts: inputs, outputs or neither."""


def adapted_attention(
    architecture: Architecture, targets: Iterable[str], *, linear: bool = False
) -> tuple[Adapted, ...]:
    """Adapted attention matrices of one layer that attends, or has `linear` attention; latent down-projections lie
    whole on each rank."""
    attention = linear_matrices(architecture) if linear else attention_matrices(architecture)
    found = [name for name in target_names(architecture, targets) if name in attention]
    return tuple(
        Adapted(*attention[name], "inputs" if name in ATTENTION_OUT else "neither" if name in LATENTS else "outputs")
        for name in found
    )


def adapted_of_attention(architecture: Architecture, targets: Iterable[str]) -> float:
    """How many matrices of attention are adapted in one layer, in the mean layer where some have linear attention."""
    full, linear = (len(adapted_attention(architecture, targets, linear=kind)) for kind in (False, True))
    return full + (linear - full) * architecture.linear_layers / architecture.num_hidden_layers


def adapted_mlp(architecture: Architecture, targets: Iterable[str], width: int) -> tuple[Adapted, ...]:
    """Adapted matrices of one MLP or expert of that width."""
    mlp, hidden = mlp_matrices(architecture), architecture.hidden_size
    found = [name for name in target_names(architecture, targets) if name in mlp]
    return tuple(
        Adapted(mlp[name] * width, hidden, "inputs")
        if name in MLP_OUT
        else Adapted(hidden, mlp[name] * width, "outputs")
        for name in found
    )


def target_names(architecture: Architecture, targets: Iterable[str]) -> tuple[str, ...]:
    """Names of adapted matrices, `all-linear` spelt out."""
    names = list(dict.fromkeys(targets))
    return tuple(all_linear(architecture) if ALL_LINEAR in names else names)


def _count(s: Architecture) -> ArchitectureParameters:
    h, full = s.hidden_size, s.full_attention_layers / s.num_hidden_layers
    norm = h * (s.norm_vectors if s.norm_vectors is not None else 1 if s.norm == "rmsnorm" else 2)
    attention = _mla(s) if s.kv_lora_rank is not None else _grouped_query_attention(s)
    other = linear_attention(s) if s.is_linear else mamba(s) if s.is_hybrid else (0, 0)
    # The mean layer: each has one of the two, or of the three.
    sharded, replicated = (amount * full for amount in attention) if s.is_linear or s.is_hybrid else attention
    rest = s.linear_layers + s.mamba_layers
    others = [amount * rest / s.num_hidden_layers for amount in other]
    linear = {"linear_sharded": others[0], "linear_replicated": others[1]}
    dense_mlp = _mlp(s, s.intermediate_size)
    dense = LayerParameters(
        attention_sharded=sharded,
        attention_replicated=replicated,
        norm=s.norms_per_layer * norm,
        dense_mlp_sharded=_mean_mlp(s, dense_mlp - (h if s.mlp_bias else 0)),
        dense_mlp_replicated=_mean_mlp(s, h if s.mlp_bias else 0),
        router=0,
        routed_experts=0,
        shared_experts=0,
        **linear,
    )
    num_dense, num_moe, idle, moe = s.num_hidden_layers, 0, 0, None
    if s.num_experts is not None:
        width, active = s.moe_intermediate_size or 0, s.num_experts_per_tok or 0
        num_dense = s.first_k_dense_replace
        num_moe = s.num_hidden_layers - num_dense
        expert = _mlp(s, width)
        idle = (s.mlp_layers - num_dense) * (s.num_experts - active) * expert
        shared = s.shared_expert_intermediate_size
        moe = LayerParameters(
            attention_sharded=sharded,
            attention_replicated=replicated,
            norm=s.norms_per_layer * norm,
            dense_mlp_sharded=0,
            dense_mlp_replicated=0,
            router=_mean_mlp(s, (h + s.router_bias) * s.num_experts + (h if s.shared_expert_gate else 0)),
            routed_experts=_mean_mlp(s, s.num_experts * expert),
            shared_experts=_mean_mlp(s, _mlp(s, shared)) if shared else 0,
            **linear,
        )
    return ArchitectureParameters(
        embedding=s.vocab_size * h,
        position_embedding=(s.learned_positions or 0) * h,
        embedding_norm=norm if s.embedding_norm else 0,
        vision=s.vision_parameters,
        projector=s.projector_parameters,
        lm_head=0 if s.tie_word_embeddings else s.vocab_size * h,
        head_bias=s.vocab_size if s.head_bias else 0,
        final_norm=norm,
        dense_layer=dense,
        moe_layer=moe,
        num_dense_layers=num_dense,
        num_moe_layers=num_moe,
        routed_experts_idle=idle,
        full_attention=attention,
        linear_attention=other,
        mlp_share=s.mlp_layers / s.num_hidden_layers,
    )


def _grouped_query_attention(s: Architecture) -> tuple[int, int]:
    """Sharded and replicated parameters of multi-head or grouped-query attention."""
    query, key = s.num_attention_heads * s.head_dim, s.num_key_value_heads * s.head_dim
    sharded = s.hidden_size * (query * (1 + s.attn_output_gate) + 2 * key) + query * s.hidden_size
    sharded += (query + 2 * key if s.attention_bias else 0) + (s.num_attention_heads if s.attention_sinks else 0)
    replicated = s.hidden_size if s.attention_out_bias else 0
    return sharded, replicated + {"none": 0, "head": 2 * s.head_dim, "full": query + key}[s.qk_norm]


def linear_attention(s: Architecture) -> tuple[int, int]:
    """Sharded and replicated parameters of one layer's linear attention, a gated delta rule. [elements]

    Source: modelling code of transformers 5.23.0, Qwen3NextGatedDeltaNet and Qwen3_5GatedDeltaNet; cut by heads as
    Megatron-LM @d98e8a64d megatron/core/ssm/gated_delta_net/common.py lines 176 to 240.
    """
    keys, values, heads = s.linear_key_width, s.linear_value_width, s.linear_num_value_heads or 0
    into = s.hidden_size * (2 * keys + 2 * values + 2 * heads)
    convolution = (s.linear_conv_kernel_dim or 0) * (2 * keys + values)
    return into + convolution + values * s.hidden_size + 2 * heads, s.linear_value_head_dim or 0


def mamba(s: Architecture) -> tuple[int, int]:
    """Sharded and replicated parameters of one layer of Mamba-2. [elements]

    Source: modelling code of transformers 5.23.0, NemotronHMamba2Mixer; all of it is cut by heads and groups in
    Megatron-LM @d98e8a64d megatron/core/ssm/mamba_mixer.py.
    """
    mixed, width, heads = s.mamba_mixed, s.mamba_width, s.mamba_num_heads or 0
    convolution = ((s.mamba_conv_kernel or 0) + 1) * mixed
    return s.hidden_size * s.mamba_projected + convolution + 3 * heads + width + width * s.hidden_size, 0


def _mla(s: Architecture) -> tuple[int, int]:
    """Sharded and replicated parameters of multi-head latent attention."""
    h, a, c = s.hidden_size, s.num_attention_heads, s.kv_lora_rank or 0
    nope, rope, v = s.qk_nope_head_dim or 0, s.qk_rope_head_dim or 0, s.v_head_dim or 0
    sharded = c * a * (nope + v) + a * v * h
    replicated = h * (c + rope) + c + (h if s.attention_out_bias else 0) + (c + rope if s.attention_bias else 0)
    if s.q_lora_rank is None:
        sharded += h * a * (nope + rope)
    else:
        sharded += s.q_lora_rank * a * (nope + rope)
        replicated += h * s.q_lora_rank + s.q_lora_rank + (s.q_lora_rank if s.attention_bias else 0)
    return sharded, replicated


def _mlp(s: Architecture, width: int) -> int:
    """One MLP or expert of that width, biases included."""
    inputs = 2 if s.gated_mlp else 1
    return (inputs + 1) * s.hidden_size * width + (inputs * width + s.hidden_size if s.mlp_bias else 0)


def _mean_mlp(s: Architecture, amount: int) -> float:
    """An amount of each MLP or expert layer as the mean layer's, which is the same where all layers have one."""
    return amount * s.mlp_layers / s.num_hidden_layers if s.is_hybrid else amount


def _mlp_widths(s: Architecture) -> list[tuple[int, int]]:
    """(width, how many) of all MLPs of the network: dense layers, routed experts, shared experts."""
    if s.num_experts is None:
        return [(s.intermediate_size, s.mlp_layers)]
    moe_layers = s.mlp_layers - s.first_k_dense_replace
    return [
        (s.intermediate_size, s.first_k_dense_replace),
        (s.moe_intermediate_size or 0, moe_layers * s.num_experts),
        (s.shared_expert_intermediate_size, moe_layers if s.shared_expert_intermediate_size else 0),
    ]
