"""What of the network lies on one rank of a pipeline stage: parameters, trainable ones, and who shares them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.memory.layer_kinds import first_kind, kind_share, linear_cut
from planner.costs.memory.tensor_widths import padded_vocab_size
from planner.formulas.parameters import LayerParameters, adapted_sides
from planner.problem.copies import sharded_copies
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.schema.architecture import LayerKind


@dataclass(frozen=True)
class StageParameters:
    """Parameters of stages; `stage`, `layers` and `recomputed` broadcast against the layouts' columns."""

    problem: Problem
    layouts: Layouts
    stage: Ints
    layers: Ints
    recomputed: Ints

    @cached_property
    def is_first(self) -> Floats:
        """1 for the first stage, and for the last one where its rank holds the first one too."""
        return np.asarray((self.stage == 0) | (self._bidirectional & (self.stage == self._last)), dtype=float)

    @cached_property
    def is_last(self) -> Floats:
        """1 for the last stage, and for the first one where its rank holds the last one too."""
        return np.asarray((self.stage == self._last) | (self._bidirectional & (self.stage == 0)), dtype=float)

    @property
    def _last(self) -> Ints:
        return self.layouts.pipeline_parallel - 1

    @property
    def _bidirectional(self) -> bool:
        return self.problem.engine.pipeline.bidirectional

    @property
    def _both(self) -> Floats:
        """Stages of one rank: that of its own place, and under DualPipe that of the place opposite, as large."""
        return 1.0 + self._bidirectional * (self.layouts.pipeline_parallel > 1)

    @property
    def _moe(self) -> bool:
        return self.problem.architecture.is_moe

    @cached_property
    def _shares(self) -> dict[LayerKind, Floats]:
        """Share of the stage's layers that are of each kind of the network."""
        a = self.problem.architecture
        return {kind: kind_share(self.problem, self.layouts, self.stage, kind) for kind in a.kinds}

    def _first(self, kind: LayerKind) -> Floats:
        """1 where the first layer of the stage is of that kind."""
        found = first_kind(self.problem, self.layouts, self.stage)
        return np.asarray(found == self.problem.architecture.kinds.index(kind), dtype=float)

    def of_kind(self, kind: LayerKind) -> tuple[Floats, Floats]:
        """(dense, expert) parameters of a layer of one block alone, on one rank."""
        p, tp = self.problem.parameters, self.layouts.tensor_parallel
        layer, none = p.moe_layer or p.dense_layer, 0.0 * tp
        if kind == "mlp":
            dense = (layer.dense_mlp_sharded + layer.shared_experts) / tp + layer.dense_mlp_replicated + layer.router
            expert = layer.routed_experts / (self.layouts.expert_parallel * self.layouts.expert_tensor_parallel)
            return dense / p.mlp_share + layer.norm, np.asarray(expert / p.mlp_share)
        sharded, whole = p.full_attention if kind == "attention" else p.linear_attention
        return sharded / (tp if kind == "attention" else linear_cut(self.problem, tp)) + whole + layer.norm, none

    def layer_share(self, layer: LayerParameters) -> tuple[Floats, Floats]:
        """(dense, expert) parameters of one layer on one rank; of several kinds of layers the stage's mean one."""
        tp = self.layouts.tensor_parallel
        if self.problem.architecture.is_hybrid:
            return self._mean_of_kinds(self._shares)
        dense = (layer.attention_sharded + layer.dense_mlp_sharded + layer.shared_experts) / tp + (
            layer.attention_replicated + layer.dense_mlp_replicated + layer.norm + layer.router
        )
        if self.problem.architecture.is_linear:
            dense = dense - layer.attention_sharded / tp - layer.attention_replicated
            full, linear = self.problem.parameters.full_attention, self.problem.parameters.linear_attention
            attending, other = full[0] / tp + full[1], linear[0] / linear_cut(self.problem, tp) + linear[1]
            dense = dense + self._shares["full"] * attending + self._shares["linear"] * other
        expert = layer.routed_experts / (self.layouts.expert_parallel * self.layouts.expert_tensor_parallel)
        return dense, expert

    def _mean_of_kinds(self, shares: dict[LayerKind, Floats]) -> tuple[Floats, Floats]:
        """(dense, expert) parameters of one layer on one rank, each kind of one block alone by its share."""
        each = [(share, *self.of_kind(kind)) for kind, share in shares.items()]
        dense = np.asarray(sum(share * dense for share, dense, _ in each))
        return dense, np.asarray(sum(share * expert for share, _, expert in each))

    @property
    def attention_shapes(self) -> Floats:
        """Sharded parameters of one attention of each kind that the stage has, on one rank."""
        p, tp = self.problem.parameters, self.layouts.tensor_parallel
        if not self.problem.architecture.several_kinds:
            return np.asarray(p.full_attention[0] / tp)
        linear = p.linear_attention[0] / linear_cut(self.problem, tp)
        full, other = (self._shares[k] for k in ("full", "linear"))
        return np.asarray(p.full_attention[0] / tp * (full > 0) + linear * (other > 0))

    @cached_property
    def end_parameters(self) -> tuple[Floats, Floats]:
        """(embedding side, head side) parameters on one rank of the first and last stage."""
        p, a, tp = self.problem.parameters, self.problem.architecture, self.layouts.tensor_parallel
        vocab = padded_vocab_size(
            vocab_size=a.vocab_size, divisible_by=self.problem.engine.vocab_divisible_by, tensor_parallel=tp
        )
        table = vocab * a.hidden_size / tp
        # A tied head is the embedding itself; with several stages the last one holds a copy of it.
        copies = (self.layouts.pipeline_parallel > 1) if a.tie_word_embeddings else 1.0
        return table + p.beside_embedding, table * copies + p.beside_head

    @property
    def first_parameters(self) -> tuple[Floats, Floats]:
        """(dense, expert) trained parameters of the stage's first layer, and of an embedding that is no head, on one
        rank."""
        p = self.problem.parameters
        dense, expert = self.layer_share(p.moe_layer or p.dense_layer)
        if self.problem.architecture.is_hybrid:
            firsts = {kind: self._first(kind) for kind in self.problem.architecture.kinds}
            dense, expert = self._mean_of_kinds(firsts)
        leading = self.is_first * float(self._moe and p.num_dense_layers > 0)
        plain, _ = self.layer_share(p.dense_layer)
        embedding = self.is_first * self.end_parameters[0] - self.tied_table - self.frozen_tower
        return dense + leading * (plain - dense) + embedding, expert * (1.0 - leading)

    @property
    def tied_table(self) -> Floats:
        """Parameters of a table that is embedding and head of the same stage, on one rank."""
        table = self.end_parameters[0] - self.problem.parameters.beside_embedding
        return np.asarray(self.is_first * self.is_last * self.problem.architecture.tie_word_embeddings * table)

    @cached_property
    def parameters(self) -> tuple[Floats, Floats]:
        """(dense, expert) parameters of the stage on one rank.

        Leading dense layers of an architecture with experts stand on the first stage.
        """
        p = self.problem.parameters
        dense_layer = self.layer_share(p.dense_layer)
        embedding, head = self.end_parameters
        join = 2 * self.problem.architecture.hidden_size**2 / self.layouts.tensor_parallel
        ends = self.is_first * embedding + self.is_last * head + self._further * join
        layers = self._both * self.layers + self._further
        if p.moe_layer is None:
            return layers * dense_layer[0] + ends, self.layers * 0.0 * dense_layer[1]
        dense, expert = self.layer_share(p.moe_layer)
        swapped = self.is_first * p.num_dense_layers
        return layers * dense + ends + swapped * (dense_layer[0] - dense), (layers - swapped) * expert

    @cached_property
    def _further(self) -> Floats:
        """Layers that predict further tokens; they stand on the last stage."""
        trained = self.problem.engine.trains_further_tokens
        return np.asarray(self.is_last * self.problem.architecture.num_nextn_predict_layers * trained)

    @cached_property
    def shards(self) -> tuple[Floats, Floats]:
        """(dense, expert) ranks over which state is sharded, before the ZeRO stage is looked at."""
        lay = self.layouts
        context = lay.context_parallel if self.problem.engine.states.shard_over_context else 1
        dense = lay.data_parallel * context * self._both
        ranks = lay.data_parallel * lay.context_parallel * lay.tensor_parallel * self._both
        expert = ranks / (lay.expert_parallel * lay.expert_tensor_parallel)
        copies = sharded_copies(self.problem, lay)
        return np.maximum(1.0, dense / copies), np.maximum(1.0, expert / copies)

    def sharded(self, parameters: tuple[Floats, Floats], from_stage: int) -> Floats:
        """Parameters whose state lies on one rank: cut over the data-parallel ranks from that ZeRO stage on."""
        on = self.layouts.zero_stage >= from_stage
        return parameters[0] / np.where(on, self.shards[0], 1.0) + parameters[1] / np.where(on, self.shards[1], 1.0)

    @cached_property
    def trainable(self) -> tuple[Floats, Floats]:
        """(dense, expert) trainable parameters of the stage on one rank."""
        adapter = self.problem.scenario.adapter
        if adapter is None:
            return self.parameters[0] - self.frozen_tower, self.parameters[1]
        adapters, frozen = self.adapters
        return adapters - frozen + self.trained_tables, self.layers * 0.0

    @property
    def frozen_tower(self) -> Floats:
        """Parameters of a vision tower and its projector that stay frozen while the rest trains, on one rank."""
        return np.asarray(self.is_first * float(self.problem.frozen_parameters) + self.layers * 0.0)

    @cached_property
    def adapters(self) -> tuple[Floats, Floats]:
        """(adapter parameters of the stage on one rank, those among them that stay frozen), no trained tables.

        rank (inputs + outputs), DoRA one magnitude an output more, LoRA-FA trains rank x outputs only.
        """
        adapter, arch = self.problem.scenario.adapter, self.problem.architecture
        assert adapter is not None
        sides = adapted_sides(arch, tuple(adapter.targets))
        into, out = (sum(side) / arch.num_hidden_layers for side in zip(*sides, strict=True))
        each = adapter.rank * (into + out) + (out if adapter.variant == "dora" else 0.0)
        frozen = adapter.rank * into if adapter.variant == "lora-fa" else 0.0
        here = self._both * self.layers / self.layouts.tensor_parallel
        return here * each, here * frozen

    @cached_property
    def trained_tables(self) -> Floats:
        """Parameters of embedding and head that train whole beside adapters, on one rank of their stage."""
        adapter = self.problem.scenario.adapter
        saved = adapter.modules_to_save if adapter is not None else []
        table = self.end_parameters[0] - self.problem.parameters.beside_embedding
        first = self.is_first * ("embed_tokens" in saved)
        return np.asarray((first + self.is_last * ("lm_head" in saved)) * table + self.layers * 0.0)

    @property
    def all_ends(self) -> Floats:
        """Parameters of embedding and head on one rank of their stage, final norm and positions with them."""
        embedding, head = self.end_parameters
        return np.asarray(self.is_first * embedding + self.is_last * head + self.layers * 0.0)

    @property
    def largest_table(self) -> Floats:
        """Parameters of the larger table, embedding or head, on one rank of its stage; positions stand apart."""
        embedding, head = self.end_parameters
        first = self.is_first * (embedding - self.problem.parameters.beside_embedding)
        return np.asarray(np.maximum(first, self.is_last * head) + self.layers * 0.0)

    @property
    def ends(self) -> Floats:
        """Those of them that train."""
        return self.trained_tables if self.problem.scenario.adapter is not None else self.all_ends - self.frozen_tower

    @property
    def vectors(self) -> Floats:
        """Norm weights of the stage's layers that train."""
        layer = self.problem.parameters.moe_layer or self.problem.parameters.dense_layer
        return np.asarray(self._both * self.layers * layer.norm * float(self.problem.scenario.adapter is None))
