"""Shape of the file of networks that are refused by name."""

from __future__ import annotations

from pydantic import Field

from planner.schema.base import Frozen, Source


class Unplannable(Frozen):
    """Networks of one kind that cannot be planned."""

    named: list[str] = Field(min_length=1)
    """How the last part of their names begins: lower case, punctuation aside."""
    has: str
    """What they have that no word here describes."""
    instead: str
    """What to do, or to take, instead."""
    source: str


class UnplannableNetworks(Frozen):
    """All of them, in the order in which they are looked through."""

    id: str
    networks: list[Unplannable]
    sources: list[Source] = Field(min_length=1)
