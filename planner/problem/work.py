"""What is computed: network, precisions, optimizers, rollouts and wishes, whatever machines it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from planner.formulas.parameters import ArchitectureParameters, count_parameters
from planner.problem.wishes import WishCombination
from planner.schema.catalog import Architecture, Optimizer, Precision
from planner.schema.engine import RolloutEngine
from planner.schema.scenario import FrozenPart


@dataclass(frozen=True)
class Work:
    """What is trained and generated."""

    architecture: Architecture
    precision: Precision
    base_precision: Precision
    """Of the frozen weights below an adapter; `precision` without one."""
    optimizers: tuple[Optimizer, ...]
    rollout_engine: RolloutEngine | None
    rollout_precision: Precision | None
    """In which it holds weights, where that is not what is trained in."""
    critic: Architecture | None
    """Of PPO, where it is not the policy's own network."""
    wishes: tuple[WishCombination, ...]
    """Best first: fewest given up, then in playbook order, then by how much."""
    frozen: tuple[FrozenPart, ...] = ()
    """Parts of a network with a vision tower that stay frozen while the rest trains."""
    image_tokens: int | None = None
    """Of a sequence's tokens, at most how many the tower makes, where that is stated."""

    @cached_property
    def parameters(self) -> ArchitectureParameters:
        """Exact parameter counts by tensor class."""
        return count_parameters(self.architecture)

    @cached_property
    def frozen_parameters(self) -> int:
        """Parameters of those parts. [elements]"""
        return self.parameters.frozen(self.frozen)
