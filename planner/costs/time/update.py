"""Seconds of what happens once a step: gradients reduced, optimizer stepped, weights gathered."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planner.costs.memory.optimizer import optimizer_bytes, over_layers, paged
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.time.layer import COPY_SHARE, HOST_GB_PER_S, LayerTime
from planner.costs.time.strides import data_strides
from planner.problem.copies import sharded_copies
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.schema.catalog import Collective
from planner.units import GB

MS = 1e-3
MB = 1e6


@dataclass(frozen=True)
class UpdateTime:
    """Times of all rows; layouts have shape [rows, 1], stages [rows or 1, stages]."""

    problem: Problem
    layouts: Layouts
    stage: Ints
    layer: LayerTime
    _known: dict[int, tuple[Floats, Floats, Floats]] = field(default_factory=dict, repr=False, compare=False)

    def reduce(
        self,
        parameters: tuple[Floats, Floats],
        shards: tuple[Floats, Floats],
        free: tuple[Floats | float, Floats | float],
    ) -> Floats:
        """Seconds of gradient reduction and weight gathering that stay in sight, of these (dense, expert) weights. [s]

        The reduction hides behind the last backward pass of their own layer, gathering behind the next forward pass,
        each at most by the engine's share; `free` are the seconds of (forward, backward) that are left for it. Charged
        at the bandwidth of one message of the engine's size, so that it stays affine in the layers.
        """
        problem, lay = self.problem, self.layouts
        engine, timing = problem.engine, problem.engine.timing
        share = np.asarray(engine.overlap.data)
        if engine.overlap.data_sharded is not None:
            share = np.where(lay.zero_stage == 0, share, engine.overlap.data_sharded)
        late = share if timing.gather_overlap is None else timing.gather_overlap
        each = self.layer.reduce_bytes
        none = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(self.stage)))
        reduced, gathered = none, none
        for kind, (count, ranks) in enumerate(zip(parameters, shards, strict=True)):
            if not np.any(count) or not np.any(ranks > 1):
                continue
            group = ranks.astype(np.int64) + none.astype(np.int64)
            reduce, beside, gather = self._rates(kind, group)
            reduced = reduced + reduce * count * each + beside * count * each / group
            gathered = gathered + gather * count * self._gathered_bytes
        seconds = reduced - np.minimum(share * reduced, free[1])
        seconds = seconds + gathered - np.minimum(late * gathered, free[0])
        return np.where(lay.zero_stage >= 3, 0.0, seconds)

    def _rates(self, kind: int, group: Ints) -> tuple[Floats, Floats, Floats]:
        """Seconds a byte of (dense, expert) weights by kind, over groups of so many ranks: (of reducing, of adding up
        what each instance of the optimizer has reduced, of gathering weights). [s/B]"""
        if kind in self._known:
            return self._known[kind]
        lay, timing = self.layouts, self.problem.engine.timing
        step, none = data_strides(self.problem, lay)[kind], np.zeros(group.shape)
        message = at_once = self._stage_bytes()
        if timing.reduce_bucket_mb is not None:
            message = np.minimum(message, timing.reduce_bucket_mb * MB)
        whole, partial = lay.zero_stage == 0, (lay.zero_stage == 1) | (lay.zero_stage == 2)
        plain = self._rate("all_reduce", group, step, message) if np.any(whole) else none
        cut = gather = beside = none
        if not np.all(whole):
            op: Collective = "all_reduce" if timing.sharded_all_reduce else "reduce_scatter"
            cut = self._rate(op, group, step, at_once if timing.sharded_all_reduce else message)
        copies = np.maximum(sharded_copies(self.problem, lay), 1).astype(np.int64)
        if np.any(copies > 1):
            # Instances of the optimizer add up the shards that each has reduced.
            beside = self._rate("all_reduce", copies + 0 * group, step * group, message / group)
            beside = np.where(whole, 0.0, beside)
        if np.any(partial):
            gather = np.where(partial, self._rate("all_gather", group, step, at_once), 0.0)
        self._known[kind] = np.where(whole, plain, cut), beside, gather
        return self._known[kind]

    @property
    def _gathered_bytes(self) -> float:
        """Bytes a parameter of updated weights that ranks gather: 1 where they are kept in fp8."""
        return 1.0 if self.problem.engine.states.fp8_weights else self.problem.precision.weight_bytes

    def _stage_bytes(self) -> Floats:
        """Size of a whole even stage in fp32, at most 4 GB. [bytes]"""
        lay, p = self.layouts, self.problem.parameters
        return np.minimum(np.maximum(p.total * 4.0 / (lay.tensor_parallel * lay.pipeline_parallel), 1.0), 4.0 * GB)

    def _rate(self, op: Collective, group: Ints, stride: Ints, message: Floats) -> Floats:
        """Seconds a byte at this message size. [s/B]"""
        return self.layer.collective(op, group, stride, message + np.zeros(group.shape)) / message

    def optimizer(self, memory: StageMemory) -> Floats:
        """Seconds of the optimizer's own memory traffic. [s]"""
        problem, lay = self.problem, self.layouts
        moved = np.array([o.memory_passes_bytes for o in problem.optimizers])[lay.optimizer]
        cut = lay.zero_stage >= 1
        dense, expert = memory.trainable
        local = dense / np.where(cut, memory.shards[0], 1.0) + expert / np.where(cut, memory.shards[1], 1.0)
        rate = COPY_SHARE * problem.gpu.pcie_gb_per_s * GB
        weights_there = problem.weights_on_host & (lay.zero_stage >= 3)
        if problem.optimizer_on_host:
            ranks = np.minimum(lay.num_gpus, problem.node.gpus_per_host or problem.node.gpus_per_node)
            sent = np.where(weights_there, 0.0, problem.weight_bytes)
            sent = sent + problem.gradient_bytes * (not problem.gradients_on_host)
            timing = problem.engine.timing
            host = np.minimum(HOST_GB_PER_S / ranks, timing.host_process_gb_per_s) * GB
            return np.asarray(sent * local / rate + local * (moved + timing.host_step_bytes) / host)
        moving = local * moved / (0.8 * problem.gpu.memory_bandwidth_gb_per_s * GB) + self._products(memory)
        away = paged(problem)[lay.optimizer] | problem.engine.states.optimizer_returns
        fetched = 2.0 * np.where(away, optimizer_bytes(memory), 0.0)
        fetched = fetched + np.where(weights_there, problem.weight_bytes * local, 0.0)
        return np.asarray(fetched / rate + moving)

    def _products(self, memory: StageMemory) -> Floats:
        """Matrix products inside the optimizer, of the layers' matrices that one rank updates. [s]

        GaLore projects a gradient m x n, m <= n, onto r directions and its update back (arXiv:2403.03507, algorithm 2).
        Muon: X X^T, its square and their product with X in each of its iterations (Jordan et al. 2024). A matrix that
        tensor parallelism cuts is taken as shared out over its ranks.
        """
        problem, lay, gemm = self.problem, self.layouts, self.layer.kernels.gemm
        seconds: Floats = self.stage * 0.0
        if not problem.trains_all_weights:
            return seconds
        for index, optimizer in enumerate(problem.optimizers):
            rank, turns = optimizer.projection_rank, optimizer.orthogonalising_iterations
            if rank is None and not turns:
                continue

            def measure(inputs: int, outputs: int, rank: int | None = rank, turns: int = turns) -> float:
                short, long = (np.asarray(float(side)) for side in sorted((inputs, outputs)))
                square, out = gemm(m=short, n=short, k=long), gemm(m=short, n=long, k=short)
                found = turns * float(square + gemm(m=short, n=short, k=short) + out)
                if rank is not None and rank < short:
                    r = np.asarray(float(rank))
                    found += float(gemm(m=r, n=long, k=short) + gemm(m=short, n=long, k=r))
                return found

            dense, expert = over_layers(memory, measure)
            cut = dense / lay.tensor_parallel, expert / (lay.expert_parallel * lay.expert_tensor_parallel)
            seconds = np.where(lay.optimizer == index, memory.sharded(cut, 1), seconds)
        return seconds

    def fixed(self) -> float:
        """Seconds of every step whatever its size. [s]"""
        return self.problem.engine.timing.step_ms * MS
