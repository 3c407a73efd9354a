"""Shape of an engine's option: a switch that changes what the engine keeps or how fast it is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from planner.schema.base import Frozen

Need = Literal["experts", "no experts", "latent attention", "fp8", "16-bit weights", "adapters", "all weights trained"]
"""What a network, a precision or a method must be for an option to do anything."""


class Option(Frozen):
    """A switch of an engine; a scenario turns it on in `engine_options`, or leaves it open in `options_to_try`."""

    text: str
    """What it does."""
    decides: Literal["activation_offload"] | None = None
    """The field of `layout:` that turns it on as well, and may leave it to the search."""
    choice: Literal["speed", "numbers"] | None = None
    """A choice of the user's: `speed` leaves results as they are, `numbers` changes what is computed (a narrower
    format, dropped tokens). None for what states a release or a network; a scenario may still name it."""
    needs: list[Need] = Field(default_factory=list)
    """Without these it does nothing, and the search does not try it."""
    instead_of: list[str] = Field(default_factory=list)
    """Options of the engine that are not on beside it: other ways to do the same."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Fields of the engine that it replaces; mappings are merged, lists replaced."""
    rules: list[str] = Field(default_factory=list)
    """Further rules (planner/axes) that bind where it is on."""
    source: str
