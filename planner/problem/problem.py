"""A question with nothing left to look up, and the problems that are its variants, searched together.

Each combination of decisions that change the cost functions is a problem of its own: work, engine and machines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from planner.cluster.cluster import Cluster
from planner.errors import Place
from planner.formulas.model_flop import adapter_parameters_met, model_flop_per_token
from planner.formulas.parameters import ArchitectureParameters
from planner.inputs.document import Document
from planner.inputs.known_errors import KnownErrors
from planner.problem.machines import Machines
from planner.problem.named_attention import NamedAttention
from planner.problem.preference import scored_by as pairs_scored_by
from planner.problem.state_bytes import StateBytes
from planner.problem.variants import Setting, awake_together, on_pool
from planner.problem.wishes import WishCombination as WishCombination
from planner.problem.work import Work
from planner.schema.calibration import Calibration, Phase
from planner.schema.catalog import Architecture, Node, Optimizer, Precision
from planner.schema.engine import Colocation, Engine, Generation, RolloutEngine, Separation
from planner.schema.rl_stack import TrainerPart
from planner.schema.scenario import Rl, Scenario

COLOCATED, ASYNCHRONOUS = "colocated", "asynchronous"


@dataclass(frozen=True)
class Problem(StateBytes):
    """One variant of a question: every decision that changes the cost functions is taken. What-ifs make a new one."""

    scenario: Scenario
    document: Document
    work: Work
    engine: Engine
    machines: Machines
    """Those that train."""
    known_errors: KnownErrors
    """How wrong predictions for this engine are known to be."""
    provenance: tuple[tuple[str, str], ...]
    """(file, sha256) of every file used."""
    calibration: Calibration | None = None
    """Factors of the user's own run, where the scenario names a file of them."""
    splits: tuple[tuple[int, int], ...] = ()
    """(GPUs that train, GPUs that only generate), where placement is not colocated."""
    rollout_machines: Machines | None = None
    """Machines that only generate, where they are of another kind."""
    trains_on: Node | None = None
    """Only of a problem as its rollout engine sees it: the machines that train."""
    later_machines: Machines | None = None
    """Machines of the later pipeline stages, where they are of another kind."""
    first_gpus: int = 0
    """Of the GPUs that train, those that hold the first stages, where `later_machines` hold the rest."""
    settings: tuple[Setting, ...] = ()
    """What tells this problem from the other variants of its question."""
    named_attention: NamedAttention | None = None
    """Fused attention that is counted and no trainer takes by itself."""
    reserve_counted: bool = True
    """Whether limits count what an allocator is estimated to hold and can give back (`costs/memory/returnable.py`)."""

    @property
    def name(self) -> str:
        """Of the scenario."""
        return self.scenario.name

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return self.work.architecture

    @property
    def parameters(self) -> ArchitectureParameters:
        """Exact parameter counts by tensor class."""
        return self.work.parameters

    @property
    def rollout_engine(self) -> RolloutEngine | None:
        """What generates, in reinforcement learning."""
        return self.work.rollout_engine

    @property
    def rollout_precision(self) -> Precision | None:
        """In which it holds weights, where that is not what is trained in."""
        return self.work.rollout_precision

    @property
    def wishes(self) -> tuple[WishCombination, ...]:
        """Best first."""
        return self.work.wishes

    @property
    def node(self) -> Node:
        """Of the machines that train."""
        return self.machines.node

    @property
    def slowest_rank_stated(self) -> bool:
        """Whether the scenario says how much longer steps take for their slowest rank."""
        faults = self.scenario.faults
        return faults is not None and faults.straggler_factor != 1

    @property
    def num_gpus(self) -> tuple[int, ...]:
        """GPU counts that may train, ascending."""
        return self.machines.num_gpus

    @property
    def usable_gib(self) -> float:
        """What the driver leaves to torch. [GiB]"""
        return self.machines.usable_gib

    @property
    def headroom_gib(self) -> float:
        """What must stay free. [GiB]"""
        return self.machines.headroom_gib

    @property
    def headroom_from(self) -> str:
        """Where that number comes from."""
        return self.machines.headroom_from

    @property
    def limit_gib(self) -> float:
        """What one GPU may hold: usable memory less what must stay free. [GiB]"""
        return self.machines.limit_gib

    @property
    def clusters(self) -> dict[int, Cluster]:
        """A cluster for each GPU count."""
        return self.machines.clusters

    @property
    def trains_all_weights(self) -> bool:
        """No adapter trains in their place."""
        return self.scenario.adapter is None

    @property
    def optimizer_on_host(self) -> bool:
        """The optimizer's state lies in host memory, where it steps."""
        return self.scenario.layout.optimizer_offload is True or self.gradients_on_host

    def _on(self, machines: Machines, trains_on: Node | None = None) -> Problem:
        """This problem on other machines of the scenario."""
        return replace(
            self,
            machines=machines,
            scenario=on_pool(self.scenario, machines.node.id),
            splits=(),
            rollout_machines=None,
            trains_on=trains_on,
            later_machines=None,
            first_gpus=0,
        )

    @cached_property
    def generating(self) -> Problem:
        """This problem as the rollout engine sees it: on its own machines."""
        return self if self.rollout_machines is None else self._on(self.rollout_machines, trains_on=self.node)

    @cached_property
    def later(self) -> Problem | None:
        """This problem on the machines of the later pipeline stages, where they are of another kind."""
        return None if self.later_machines is None else self._on(self.later_machines)

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
    def awake_together(self) -> bool:
        """Trainer and rollout engine share the GPUs, and part of one stays there while the other works."""
        return awake_together(self.scenario)

    def stays(self, part: TrainerPart) -> bool:
        """Whether this part of a colocated trainer stays on the GPU while the rollout engine is awake."""
        rl = self.scenario.rl
        return rl is not None and self.colocated and part in rl.trainer_on_gpu

    def factor(self, phase: Phase) -> float:
        """What the calibration multiplies a phase's time by; 1 without one."""
        return 1.0 if self.calibration is None else self.calibration.factor(phase)

    @property
    def is_rl(self) -> bool:
        """True for reinforcement learning."""
        return self.scenario.rl is not None

    def model_flop_per_token(self, sequence_length: float) -> float:
        """Model FLOP of forward and backward pass for one trained token of so long a sequence. [FLOP]"""
        adapter = self.scenario.adapter
        met = adapter_parameters_met(self.architecture, adapter.rank, adapter.targets) if adapter is not None else 0
        return model_flop_per_token(
            self.architecture,
            self.parameters,
            sequence_length,
            frozen=adapter is not None,
            trained_head=adapter is not None and "lm_head" in adapter.modules_to_save,
            adapter_parameters=met,
        )

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

    @property
    def generation(self) -> Generation:
        """What the RL stack asks of its rollout engine; only for RL."""
        assert self.engine.generation is not None
        return self.engine.generation

    @property
    def scored_by(self) -> tuple[str, ...]:
        """Whose log-probabilities take a pass of their own: `reference`, `policy`."""
        rl = self.scenario.rl
        if rl is None:
            return pairs_scored_by(self.scenario)
        policy = rl.old_log_probs
        if policy is None:
            policy = rl.steps_per_rollout > 1 or rl.algorithm == "ppo" or not self.generation.reuses_log_probs
        return ("reference",) * rl.reference_model + ("policy",) * policy

    def keeping(self, headroom_gib: float) -> Problem:
        """This problem with at most so much kept free of what nobody demanded. [GiB]"""

        def keep(machines: Machines | None) -> Machines | None:
            return machines.keeping(headroom_gib) if machines is not None else None

        return replace(
            self,
            machines=self.machines.keeping(headroom_gib),
            rollout_machines=keep(self.rollout_machines),
            later_machines=keep(self.later_machines),
        )

    def place(self, *path: str | int) -> Place:
        """Where something stands in the scenario."""
        return self.document.place(path)

    @property
    def alone(self) -> Question:
        """The question that leaves no other variant."""
        return Question((self,))


@dataclass(frozen=True)
class Question:
    """What a scenario asks, with nothing left to look up."""

    problems: tuple[Problem, ...]
    """The variants, the plain one first; a layout's `variant` counts along them."""
    refused: tuple[tuple[str, str], ...] = ()
    """(settings, why) of combinations that machines or engine rule out."""
    offered: Engine | None = None
    """The engine as its file has it, with the options that the variants' engines no longer show."""

    @property
    def first(self) -> Problem:
        """The plain variant: what all variants share can be read from it."""
        return self.problems[0]

    @property
    def is_open(self) -> bool:
        """Whether decisions that change costs are left open."""
        return len(self.problems) > 1

    @property
    def document(self) -> Document:
        """The scenario file behind all variants."""
        return self.first.document

    @property
    def scenario(self) -> Scenario:
        """The scenario of the plain variant."""
        return self.first.scenario

    @property
    def name(self) -> str:
        """Of the scenario."""
        return self.scenario.name

    @property
    def architecture(self) -> Architecture:
        """The network, the same in all variants."""
        return self.first.architecture

    @property
    def parameters(self) -> ArchitectureParameters:
        """Exact parameter counts by tensor class."""
        return self.first.parameters

    @property
    def wishes(self) -> tuple[WishCombination, ...]:
        """Best first; the same in all variants."""
        return self.first.wishes

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizer wished for, then those allowed; the same in all variants."""
        return self.first.optimizers

    @property
    def known_errors(self) -> KnownErrors:
        """How wrong predictions for this engine are known to be."""
        return self.first.known_errors

    @property
    def provenance(self) -> tuple[tuple[str, str], ...]:
        """(file, sha256) of every file that answers rest on."""
        return self.first.provenance

    @property
    def rl(self) -> Rl | None:
        """What the scenario says of prompts and rollouts, in reinforcement learning."""
        return self.scenario.rl

    @property
    def is_rl(self) -> bool:
        """True for reinforcement learning."""
        return self.first.is_rl

    @property
    def known_error_texts(self) -> tuple[str, ...]:
        """What is known about the error of figures of all variants, in sentences."""
        cautions = dict.fromkeys(text for problem in self.problems for text in problem.architecture.cautions)
        return *cautions, *self.known_errors.sentences(
            rollout=self.is_rl,
            apart=any(not problem.colocated for problem in self.problems),
            two_pools=any(problem.later is not None for problem in self.problems),
        )

    @cached_property
    def roomiest(self) -> Machines:
        """The machines whose GPUs may hold most: memory of the others is counted on their scale."""
        return max(self._pools, key=lambda machines: machines.limit_gib)

    @property
    def _pools(self) -> list[Machines]:
        return [p.machines for one in self.problems for p in (one, one.generating, one.later or one)]

    @property
    def prefers_headroom(self) -> bool:
        """Whether more is kept free than the user demanded, because it is usual."""
        return any(machines.headroom_gib > machines.demanded_headroom_gib for machines in self._pools)

    def keeping(self, headroom_gib: float) -> Question:
        """The same question with at most so much kept free of what nobody demanded. [GiB]"""
        return replace(self, problems=tuple(problem.keeping(headroom_gib) for problem in self.problems))

    @property
    def as_demanded(self) -> Question:
        """The same question with only that headroom which the user demanded."""
        return self.keeping(0.0)

    @property
    def total_gpus(self) -> tuple[int, ...]:
        """GPU counts that may be used in all, ascending."""
        totals = {a + b for p in self.problems for a, b in p.splits or [(count, 0) for count in p.num_gpus]}
        return tuple(sorted(totals))

    def place(self, *path: str | int) -> Place:
        """Where something stands in the scenario."""
        return self.document.place(path)


def host_memory_gib(problem: Problem) -> float | None:
    """Host memory of one node. [GiB]"""
    own = problem.scenario.cluster.host_memory_gib
    return own if own is not None else problem.node.host_memory_gib
