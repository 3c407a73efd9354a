"""What one layer of a stage keeps, rebuilds and runs in, for one micro-batch on one rank: each list is sized once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.groups import group_of_layers
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.memory.tensor_widths import TensorSizes
from planner.costs.memory.tower import tower_activations
from planner.formulas.activations import in_flight_layers_factor
from planner.problem.layouts import Floats
from planner.schema.engine import Tensor

FORWARD = "forward pass"
"""Moment of the loss (`at` of its tensors) at which autocast's copies of recomputed layers are still there."""


@dataclass(frozen=True)
class StageTensors(StageParameters):
    """Sizes of the engine's lists of tensors."""

    @cached_property
    def sizes(self) -> TensorSizes:
        """How large tensors of one micro-batch are on one rank."""
        return TensorSizes(self.problem, self.layouts)

    @cached_property
    def _stub(self) -> Floats:
        """Bytes that one recomputed layer keeps, for one micro-batch."""
        return self._layer_bytes(self.problem.engine.stub)[0]

    @cached_property
    def _brought_back(self) -> Floats:
        """Bytes of what one recomputed layer keeps that waited on the host, back while that layer runs."""
        return self._layer_bytes(self.problem.engine.offloaded_stub)[0]

    @cached_property
    def _running(self) -> Floats:
        """Bytes beside what is kept while one layer runs its backward pass."""
        return self._most(self._of_kinds(self.problem.engine.backward, self._kept_tensors))

    @cached_property
    def _rebuilt(self) -> Floats:
        """Bytes that a layer being recomputed keeps; of two kinds such that `_running` and this are the larger sum."""
        kept = self._of_kinds(self._kept_tensors)
        if len(kept) == 1:
            return kept[0]
        both = zip(kept, self._of_kinds(self.problem.engine.backward, self._kept_tensors), strict=True)
        return self._most(tuple(rebuilt + running for rebuilt, running in both)) - self._running

    def _of_kinds(self, tensors: Sequence[Tensor], beside: Sequence[Tensor] = ()) -> tuple[Floats, ...]:
        """Bytes of a usual layer of each kind for one micro-batch."""
        kinds = self.problem.architecture.kinds
        return tuple(self.sizes.of(tensors, moe_layer=self._moe, kind=kind, beside=beside) for kind in kinds)

    def _most(self, kinds: tuple[Floats, ...]) -> Floats:
        """The larger of what the stage's kinds of layers take."""
        if len(kinds) == 1:
            return kinds[0]
        there = zip(self._shares.values(), kinds, strict=True)
        return np.asarray(np.maximum.reduce([np.where(share > 0, size, 0.0) for share, size in there]))

    @cached_property
    def _forward_loss_spares(self) -> Floats:
        """Bytes by which the loss takes less in the forward pass than at its peak; 0 where no tensor is told so."""
        loss = self.problem.engine.loss
        made = [t for t in loss if t.at in (None, FORWARD)]
        if all(t.at is None for t in made):
            return np.zeros(np.shape(self.layouts.tensor_parallel))
        whole, forward = (self.sizes.of(tensors, moe_layer=False) for tensors in (loss, made))
        return np.asarray(self.is_last * (whole - forward))

    @cached_property
    def in_flight(self) -> Floats:
        """Micro-batches alive on the stage at the peak."""
        return in_flight_layers_factor(
            stage=self.stage,
            pipeline_parallel=self.layouts.pipeline_parallel,
            virtual_pipeline=self.layouts.virtual_pipeline,
            num_micro_batches=self.layouts.num_micro_batches,
            group_size=self.problem.engine.pipeline.group_size,
            bidirectional=self.problem.engine.pipeline.bidirectional,
        )

    @cached_property
    def _short_chunk(self) -> Floats:
        """Correction for chunks that are one layer short, as embedding and loss count as layers of interleaved stages.

        A stage's first chunk has more micro-batches in flight than the average chunk, its last one fewer. [bytes]
        """
        lay = self.layouts
        p, v, m = lay.pipeline_parallel, lay.virtual_pipeline, lay.num_micro_batches
        short = (v > 1) & ((self.problem.architecture.num_hidden_layers + 2) % (p * v) == 0)
        first = self.is_first * (self.in_flight - np.minimum(m, 2 * p - 1))
        last = self.is_last * (self.in_flight - 1)
        return np.asarray(short * (first + last) * self.layer_activations[0])

    @cached_property
    def _group(self) -> tuple[Floats, Floats]:
        return group_of_layers(self.problem, self.layouts)

    def _layer_bytes(self, tensors: Sequence[Tensor]) -> tuple[Floats, Floats]:
        """(bytes of a usual layer, extra of each leading dense layer) for one micro-batch on one rank.

        Of several kinds of layers the stage's mean.
        """
        kinds = self._of_kinds(tensors)
        usual = kinds[0]
        if len(kinds) > 1:
            usual = np.asarray(sum(share * size for share, size in zip(self._shares.values(), kinds, strict=True)))
        if not self._moe or not self.problem.parameters.num_dense_layers:
            return usual, usual * 0.0
        return usual, self.sizes.of(tensors, moe_layer=False) - usual

    @property
    def _kept_tensors(self) -> Sequence[Tensor]:
        """What a layer keeps for its backward pass."""
        engine = self.problem.engine
        return engine.saved if self.problem.scenario.adapter is None else [*engine.saved, *engine.saved_by_adapter]

    def of_embedding(self, in_flight: Floats) -> tuple[Item, ...]:
        """What embedding and vision tower keep on the first stage, of each micro-batch in flight."""
        kept, tower = self.problem.engine.embedded, tower_activations(self, in_flight)
        if not kept:
            return tower
        each = self.is_first * in_flight * self.sizes.of(kept, moe_layer=False)
        return (Item(ItemName.ACTIVATIONS_EMBEDDING, each, "; ".join(t.source for t in kept)), *tower)

    @cached_property
    def layer_activations(self) -> tuple[Floats, Floats]:
        """(bytes that one layer keeps, extra of each leading dense layer) for one micro-batch."""
        return self._layer_bytes(self._kept_tensors)
