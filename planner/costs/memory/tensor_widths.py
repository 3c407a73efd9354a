"""How wide each kind of tensor is on one rank: the vocabulary that engine files describe their tensors in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.memory.layer_kinds import linear_cut
from planner.costs.micro_batches import tokens_at_most
from planner.formulas.matrices import attention_matrices, linear_matrices
from planner.formulas.parameters import (
    ATTENTION_OUT,
    MLP_IN,
    MLP_OUT,
    adapted_attention,
    adapted_mlp,
    adapted_sides,
    target_names,
)
from planner.problem.conditions import (
    NORMS_OUTPUTS_ONLY,
    ONE_GATE_UP_MATRIX,
    ONE_QKV_MATRIX,
    conditions,
    what_applies,
)
from planner.problem.formats import element_bytes
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.schema.architecture import LayerKind
from planner.schema.beside_attention import beside_attention
from planner.schema.catalog import Architecture
from planner.schema.engine import Tensor

LINEAR_CHUNK = 64
"""Tokens of one chunk of the gated delta rule: fla-org/flash-linear-attention @bc3b101d
fla/ops/gated_delta_rule/chunk.py line 42."""
OF_FULL_ATTENTION = frozenset(
    (
        *(
            "query",
            "key_value",
            "attention_out",
            "heads",
            "attention_scores",
            "attention_mask",
            "head_dim",
            "rotary_dim",
        ),
        *("qk_norm_scales", "key_value_up", "lora_latent", "latent_norm", "latent_norm_scales"),
        *("latent_up", "attention_inputs"),
    )
)
"""Widths of tensors that a layer which does not attend has not."""
OF_MLP = frozenset(
    (
        *("ffn", "mlp_inputs", "shared_ffn", "router", "experts", "expert_choices", "expert_ffn", "expert_hidden"),
        "expert_matrix",
    )
)
"""Widths of tensors that only a layer with an MLP or experts has."""
NOT_THERE = {
    "linear": OF_FULL_ATTENTION,
    "mamba": OF_FULL_ATTENTION | OF_MLP,
    "attention": OF_MLP,
    "mlp": OF_FULL_ATTENTION,
}
"""Widths of tensors that a kind of layer has not."""


def padded_vocab_size(*, vocab_size: int, divisible_by: int, tensor_parallel: Ints) -> Ints:
    """Vocabulary padded to a multiple of divisible_by * tensor_parallel. [entries]

    Source: Megatron-LM core/tokenizers/utils/build_tokenizer.py.
    """
    multiple = divisible_by * tensor_parallel
    return np.asarray(-(-vocab_size // multiple) * multiple)


def tokens_per_rank(layouts: Layouts) -> Floats:
    """Tokens of one micro-batch on one context-parallel rank, at most. [tokens]"""
    return tokens_at_most(layouts)


def fused_head_chunk(problem: Problem, layouts: Layouts) -> Floats:
    """Logits that one chunk of Liger's fused linear cross-entropy holds, for each token of all. [elements]

        v c / t     of t tokens, c = min(t, 2^ceil(log2(ceil(t / ceil(v / h)))))

    Source: Hsu et al. 2024, arXiv:2410.10989, section 3.2; linkedin/Liger-Kernel src/liger_kernel/ops/
    fused_linear_cross_entropy.py.
    """
    a, tokens = problem.architecture, tokens_per_rank(layouts)
    share = np.ceil(tokens / np.ceil(a.vocab_size / a.hidden_size))
    chunk = np.minimum(tokens, 2.0 ** np.ceil(np.log2(share)))
    return np.asarray(a.vocab_size * chunk / tokens)


def elements(problem: Problem, layouts: Layouts, width: str) -> float | Floats:
    """Elements a token of a tensor before it is cut over ranks. `key_value` counts a replicated head once a rank."""
    return TensorSizes(problem, layouts).elements(width)


def _of_network(problem: Problem) -> dict[str, float]:
    """Widths that the network alone decides. [elements]"""
    a = problem.architecture
    top_k = a.num_experts_per_tok or 0
    return {
        "hidden": a.hidden_size,
        "query": a.query_width,
        "attention_out": a.attention_out_width,
        "heads": a.num_attention_heads,
        "ffn": a.intermediate_size,
        "expert_ffn": top_k * (a.moe_intermediate_size or 0) * problem.engine.routed_imbalance,
        "expert_hidden": top_k * a.hidden_size * problem.engine.routed_imbalance,
        "shared_ffn": a.shared_expert_intermediate_size,
        "router": a.hidden_size * (a.num_experts or 0),
        "experts": a.num_experts or 0,
        "expert_choices": top_k,
        "lora_latent": (a.q_lora_rank or 0) + (a.kv_lora_rank or 0) + (a.qk_rope_head_dim or 0),
        "key_value_up": a.query_width + a.attention_out_width,
        "head_dim": a.head_dim,
        "rotary_dim": int(a.head_dim * a.partial_rotary_factor),
        "attention_inputs": a.hidden_size * _attention_readers(a),
        "mlp_inputs": a.hidden_size * _mlp_readers(a),
        "norm_hidden": a.norms_per_layer * a.hidden_size,
        "norm_inputs": (1 if a.parallel_block else a.norms_per_layer) * a.hidden_size,
        "stream_norm_hidden": min(a.norms_per_layer, 2) * a.hidden_size,
        "output_norm_hidden": max(a.norms_per_layer - 2, 0) * a.hidden_size,
        "norms_after_attention": (a.norms_per_layer - (a.model_type not in NORMS_OUTPUTS_ONLY)) * a.hidden_size,
        "norms": a.norms_per_layer,
        "qk_norm_scales": a.num_attention_heads + a.num_key_value_heads if a.qk_norm == "head" else 2,
        "latent_norm": (a.q_lora_rank or 0) + (a.kv_lora_rank or 0),
        "latent_norm_scales": (a.q_lora_rank is not None) + (a.kv_lora_rank is not None),
        "latent_up": a.num_attention_heads * (a.qk_nope_head_dim or 0) + a.attention_out_width,
        "linear_projected": 2 * a.linear_key_width + 2 * a.linear_value_width + 2 * (a.linear_num_value_heads or 0),
        "linear_inputs": a.hidden_size * max(0, len(linear_matrices(a)) - 1),
        "linear_mixed": 2 * a.linear_key_width + a.linear_value_width,
        "linear_keys": a.linear_key_width,
        "linear_queries": (a.linear_num_value_heads or 0) * (a.linear_key_head_dim or 0),
        "linear_values": a.linear_value_width,
        "linear_heads": a.linear_num_value_heads or 0,
        "linear_key_heads": a.linear_num_key_heads or 0,
        "linear_triangle": (a.linear_num_value_heads or 0) * LINEAR_CHUNK,
        "linear_state": (a.linear_key_head_dim or 0) * a.linear_value_width / LINEAR_CHUNK,
        "mamba_projected": a.mamba_projected,
        "mamba_mixed": a.mamba_mixed,
        "mamba_values": a.mamba_width,
        "mamba_states": a.mamba_mixed - a.mamba_width,
        "mamba_repeated": (a.mamba_num_heads or 0) * (a.ssm_state_size or 0),
        "mamba_heads": a.mamba_num_heads or 0,
        "mamba_groups": a.mamba_n_groups or 0,
        "mamba_triangle": (a.mamba_num_heads or 0) * (a.mamba_chunk_size or 0),
        "mamba_scores": (a.mamba_n_groups or 0) * (a.mamba_chunk_size or 0),
        "mamba_state": a.mamba_width * (a.ssm_state_size or 0) / (a.mamba_chunk_size or 1),
        "one": 1,
    }


def _attention_readers(a: Architecture) -> int:
    """Matrices of attention that read the hidden state."""
    return 2 if a.is_mla else 1 if a.model_type in ONE_QKV_MATRIX else 3


def _mlp_readers(a: Architecture) -> int:
    """Matrices of a dense MLP, or of the shared experts, that read the hidden state."""
    return 1 if not a.gated_mlp or a.model_type in ONE_GATE_UP_MATRIX else 2


def _adapted(problem: Problem, width: str, *, linear: bool) -> float:
    """Elements a token that the adapters of one layer read or make, one that attends or has `linear` attention."""
    a, adapter = problem.architecture, problem.scenario.adapter
    if adapter is None:
        return 0.0
    targets = set(target_names(a, adapter.targets))
    targets -= set(attention_matrices(a) if linear else linear_matrices(a))
    latents = {"q_b_proj": a.q_lora_rank or 0, "kv_b_proj": a.kv_lora_rank or 0}
    other = targets - {*ATTENTION_OUT, *MLP_OUT, *latents}
    attention = {name for name in other if name not in MLP_IN}
    if width == "adapted_out":
        if a.is_linear:
            here = (*adapted_attention(a, targets, linear=linear), *adapted_mlp(a, targets, a.intermediate_size))
            return sum(matrix.outputs for matrix in here)
        # A token visits its chosen experts only.
        visited = a.model_copy(update={"num_experts": a.num_experts_per_tok}) if a.is_moe else a
        return sum(out for _, out in adapted_sides(visited, targets)) / a.num_hidden_layers
    made = a.linear_value_width if linear else a.attention_out_width
    return {
        "adapted_hidden": a.hidden_size * len(other) + sum(latents[name] for name in targets & set(latents)),
        "adapted_inputs": a.hidden_size * (bool(other & attention) + bool(other - attention))
        + sum(latents[name] for name in targets & set(latents)),
        "adapted_attention_out": made * bool(targets & set(ATTENTION_OUT)),
        "adapted_ffn": a.intermediate_size * bool(targets & set(MLP_OUT)),
        "adapted_rank": adapter.rank
        * (len(adapted_attention(a, targets, linear=linear)) + len(adapted_mlp(a, targets, 1))),
    }[width]


def shard_factor(problem: Problem, layouts: Layouts, tensor: Tensor) -> float | Floats:
    """Share of a tensor that one rank holds."""
    tp = layouts.tensor_parallel
    factor: float | Floats = 1.0
    if tensor.shard == "tensor":
        factor = 1.0 / tp
    elif tensor.shard == "sequence":
        factor = np.where(layouts.sequence_parallel == 1, 1.0 / tp, 1.0)
    elif tensor.shard == "all_sequence":
        factor = layouts.context_parallel / tp
    elif tensor.shard == "expert_tensor":
        factor = layouts.expert_tensor_parallel / tp
    elif tensor.shard in ("linear", "whole_sequence"):
        factor = 1.0 / linear_cut(problem, tp) if tensor.shard == "linear" else 1.0
        said = beside_attention(problem.engine, problem.architecture)
        factor = factor * (layouts.context_parallel if said is not None and not said.sequence_cut else 1.0)
    when = conditions(tensor)
    if "gathered" in when:
        factor = factor * ((layouts.sequence_parallel == 1) & (tp > 1))
    elif "tensor_parallel" in when:
        factor = factor * (tp > 1)
    elif "context_parallel" in when:
        factor = factor * (layouts.context_parallel > 1)
    elif "expert_parallel" in when:
        factor = factor * (layouts.expert_parallel > 1)
    elif "gradient_added" in when:
        cut = (layouts.zero_stage == 1) | (layouts.zero_stage == 2)
        factor = factor * (cut | (layouts.zero_stage == 0) & (layouts.num_micro_batches > 1))
    return factor


@dataclass(frozen=True)
class TensorSizes:
    """Sizes of an engine's tensors on one rank; what many of them share is looked up once."""

    problem: Problem
    layouts: Layouts

    @cached_property
    def _tokens(self) -> Floats:
        return tokens_per_rank(self.layouts)

    @cached_property
    def _fixed(self) -> dict[str, float]:
        return _of_network(self.problem)

    @cached_property
    def _kinds(self) -> dict[tuple[bool, LayerKind], frozenset[str]]:
        """What holds in a layer of (experts, kind) and in others; filled when one is asked for."""
        return {}

    @cached_property
    def _shares(self) -> dict[tuple[str, tuple[str, ...]], float | Floats]:
        """Share that one rank holds of a tensor (how it is cut, its conditions); filled when one is asked for."""
        return {}

    def elements(self, width: str, *, kind: LayerKind = "full") -> float | Floats:
        """Elements a token of a tensor of that width, before it is cut over ranks."""
        problem, a, layouts = self.problem, self.problem.architecture, self.layouts
        if width == "key_value":
            heads = np.maximum(a.num_key_value_heads, layouts.tensor_parallel)
            return 2 * heads * a.head_dim
        if width in ("vocab", "head_matrix"):
            vocab = padded_vocab_size(
                vocab_size=a.vocab_size,
                divisible_by=problem.engine.vocab_divisible_by,
                tensor_parallel=layouts.tensor_parallel,
            )
            return vocab * (a.hidden_size if width == "head_matrix" else 1)
        if width == "fused_head_chunk":
            return fused_head_chunk(problem, layouts)
        if width in ("attention_scores", "attention_mask"):
            return (a.num_attention_heads if width == "attention_scores" else 1) * layouts.sequence_length
        if width == "expert_matrix":
            of_one = (2 if a.gated_mlp else 1) * a.hidden_size * (a.moe_intermediate_size or 0)
            return (a.num_experts or 0) * of_one / (layouts.expert_parallel * layouts.expert_tensor_parallel)
        return self._fixed[width] if width in self._fixed else _adapted(problem, width, linear=kind == "linear")

    def of(
        self, tensors: Sequence[Tensor], *, moe_layer: bool, kind: LayerKind = "full", beside: Sequence[Tensor] = ()
    ) -> Floats:
        """Bytes of these tensors for one micro-batch on one rank, at the largest of their moments, less what is freed
        of those `beside` by then. [bytes]

        In a layer of that kind.
        """
        if (moe_layer, kind) not in self._kinds:
            said = what_applies(self.problem, moe_layer=moe_layer, kind=kind)
            self._kinds[moe_layer, kind] = frozenset(name for name, so in said.items() if so)
        holds, absent = self._kinds[moe_layer, kind], NOT_THERE.get(kind, frozenset())
        none: Floats = np.zeros(np.shape(self.layouts.tensor_parallel))
        moments: dict[str | None, Floats] = {None: none}

        def there(tensor: Tensor) -> bool:
            return tensor.width not in absent and holds.issuperset(conditions(tensor))

        for tensor in filter(there, tensors):
            moments[tensor.at] = moments.get(tensor.at, none) + self._amount(tensor, tensor.width, kind)
        for tensor in filter(there, (t for t in beside if t.gone_at is not None)):
            if tensor.gone_at in moments:
                moments[tensor.gone_at] = moments[tensor.gone_at] - self._amount(
                    tensor, tensor.gone_width or tensor.width, kind
                )
        always = moments.pop(None)
        return np.asarray(always + np.maximum.reduce([none, *moments.values()]))

    def _amount(self, tensor: Tensor, width: str, kind: LayerKind) -> float | Floats:
        """Bytes of a tensor as if it were that wide."""
        at_once = self._tokens if tensor.most_tokens is None else np.minimum(self._tokens, tensor.most_tokens)
        times = at_once if tensor.each == "token" else 1.0
        if (cut := (tensor.shard, conditions(tensor))) not in self._shares:
            self._shares[cut] = shard_factor(self.problem, self.layouts, tensor)
        return element_bytes(self.problem, tensor) * self.elements(width, kind=kind) * self._shares[cut] * times


def tensor_bytes(problem: Problem, layouts: Layouts, tensors: Sequence[Tensor], *, moe_layer: bool) -> Floats:
    """The same, of a mean layer where layers are of several kinds. [bytes]"""
    sizes, a = TensorSizes(problem, layouts), problem.architecture
    of_kinds = [(a.layers_of(kind), sizes.of(tensors, moe_layer=moe_layer, kind=kind)) for kind in a.kinds]
    return np.asarray(sum(count * size for count, size in of_kinds) / a.num_hidden_layers)


def offloaded_bytes(problem: Problem, layouts: Layouts) -> tuple[Floats, Floats]:
    """Bytes that one usual layer keeps in host memory, for one micro-batch on one rank: (whole, recomputed). [bytes]"""
    engine, moe = problem.engine, problem.architecture.is_moe
    kept, stub = (
        tensor_bytes(problem, layouts, tensors, moe_layer=moe) for tensors in (engine.offloaded, engine.offloaded_stub)
    )
    return kept, stub
