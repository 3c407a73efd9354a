"""Vocabulary in which engine files describe tensors: how wide, in how many bytes, over which ranks cut, and when."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.schema.evidence import Fittable

Width = Literal[
    "hidden",  # hidden_size
    "query",  # all query heads
    "key_value",  # keys and values together
    "attention_out",  # what enters the output projection
    "heads",  # one number a query head
    "attention_scores",  # one number a query head and key: heads * sequence_length
    "attention_mask",  # one number a key, the same for all heads: sequence_length
    "ffn",  # intermediate_size of a dense MLP
    "expert_ffn",  # num_experts_per_tok * moe_intermediate_size
    "expert_hidden",  # num_experts_per_tok * hidden_size: each token once per chosen expert
    "shared_ffn",  # shared_expert_intermediate_size
    "expert_matrix",  # the largest stacked matrix of a layer's experts, gate and up together: num_experts matrices
    "router",  # hidden_size * num_experts: the router's matrix
    "experts",  # num_experts: router logits and probabilities
    "expert_choices",  # num_experts_per_tok: one number a chosen expert
    "norm_hidden",  # hidden_size once a norm of the layer
    "norm_inputs",  # the same, once where two norms side by side read one tensor
    "stream_norm_hidden",  # the same, norms over the residual stream alone
    "output_norm_hidden",  # the same, further norms over a block's output alone (GLM-4, Gemma)
    "attention_inputs",  # hidden_size once a matrix of attention that reads it
    "mlp_inputs",  # hidden_size once a matrix of a dense MLP or of the shared experts that reads it
    "norms_after_attention",  # hidden_size once a norm of the layer that reads attention's output or what comes after
    "norms",  # one number a norm of the layer
    "qk_norm_scales",  # one number a query/key norm: each head, or each projection
    "latent_norm",  # q_lora_rank + kv_lora_rank: the latents that are normalised
    "latent_norm_scales",  # one number a normalised latent
    "latent_up",  # latent attention: the fused up-projection of keys (without their rotary part) and values
    "head_dim",  # one query or key head
    "rotary_dim",  # the part of it that is turned
    "adapted_hidden",  # hidden_size once an adapted projection that reads it
    "adapted_inputs",  # hidden_size once a block (attention, MLP) with an adapted projection that reads it
    "adapted_attention_out",  # what enters the output projection, where that is adapted
    "adapted_ffn",  # intermediate_size where the down-projection is adapted
    "adapted_rank",  # adapter rank once an adapted projection
    "adapted_out",  # outputs of all adapted projections
    "lora_latent",  # q_lora_rank + kv_lora_rank + qk_rope_head_dim of latent attention
    "key_value_up",  # latent attention: keys and values after their up-projection
    "vocab",  # padded vocabulary
    "head_matrix",  # padded vocabulary times hidden_size
    "fused_head_chunk",  # vocabulary times the share of tokens that one chunk of a fused linear cross-entropy holds
    "linear_projected",  # linear attention: queries, keys, values, gate, betas and decays as projected
    "linear_inputs",  # hidden_size once a matrix of linear attention that reads it
    "linear_mixed",  # queries, keys and values of linear attention, as the convolution takes them
    "linear_keys",  # all key heads of linear attention
    "linear_queries",  # key heads of linear attention repeated for each value head
    "linear_values",  # all value heads of linear attention
    "linear_heads",  # one number a value head of linear attention
    "linear_key_heads",  # one number a key head of linear attention
    "linear_triangle",  # one row of a chunk's triangle for each value head
    "linear_state",  # a state of key times value sizes for each value head, once a chunk: its share of one token
    "mamba_projected",  # Mamba-2: gate, what the convolution takes, and step sizes, as projected
    "mamba_mixed",  # what the convolution of Mamba-2 takes: all heads, and what groups write and read
    "mamba_values",  # all heads of Mamba-2
    "mamba_states",  # what groups of Mamba-2 write to the state and read from it
    "mamba_repeated",  # one of both, repeated for each head
    "mamba_heads",  # one number a head of Mamba-2
    "mamba_groups",  # one number a group of Mamba-2
    "mamba_triangle",  # one row of a chunk's square for each head of Mamba-2
    "mamba_scores",  # the same for each group
    "mamba_state",  # the state of all heads of Mamba-2, once a chunk: its share of one token
    "one",  # one number a token
]
Shard = Literal[
    "tensor",  # divided by tensor_parallel
    "sequence",  # divided by tensor_parallel when sequence parallel is on, whole otherwise
    "none",  # whole on each rank
    "expert_tensor",  # routed tokens of one rank: divided by expert_tensor_parallel
    "linear",  # heads of linear attention: cut and repeated as the engine's linear_attention says
    "whole_sequence",  # whole on each rank, of all context ranks' tokens where linear attention runs whole sequences
    "all_sequence",  # divided by tensor_parallel, of all context ranks' tokens
]
When = Literal[
    "always",
    "dense",
    "moe",
    "shared_experts",
    "gated_shared_experts",  # what shared experts make is multiplied by a gate of its own (Qwen3-Next)
    "mla",
    "not_mla",
    "linear_attention",  # layers with linear attention
    "linear_heads_cut",  # an engine that cuts heads of linear attention over tensor-parallel ranks
    "linear_layers_whole",  # an engine whose ranks each run linear attention whole
    "full_attention",  # layers that attend, and all layers of networks without any others
    "mamba",  # layers of Mamba-2
    "block_alone",  # layers of one block alone
    "token_mixer",  # layers with attention, linear attention or Mamba-2: all but an MLP or experts alone
    "gated_attention",  # layers that attend and multiply the result by a gate
    "gated",
    "ungated",
    "gated_dense",
    "ungated_dense",
    "gathered",  # sequence parallel on and tensor_parallel > 1
    "dropout",
    "attention_dropout",
    "context_parallel",  # sequences are cut over ranks
    "expert_parallel",  # experts lie on several ranks
    "fused_attention",
    "unfused_attention",
    "softmax_in_fp32",  # plain attention takes its soft-max in fp32, whatever its scores are
    "softmax_as_computed",  # in the scores' format (GPT-2, gpt-oss)
    "half_precision",  # fp16
    "attention_sinks",  # a further column of scores (gpt-oss)
    "two_masks",  # layers of whole and of windowed attention, a mask for each kind
    "tensor_parallel",
    "gradient_added",  # a weight's new gradient stands beside those there: a further micro-batch, or ones being cut
    "trainable_base",
    "frozen_base",  # adapters on a frozen base
    "dora",  # adapters with a magnitude an output
    "adapter_dropout",  # adapters drop part of their inputs
    "lora_fa",  # adapters whose first matrices stay frozen
    "trained_down",  # adapters whose first matrices train, so that their inputs are kept
    "trained_head",  # the head's weight trains
    "untied",  # head and embedding are two tables
    "qk_norm",
    "blocks_in_turn",  # the MLP reads what attention was added to, not the layer's own input
    "own_mlp_input",  # the MLP does not read what attention reads: blocks in turn, or side by side behind two norms
    "upcast_logits",
    "outputs_in_fp32",  # the network casts its logits itself, so that a caller holds fp32 ones (Nemotron-H)
    "made_logits_stay",  # logits as the head made them are there at the peak of the loss
    "plain_logits",  # the loss works on 16-bit logits (GPTBigCode)
    "rmsnorm",
    "layernorm",
    "norm_scaled_in_fp32",  # the norm's weight multiplies before the cast back (Gemma, OLMo 2, gpt-oss, Qwen3.5)
    "norm_scaled_in_16bit",
    "norms_outputs_in_fp32",  # norms over a block's output, which scale in fp32 (Gemma 2, OLMo 2)
    "norms_inputs_only",
    "rotary",
    "learned_positions",
    "fp32_rotary_tables",  # cosines and sines are not cast (OLMo 2)
    "scaled_queries",  # queries are multiplied by a number of their position (Ministral 3)
    "fused_qkv",  # one matrix makes queries, keys and values, and rotary copies what it turns (Phi-3)
    "repeated_heads",  # keys and values of a group are copied for each query head (LitGPT)
    "heads_as_made",
    "cast_gradient_stays",  # at the peak of backward the output's gradient is there in 16 bits too, under autocast
    "squared_relu",  # the square of a ReLU (Nemotron, AFM)
    "shifted_layer_norms",  # layer norms multiply by 1 + weight (Nemotron)
    "composed_gelu",  # the tanh approximation of GELU written out in elementwise steps (gelu_new)
    "fp32_router",  # the router multiplies in fp32 (DeepSeek, GLM-4.5)
    "group_limited",  # experts are chosen among those of the best groups
    "eight_groups",
    "one_group",
    "scores_all_experts",  # soft-max or sigmoid over all experts, not over the chosen ones (gpt-oss)
    "expert_bias",
    "clamped_gate",  # gate and up are clamped before their product (gpt-oss)
    "mixed",  # autocast over fp32 weights: an fp32 residual stream, products in 16 bits
    "not_mixed",
    "computed_in_16bit",
    "computed_in_fp32",
    "padded_values",  # latent attention whose kernel wants values as wide as queries (FlashAttention, 16 bits)
    "whole_up_projection",  # latent attention whose values stay a view into their up-projection
    "routes_as_computed",  # weights of chosen experts in the format of the router's product (Qwen3, gpt-oss)
    "routes_in_fp32",
    "router_in_16bit",  # a sigmoid router under autocast (DeepSeek-V3, GLM-4.5)
    "router_in_fp32",
    "shifted_norm_weights",  # norms multiply by 1 + weight in fp32 (Gemma, Qwen3.5)
    "own_rotary_tables",  # each layer makes its own rotary tables (GLM-4)
    "scores_chosen_experts",  # soft-max over the chosen experts (gpt-oss)
    "capped_logits",  # logits are soft-capped before the loss (Gemma 2)
    "adapter_casts_stream",  # each adapter keeps its own copy of the block's input
    "adapter_reads_stream",
    "adapter_casts_products",  # each adapter keeps its own copy of what a product made
    "adapter_reads_products",
    "normalised_router",  # the weights of the chosen experts are divided by their sum
]

Format = Literal[
    "computed",  # what products are computed in: 2 B in 16 bits (fp8 too), 4 B in fp32
    "stream",  # the residual stream and what is made of it before a product: as computed, or fp32 (`fp32_stream`)
    "adapter",  # what adapters keep: in their own format, as computed under autocast
]


class Tensor(Fittable):
    """One kind of tensor, per token of a micro-batch on one context-parallel rank (or per layer)."""

    name: str
    width: Width
    bytes: float | None = Field(default=None, ge=1e-6, le=1e6)
    """Bytes an element that no format changes, all copies together: statistics, masks, indices, fp32 copies."""
    copies: float | None = Field(default=None, ge=-1e6, le=1e6)
    """How many copies in `format` besides, whose bytes follow from precision and engine; below 0, of a tensor with
    `at`, how many of those counted elsewhere are gone by that moment."""
    format: Format = "computed"
    each: Literal["token", "layer"] = "token"
    """Whether there are so many for each token, or once a layer whatever the tokens."""
    shard: Shard = "tensor"
    when: When | list[When] = "always"
    """A list holds where all of its conditions do."""
    option: str | None = None
    """Only where this option of the engine (or precision, or `recompute MODULE`) is on; `not NAME` where it is off."""
    at: str | None = None
    """Only at this moment of its list: of tensors at different moments those of the largest count."""
    gone_at: str | None = None
    """Of what a layer keeps: freed before this moment (`at`) of its backward pass."""
    gone_width: Width | None = None
    """How wide the part is that is freed by then; all of it where nothing is said."""
    most_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Made for at most so many tokens at once (loss in chunks)."""
    unless_recomputed: list[str] = Field(default_factory=list)
    """Not kept where one of these modules is recomputed (layout.recompute_modules)."""
    assumed: bool = False
    """True where the bytes are neither read from code nor seen on runs that differ in what they multiply (two
    vocabularies for a width of the vocabulary, two depths or widths for a layer's)."""
    source: str
    """Formula or measurement this entry comes from."""

    @model_validator(mode="after")
    def _some_amount(self) -> Tensor:
        if self.bytes is None and self.copies is None:
            raise ValueError("a tensor has bytes, copies, or both")
        if self.copies is not None and (abs(self.copies) < 1e-6 or (self.copies < 0 and self.at is None)):
            raise ValueError("copies are not 0, and below 0 only where `at` names the moment by which they are gone")
        return self
