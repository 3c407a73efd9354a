"""What a scenario says of a vision tower that its network has not, or that is not counted."""

from __future__ import annotations

from planner.errors import Mistake
from planner.inputs.document import Document
from planner.schema.catalog import Architecture
from planner.schema.scenario import Scenario


def of_tower(document: Document, scenario: Scenario, architecture: Architecture) -> list[Mistake]:
    """Frozen parts and tokens of images that contradict the network, or the rest of the scenario."""
    return _frozen(document, scenario, architecture) + _images(document, scenario, architecture)


def _frozen(document: Document, scenario: Scenario, architecture: Architecture) -> list[Mistake]:
    """Parts that a network has not, or that an adapter freezes anyway."""
    if not scenario.frozen:
        return []
    where = document.place(("frozen",))
    if scenario.adapter is not None:
        because = "an adapter trains in the place of all weights of its base, which are frozen with the tower"
        return [Mistake("frozen beside an adapter says nothing", where, because, "leave frozen out")]
    if not architecture.vision_parameters:
        because = f"{architecture.id} has no vision tower that is counted"
        return [Mistake(f"frozen names {' and '.join(scenario.frozen)}", where, because, "leave frozen out")]
    return []


def _images(document: Document, scenario: Scenario, architecture: Architecture) -> list[Mistake]:
    """Tokens of images for a tower whose activations are not known, or more of them than a sequence has."""
    tokens, where = scenario.batch.image_tokens, document.place(("batch", "image_tokens"))
    if tokens is None:
        return []
    if architecture.vision_kept is None:
        because = f"what a vision tower keeps is not known of {architecture.id} (vision_kept of its catalog file)"
        return [Mistake("batch.image_tokens is not counted", where, because, "leave it out")]
    length = scenario.batch.sequence_length
    if isinstance(length, int) and tokens > length:
        because = f"a sequence has {length} tokens"
        return [Mistake(f"batch.image_tokens is {tokens}", where, because, f"image_tokens: {length} or fewer")]
    return []
