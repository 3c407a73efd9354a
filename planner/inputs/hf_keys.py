"""A Hugging Face `config.json` that remembers which of its keys were asked for, and what the other keys mean.

Every key is read, or stands here as one that changes neither bytes nor seconds, or refuses the network, or is named in
a caution. Names are those of transformers 5.23 and of the models' own remote code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from planner.errors import InputError, Mistake, Place
from planner.inputs.document import Document
from planner.inputs.yaml_values import PathKey

NEVER_MATTERS = frozenset(
    """
    _attn_implementation _from_model_config _name_or_path activation activation_dropout add_bos_token
    add_cross_attention alibi_bias_max alpha apply_query_key_layer_scaling apply_residual_connection_post_layernorm
    architectures attention_multiplier attention_softmax_in_fp32 attn_bias_init attn_dropout_prob attn_impl
    attn_implementation attn_logit_softcapping attn_scale attn_temperature_tuning attn_uses_sequence_id auto_map
    aux_loss_alpha bad_words_ids begin_suppress_tokens beta bf16 bias_dropout_fusion cache_implementation
    chunk_size_feed_forward cla_share_factor class_num clip_qkv compression_config cross_attention_hidden_size
    dense_list dim_model_base diversity_penalty do_sample dtype early_stopping emb_dropout_prob emb_pdrop embd_pdrop
    embed_dropout embedding_dropout embedding_fraction embedding_multiplier encoder_no_repeat_ngram_size eod_token_id
    ep_size expert_dtype exponential_decay_length_penalty final_logit_softcapping finetuning_task floor_scale fp16
    fp32 fp32_residual_connection fullatt_block_indexes gradient_checkpointing group_limited_greedy head_dtype
    id2label ignore_index image_grid_pinpoints image_placeholder image_seq_length inference_runner init_config
    init_device init_std initial_context_length initializer_factor initializer_range input_jitter_noise is_decoder
    is_llama_config label2id language_model_only layer_switch layerdrop length_penalty logit_scale logits_scaling
    masked_softmax_fusion max_batch_size max_length max_seq_length max_sequence_length min_length mlp_type
    mm_tokens_per_image model_type moe_capacity moe_drop_tokens moe_jitter_eps moe_layer_end_index
    moe_layer_num_skipped moe_loss_weight moe_random_routing_dropped_token moe_router_dtype moe_use_aux_free
    mrope_section mtp_use_dedicated_embeddings mup_denominator no_repeat_ngram_size no_rope_layer_interval
    norm_type num_beam_groups num_beams
    num_return_sequences num_reward_heads offset_alibi onnx_safe order_of_interleaved_layers org_vocab_size
    original_rope original_rope_theta output_attentions output_hidden_states output_router_logits output_scores
    pad_id pad_key_length pool_type position_embedding_type position_embedding_xdrope post_layer_norm
    pre_allocate_kv_cache prefix pretraining_tp problem_type process_image_mode pruned_heads quantization_config
    query_pre_attn_scalar remove_invalid_values reorder_and_upcast_attn repetition_penalty
    residual_multiplier return_dict return_dict_in_generate rmsnorm rope_interleave rope_interleaved
    rope_local_base_freq rope_ratio rotary router_aux_loss_coef router_jitter_noise router_z_loss_coef
    scale_attention_softmax_in_fp32 scale_attn_by_inverse_layer_idx scale_attn_weights scale_depth scale_emb seq_aux
    skip_bias_add skip_bias_add_qkv sliding_window_size slow_but_exact softmax_in_fp32 softmax_scale
    spatial_patch_size summary_first_dropout suppress_tokens swiglu_limit task_specific_params temperature
    tf_legacy_loss tie_encoder_decoder tokenizer_class tokenizer_name tokenizer_type tokens_per_second top_k top_p
    torch_dtype torchscript transformers_version typical_p unk_token_id use_bfloat16 use_cache use_cache_kernel
    use_cache_quantization use_dynamic_ntk use_embedding_sharing use_flash_attn use_fused_rms_norm use_fused_rope
    use_gated_activation use_grouped_topk use_logn_attn use_mixed_mlp_moe use_mrope use_mtp use_parallel_embedding
    use_rotary_pos_emb use_unified_vision_chunk validate_runner_input verbose video_placeholder vision_feature_layer
    vision_feature_select_strategy vision_soft_tokens_per_image window_size z_loss_weight
    """.split()  # noqa: SIM905
)
"""Keys of training recipes, generation, initial values, names and multipliers: no tensor hangs on them."""

NEVER_MATTERS_ENDINGS = ("_token_id", "_token_ids", "_token_index")
NEVER_MATTERS_BEGINNINGS = ("summary_",)

_NAMED = re.compile(r"`(\w+)")

REFUSED = {
    "linear_num_key_heads": "linear attention",
    "linear_num_value_heads": "linear attention",
    "linear_attn_config": "linear attention",
    "attn_type_list": "linear attention",
    "mamba_d_state": "Mamba layers",
    "mamba_d_ssm": "Mamba layers",
    "mamba_num_heads": "Mamba layers",
    "ssm_state_size": "Mamba layers",
    "ssm_cfg": "Mamba layers",
    "hybrid_override_pattern": "Mamba layers",
    "layers_block_type": "layers of several kinds",
    "hybrid_layer_pattern": "layers of several kinds",
    "conv_L_cache": "convolution layers",
    "attention_hidden_size": "recurrent layers",
    "is_encoder_decoder": "an encoder",
    "type_vocab_size": "an encoder: token types",
    "audio_config": "an audio tower",
    "block_configs": "a shape for every layer",
    "word_embed_proj_dim": "a projection behind the embedding",
    "parallel_attn_mlp_res": "a dense MLP beside the experts",
    "altup_num_inputs": "alternating updates",
    "hidden_size_per_layer_input": "an embedding for every layer",
    "vocab_size_per_layer_input": "an embedding for every layer",
    "num_kv_shared_layers": "keys and values that layers share",
    "use_cla": "keys and values that layers share",
    "num_global_key_value_heads": "attention heads of two kinds",
    "global_head_dim": "attention heads of two kinds",
    "swa_num_key_value_heads": "attention heads of two kinds",
    "swa_head_dim": "attention heads of two kinds",
    "index_n_heads": "sparse attention with an indexer",
    "sparse_attention_config": "sparse attention with an indexer",
    "compress_ratios": "compressed attention",
    "o_lora_rank": "a low-rank output projection",
    "hc_mult": "hyper-connections",
    "attn_output_gate": "a gate behind attention",
    "attention_output_gate": "a gate behind attention",
    "moe_latent_size": "experts in a latent space",
    "enable_moe_block": "a dense MLP beside the experts",
    "use_double_wide_mlp": "MLPs of several widths",
    "attn_res_block_size": "attention over residuals",
    "qk_ln": "query and key norms of its own kind",
    "qk_layernorm_bias": "query and key norms of its own kind",
}
"""Keys that, set, give a network parts that cannot be planned; each with the part in words."""

GATED_DELTA = ("qwen3_next", "qwen3_5")
"""How the model_type of networks begins whose linear attention and gate behind attention are counted."""
LINEAR_HEADS = ("linear_num_key_heads", "linear_num_value_heads")


MAMBA = ("mamba_num_heads", "ssm_state_size", "hybrid_override_pattern", "layers_block_type")
"""Keys of networks whose layers are one block alone, which are counted where the model_type is that of Nemotron-H."""


def _gated_delta(data: Mapping[str, object]) -> bool:
    return str(data.get("model_type")).startswith(GATED_DELTA)


NEUTRAL: dict[str, Callable[[object, Mapping[str, object]], bool]] = {
    "word_embed_proj_dim": lambda value, data: value == data.get("hidden_size"),
    "attn_type_list": lambda value, _: isinstance(value, list) and all(kind == 1 for kind in value),
    **{key: lambda _, data: _gated_delta(data) for key in (*LINEAR_HEADS, "attn_output_gate")},
    **{key: lambda _, data: data.get("model_type") == "nemotron_h" for key in MAMBA},
}
"""Keys of REFUSED that are set in ordinary networks too, each with how one tells."""


@dataclass
class Config:
    """One JSON object of a configuration. A null means the same as no key at all."""

    document: Document
    """The file, for messages."""
    data: Mapping[str, object]
    path: tuple[PathKey, ...] = ()
    """Keys of the file under which this object stands."""
    asked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.data = {key: value for key, value in self.data.items() if value is not None}

    def place(self, *names: str) -> Place:
        """Where the first of these keys that is there stands, or the object."""
        key = next((name for name in names if name in self.data), None)
        return self.document.place((*self.path, *(() if key is None else (key,))))

    @property
    def none(self) -> Config:
        """An object without keys, where an optional one is missing."""
        return Config(self.document, {}, self.path)

    def get(self, *names: str) -> object:
        """The value of the first of these keys that is set, or None."""
        self.asked.update(names)
        return next((self.data[name] for name in names if name in self.data), None)

    def whole(self, *names: str) -> int | None:
        """A whole number; a list with one and the same for every layer counts as that number."""
        value = self.get(*names)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if value is None or value is False:
            return None
        if type(value) is not int:
            key = next(name for name in names if name in self.data)
            many = isinstance(value, list)
            because = "only one value for all layers can be planned" if many else "it gives the network its shape"
            raise fail(self, f"{key} must be {'the same in all layers' if many else 'whole numbers'}", because)
        return value

    def real(self, *names: str) -> float | None:
        """A number; None where the value is not one."""
        value = self.get(*names)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def flag(self, *names: str) -> bool | None:
        """A truth value, or None where no key is set."""
        value = self.get(*names)
        return None if value is None else bool(value)

    def text(self, *names: str) -> str | None:
        """A text, or None."""
        value = self.get(*names)
        return None if value is None else str(value)

    def items(self, *names: str) -> list[object]:
        """A list; empty where no key is set."""
        value = self.get(*names)
        return value if isinstance(value, list) else []

    def inner(self, *names: str) -> Config | None:
        """An object inside this one."""
        value = self.get(*names)
        return self._inside(names, value)

    def _inside(self, names: tuple[str, ...], value: object) -> Config | None:
        if not isinstance(value, dict):
            return None
        return Config(self.document, value, (*self.path, next(name for name in names if name in self.data)))

    def refuse_unplannable(self) -> None:
        """Raise InputError that names a key of REFUSED which is set."""
        for key, meaning in REFUSED.items():
            value = self.data.get(key)
            neutral = NEUTRAL.get(key)
            self.asked.add(key)
            if value and not (neutral is not None and neutral(value, self.data)):
                because = "only decoder-only transformers with layers of one kind can be planned"
                raise fail(self, f"the network has {meaning} (`{key}`)", because)

    def unread(self) -> Iterator[str]:
        """Keys that nobody asked for and that are not known to change nothing."""
        for key in sorted(self.data.keys() - self.asked - NEVER_MATTERS):
            if not key.endswith(NEVER_MATTERS_ENDINGS) and not key.startswith(NEVER_MATTERS_BEGINNINGS):
                yield key


def fail(
    config: Config, what: str, because: str | None = None, attempt: str | None = None, *, key: str = ""
) -> InputError:
    """The error of a configuration, at that key or at one that `what` names in backquotes."""
    named = _NAMED.findall(what)
    return InputError(Mistake(f"{config.document.name}: {what}", config.place(key, *named), because, attempt))
