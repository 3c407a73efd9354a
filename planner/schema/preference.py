"""Shape of training on pairs of answers (DPO): what a scenario says of it, and what an engine keeps for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.schema.base import Frozen

DPO = "dpo"
"""The task of a scenario that trains on pairs: of each the chosen and the rejected answer, two sequences."""
SEQUENCES_OF_A_PAIR = 2
LAUNCHERS = ("trl",)
"""Launchers that write the files of such a run."""


class Dpo(Frozen):
    """Training on pairs of answers."""

    reference: Literal["model", "precomputed", "none"] = "model"
    """Whose log-probabilities the loss compares with: a frozen copy of the network, which under adapters is their base
    (`model`); the same taken before training and kept with the data (`precomputed`); no one's (`none`: SimPO, ORPO)."""


class Preference(Frozen):
    """How an engine trains on pairs."""

    losses: list[str] = Field(min_length=1)
    """Options of the engine that are ways to take the loss, of which one is on: the first unless a scenario says."""
    reference_whole_copies: int = Field(default=0, ge=0, le=4)
    """Times that all weights of a sharded reference lie gathered while it runs; 0 where it is gathered by layers."""
    reference_ends_stay: bool = False
    """Its embedding and head stay gathered between passes: nothing frees what only a backward pass would free."""
    source: str
