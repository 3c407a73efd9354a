"""A time item of a pipeline stage as it grows with the stage's layers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.problem.layouts import Floats, Ints


@dataclass(frozen=True)
class Affine:
    """One time item of a stage: n * layer + r * recomputed + end."""

    name: str
    layer: Floats
    recomputed: Floats
    end: Floats
    """[rows, stages] or broadcastable: what the stage does beside its usual layers."""
    source: str

    def seconds(self, layers: Ints, recomputed: Ints) -> Floats:
        """Seconds of one visit of the stage. [s]"""
        return np.asarray(layers * self.layer + recomputed * self.recomputed + self.end)

    def beside(self, other: Affine, layers: float, *, end: bool) -> Affine:
        """With an item of another network, `layers` of whose layers come with one of this one's, and its end or not."""
        return Affine(
            self.name,
            self.layer + layers * other.layer,
            self.recomputed + layers * other.recomputed,
            self.end + other.end * end,
            f"{self.source}; and the critic's",
        )

    def scaled(self, factor: float, because: str) -> Affine:
        """The same item, so many times as long."""
        return Affine(
            self.name,
            factor * self.layer,
            factor * self.recomputed,
            factor * self.end,
            f"{self.source}; x {factor:.4g} by {because}",
        )
