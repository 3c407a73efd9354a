"""A problem: a scenario with every name looked up, every wish spelt out, nothing left to read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.cluster.cluster import Cluster
from planner.cluster.own_machines import Own
from planner.errors import Place
from planner.formulas.parameters import ArchitectureParameters, count_parameters
from planner.inputs.document import Document
from planner.inputs.known_errors import KnownErrors
from planner.problem.layouts import Floats
from planner.problem.variants import Setting
from planner.problem.wishes import WishCombination as WishCombination
from planner.schema.calibration import Calibration, Phase
from planner.schema.catalog import Architecture, Gpu, Node, Optimizer, Precision
from planner.schema.engine import Colocation, Engine, RolloutEngine, Separation
from planner.schema.scenario import Scenario

RESERVED_CLIFF = 0.88
"""Share of usable memory above which 19 of 19 published nanotron runs on H100 were 3 to 12 times slower: the allocator
flushes and retries. Source: Hugging Face ultra-scale benchmark table, validation/data/README.md."""
CLIFF_TEXT = (
    "limits.reserved_cliff: without expandable segments, runs above 88 % of usable memory were 3 to 12 times slower "
    "(19 of 19 published)"
)
COLOCATED, ASYNCHRONOUS = "colocated", "asynchronous"


class _Clusters(dict[int, Cluster]):
    """A cluster for each GPU count, made when it is asked for."""

    def __init__(self, own: Own, gpu: Gpu) -> None:
        super().__init__()
        self.own, self.gpu = own, gpu

    def __missing__(self, count: int) -> Cluster:
        self[count] = self.own.cluster(self.gpu, count)
        return self[count]


@dataclass(frozen=True)
class Problem:
    """A scenario with all names resolved. Frozen; what-ifs make a new one."""

    scenario: Scenario
    document: Document
    architecture: Architecture
    engine: Engine
    precision: Precision
    base_precision: Precision
    optimizers: tuple[Optimizer, ...]
    node: Node
    gpu: Gpu
    grid_gpu: Gpu
    """The GPU whose measured GEMM grid is used: this one, or a relative that is scaled."""
    num_gpus: tuple[int, ...]
    """GPU counts that may train, ascending."""
    rollout_engine: RolloutEngine | None
    rollout_precision: Precision | None
    """In which it holds weights, where that is not what is trained in."""
    wishes: tuple[WishCombination, ...]
    """Best first: fewest given up, then in playbook order, then by how much."""
    usable_gib: float
    headroom_gib: float
    """GiB that must stay free."""
    headroom_from: str
    """Where that number comes from."""
    known_errors: KnownErrors
    """How wrong predictions for this engine are known to be."""
    provenance: tuple[tuple[str, str], ...]
    """(file, sha256) of every catalog file used."""
    calibration: Calibration | None = None
    """Factors of the user's own run, where the scenario names a file of them."""
    own: Own | None = None
    """What the user's files say about the machines; `node` already follows them."""
    splits: tuple[tuple[int, int], ...] = ()
    """(GPUs that train, GPUs that only generate), where placement is not colocated."""
    rollout_pool: Problem | None = None
    """This problem on the machines that only generate, where they are of another kind."""
    trains_on: Node | None = None
    """Only in a `rollout_pool`: the machines that train."""
    later: Problem | None = None
    """This problem on the machines of the later pipeline stages, where they are of another kind."""
    first_gpus: int = 0
    """Of the GPUs that train, those that hold the first stages, where `later` holds the rest."""
    settings: tuple[Setting, ...] = ()
    """What tells this problem from its variants."""
    variants: tuple[Problem, ...] = ()
    """Problems searched together, this one first; none where the scenario leaves no such decision open."""
    refused: tuple[tuple[str, str], ...] = ()
    """(settings, why) of combinations that machines or engine rule out."""

    @cached_property
    def parameters(self) -> ArchitectureParameters:
        """Exact parameter counts by tensor class."""
        return count_parameters(self.architecture)

    @property
    def each(self) -> tuple[Problem, ...]:
        """All variants, or this problem alone."""
        return self.variants or (self,)

    @property
    def known_error_texts(self) -> tuple[str, ...]:
        """What is known about the error of figures of this problem and its variants, in sentences."""
        return self.known_errors.sentences(
            rollout=self.is_rl,
            apart=any(not variant.colocated for variant in self.each),
            two_pools=any(variant.later is not None for variant in self.each),
        )

    @property
    def limit_gib(self) -> float:
        """What one GPU may hold: usable memory less what must stay free. [GiB]"""
        return self.usable_gib - self.headroom_gib

    @cached_property
    def roomiest(self) -> Problem:
        """The variant whose GPUs may hold most: memory of the others is counted on its scale."""
        pools = [p for variant in self.each for p in (variant, variant.generating, variant.later or variant)]
        return max(pools, key=lambda p: p.limit_gib)

    @property
    def generating(self) -> Problem:
        """This problem as the rollout engine sees it: on its own machines."""
        return self.rollout_pool or self

    @property
    def placement(self) -> str:
        """colocated, disaggregated or asynchronous."""
        rl = self.scenario.rl
        return str(rl.placement) if rl is not None else COLOCATED

    @property
    def colocated(self) -> bool:
        """Trainer and rollout engine share the GPUs (true without a rollout engine)."""
        return self.placement == COLOCATED

    @property
    def total_gpus(self) -> tuple[int, ...]:
        """GPU counts that may be used in all, ascending."""
        totals = {a + b for v in self.each for a, b in v.splits or [(count, 0) for count in v.num_gpus]}
        return tuple(sorted(totals))

    @cached_property
    def clusters(self) -> dict[int, Cluster]:
        """A cluster for each GPU count."""
        return _Clusters(self.own or Own(self.node), self.gpu)

    def covering(self, count: int) -> int:
        """The least share of a node, or number of whole nodes' GPUs, that holds so many GPUs."""
        per_node = self.node.gpus_per_node
        if count >= per_node:
            return -(-count // per_node) * per_node
        return next(n for n in range(count, per_node + 1) if per_node % n == 0)

    def factor(self, phase: Phase) -> float:
        """What the calibration multiplies a phase's time by; 1 without one."""
        return 1.0 if self.calibration is None else self.calibration.factor(phase)

    @property
    def is_rl(self) -> bool:
        """True for reinforcement learning."""
        return self.scenario.rl is not None

    @property
    def colocation(self) -> Colocation:
        """Residuals of the colocated RL stack; only for RL."""
        assert self.engine.colocation is not None
        return self.engine.colocation

    @property
    def separation(self) -> Separation:
        """How trainer and rollout engine talk where each has its own GPUs; only for RL."""
        assert self.engine.separation is not None
        return self.engine.separation

    @cached_property
    def optimizer_state_bytes(self) -> Floats:
        """Bytes a trainable parameter of optimizer state and master copy, by optimizer index."""
        moments = [self.moment_bytes(o, o.state_bytes) for o in self.optimizers]
        master = [o.master_bytes * self.engine.states.keeps_master for o in self.optimizers]
        return np.asarray(np.array(moments) + np.array(master))

    def moment_bytes(self, optimizer: Optimizer, state_bytes: float) -> float:
        """Bytes a parameter of moments for which an optimizer states so many, as this engine formats them."""
        states = self.engine.states
        if optimizer.own_format:
            return state_bytes
        if states.moment_bytes is not None:
            return min(states.moment_bytes, state_bytes)
        return state_bytes * (self.weight_bytes / 4 if states.moments_follow_weights else 1.0)

    def adapter_moment_bytes(self, optimizer: Optimizer) -> float:
        """Bytes a parameter of moments of fp32 adapters."""
        follow = self.engine.states.moments_follow_weights and self.engine.states.moment_bytes is None
        return optimizer.state_bytes if follow else self.moment_bytes(optimizer, optimizer.state_bytes)

    @property
    def weight_bytes(self) -> float:
        """Bytes a trainable parameter of the stored weights."""
        stored = self.engine.states.weight_bytes
        return self.precision.weight_bytes if stored == "precision" else stored

    @property
    def gradient_bytes(self) -> float:
        """Bytes a trainable parameter of the gradient."""
        stored = self.engine.states.gradient_bytes
        return self.precision.weight_bytes if stored == "precision" else stored

    def place(self, *path: str | int) -> Place:
        """Where something stands in the scenario."""
        return self.document.place(path)


def host_memory_gib(problem: Problem) -> float | None:
    """Host memory of one node. [GiB]"""
    own = problem.scenario.cluster.host_memory_gib
    return own if own is not None else problem.node.host_memory_gib
