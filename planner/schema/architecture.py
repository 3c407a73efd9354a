"""Shape of a network: a decoder of like layers, fields named as in Hugging Face `config.json`."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from planner.schema.base import Count, Factor, Frozen, Source

MOST_LAYERS = 4096
Width = Annotated[int, Field(ge=1, le=2**31)]
"""A size of a network, one at least."""
Parameters = Annotated[int, Field(ge=0, le=2**53)]
"""A number of parameters."""


LayerKind: TypeAlias = Literal["full", "linear", "mamba", "attention", "mlp"]
"""Kinds of layers: one that attends, one with linear attention, each with an MLP or experts behind; and layers of one
block alone (`hybrid_override_pattern`): Mamba-2, attention, an MLP or experts."""
LETTERS: dict[str, LayerKind] = {"M": "mamba", "*": "attention", "-": "mlp", "E": "mlp"}
"""What a letter of `hybrid_override_pattern` means."""


class ParameterCounts(Frozen):
    """Exact published counts, used to check the counting formulas, never as their input."""

    total: Parameters
    active_per_token: Parameters | None = None
    non_embedding: Parameters | None = None
    by_group: dict[str, Parameters] = Field(default_factory=dict)
    counted_with: str | None = None


class VisionKept(Frozen):
    """What a vision tower keeps of one patch for its backward pass, computed in 16 bits. [bytes]"""

    patches_per_token: int = Field(ge=1, le=4096)
    """Patches that its projector makes one token of."""
    trained_bytes: int = Field(ge=0, le=10**9)
    """Of all its blocks and the projector."""
    recomputed_bytes: int = Field(ge=0, le=10**9)
    """The same where its blocks are recomputed: their inputs, and the projector's."""
    projector_bytes: int = Field(ge=0, le=10**9)
    """Where the projector alone is trained."""
    source: str


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
    """Parameters of a vision tower with its projector; whole on every GPU of the first stage, trained with the rest
    but where the scenario's `frozen` names them."""
    projector_parameters: int = Field(default=0, ge=0, le=10**12)
    """Of vision_parameters, those that turn its patches into tokens of the language model (merger, aligner)."""
    vision_kept: VisionKept | None = None
    """None where nobody has counted."""
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
    full_attention_interval: Annotated[int, Field(ge=2, le=MOST_LAYERS)] | None = None
    """The last of each so many layers attends, the others have linear attention (a gated delta rule) instead."""
    linear_num_key_heads: Width | None = None
    """Linear attention: heads of queries and keys, repeated for the value heads."""
    linear_num_value_heads: Width | None = None
    linear_key_head_dim: Width | None = None
    linear_value_head_dim: Width | None = None
    linear_conv_kernel_dim: Width | None = None
    """Tokens that the convolution over queries, keys and values sees, the token's own among them."""
    hybrid_override_pattern: str | None = Field(default=None, pattern=r"^[M*E-]+$", max_length=MOST_LAYERS)
    """One letter a layer, where each is one block with one norm: M Mamba-2, * attention, - an MLP, E experts."""
    mamba_num_heads: Width | None = None
    mamba_head_dim: Width | None = None
    ssm_state_size: Width | None = None
    """Mamba-2: numbers that a head keeps for each of its channels."""
    mamba_n_groups: Width | None = None
    """Mamba-2: groups of heads that share what is written to the state and read from it (n_groups of config.json)."""
    mamba_conv_kernel: Width | None = None
    """Tokens that the convolution before the state sees, the token's own among them (conv_kernel)."""
    mamba_chunk_size: Width | None = None
    """Tokens of one chunk of the scan (chunk_size)."""
    no_positions: bool = False
    """Attention is told no positions: nothing is rotated, learned or added (Nemotron-H)."""
    attn_output_gate: bool = False
    """A gate, made beside the queries and as wide, multiplies what attention makes."""
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
        if self.projector_parameters > self.vision_parameters:
            raise ValueError("projector_parameters are part of vision_parameters")
        if self.is_linear:
            keys, values = self.linear_num_key_heads, self.linear_num_value_heads
            sizes = (self.linear_key_head_dim, self.linear_value_head_dim, self.linear_conv_kernel_dim)
            if keys is None or values is None or None in sizes:
                raise ValueError("full_attention_interval needs heads, head sizes and conv kernel of linear attention")
            if values % keys:
                raise ValueError("linear_num_value_heads must be a multiple of linear_num_key_heads")
            if self.is_mla:
                raise ValueError("linear attention beside latent attention is not known")
        if self.is_hybrid:
            self._check_pattern()
        return self

    def _check_pattern(self) -> None:
        pattern = self.hybrid_override_pattern or ""
        if len(pattern) != self.num_hidden_layers:
            raise ValueError(
                f"hybrid_override_pattern has {len(pattern)} letters, num_hidden_layers is {self.num_hidden_layers}"
            )
        shape = (self.mamba_num_heads, self.mamba_head_dim, self.ssm_state_size)
        if None in (*shape, self.mamba_n_groups, self.mamba_conv_kernel, self.mamba_chunk_size):
            raise ValueError("hybrid_override_pattern needs heads, sizes, groups, conv kernel and chunk of Mamba-2")
        if (self.mamba_num_heads or 0) % (self.mamba_n_groups or 1):
            raise ValueError("mamba_num_heads must be a multiple of mamba_n_groups")
        if ("E" in pattern) != self.is_moe or ("-" in pattern and self.is_moe):
            raise ValueError("hybrid_override_pattern has either dense MLPs (-) or, with num_experts, experts (E)")
        if self.is_mla or self.is_linear or self.first_k_dense_replace or self.norms_per_layer != 1:
            raise ValueError("layers of one block alone have one norm, and attention of keys and values for each head")

    @property
    def is_moe(self) -> bool:
        """True where some layers route tokens to experts."""
        return self.num_experts is not None

    @property
    def is_mla(self) -> bool:
        """True for multi-head latent attention."""
        return self.kv_lora_rank is not None

    @property
    def is_linear(self) -> bool:
        """True where some layers have linear attention."""
        return self.full_attention_interval is not None

    @property
    def is_hybrid(self) -> bool:
        """True where each layer is one block alone, some of them Mamba-2."""
        return self.hybrid_override_pattern is not None

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """The kinds of layers of the network."""
        if self.hybrid_override_pattern is not None:
            return tuple(dict.fromkeys(LETTERS[letter] for letter in self.hybrid_override_pattern))
        return ("full", "linear") if self.is_linear else ("full",)

    @property
    def several_kinds(self) -> bool:
        """True where layers are of more than one kind."""
        return self.is_linear or self.is_hybrid

    def kind_of(self, place: int) -> LayerKind:
        """The kind of the layer at that place, counted from 0."""
        if self.hybrid_override_pattern is not None:
            return LETTERS[self.hybrid_override_pattern[place]]
        return "full" if (place + 1) % (self.full_attention_interval or 1) == 0 else "linear"

    def layers_of(self, kind: LayerKind) -> int:
        """How many layers are of a kind."""
        return sum(self.kind_of(place) == kind for place in range(self.num_hidden_layers))

    @property
    def full_attention_layers(self) -> int:
        """Layers that attend to all tokens or to a window of them, and cache keys and values."""
        if self.is_hybrid:
            return self.layers_of("attention")
        return self.num_hidden_layers // (self.full_attention_interval or 1)

    @property
    def linear_layers(self) -> int:
        """Layers with linear attention."""
        return 0 if self.is_hybrid else self.num_hidden_layers - self.full_attention_layers

    @property
    def mamba_layers(self) -> int:
        """Layers of Mamba-2."""
        return self.layers_of("mamba") if self.is_hybrid else 0

    @property
    def mlp_layers(self) -> int:
        """Layers with an MLP or experts."""
        return self.layers_of("mlp") if self.is_hybrid else self.num_hidden_layers

    @property
    def mamba_width(self) -> int:
        """Width of all heads of Mamba-2, which is that of its gate and of its output."""
        return (self.mamba_num_heads or 0) * (self.mamba_head_dim or 0)

    @property
    def mamba_mixed(self) -> int:
        """Width of what the convolution of Mamba-2 takes: all heads, and of each group what is written and read."""
        return self.mamba_width + 2 * (self.mamba_n_groups or 0) * (self.ssm_state_size or 0)

    @property
    def mamba_projected(self) -> int:
        """Width that Mamba-2 projects into: the gate, what the convolution takes, and one step size a head."""
        return self.mamba_width + self.mamba_mixed + (self.mamba_num_heads or 0)

    @property
    def linear_key_width(self) -> int:
        """Width of all key heads of linear attention, which is that of its queries."""
        return (self.linear_num_key_heads or 0) * (self.linear_key_head_dim or 0)

    @property
    def linear_value_width(self) -> int:
        """Width of all value heads of linear attention, which is that of its gate and of its output."""
        return (self.linear_num_value_heads or 0) * (self.linear_value_head_dim or 0)

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
