"""Which parts of a vision tower a launch file leaves frozen, by its own settings or by its launcher's defaults."""

from __future__ import annotations

from planner.errors import Place
from planner.launch.reading.found import Found
from planner.launch.said import FROZEN, FROZEN_PARTS
from planner.schema.architecture import Architecture

LANGUAGE = "frozen_language"
"""Word of a frozen language model."""
EVERY = "all-linear"
TOWER = next(iter(FROZEN_PARTS))
IMAGES = "batch.image_tokens"


def frozen_parts(found: Found, model: Architecture | None, version: str) -> list[str]:
    """Names of a scenario's `frozen`; none where the network has no tower, or an adapter trains instead.

    version: the launcher's, whose defaults are listed as taken where no line says otherwise.
    """
    words = found.words
    if model is None or not model.vision_parameters:
        return []
    if words.get(LANGUAGE) is True:
        what = "the language model is frozen: training the tower or its projector alone is not costed"
        found.uncosted.append((found.places.get(LANGUAGE, Place("?")), what))
    trained = [word for word in FROZEN_PARTS if words.get(word) is False and word in found.places]
    if found.adapter is not None:
        if trained and found.adapter.get("targets") == [EVERY]:
            what = "what is trained in the vision tower beside the language model's adapters is not counted"
            found.unread.append((found.places[trained[0]], what))
        return []
    whole = words.get(FROZEN)
    parts = {word: part for word, part in FROZEN_PARTS.items() if words.get(word) is True}
    if isinstance(whole, str):
        parts = {word: part for word, part in FROZEN_PARTS.items() if part in whole}
    silent = [part for word, part in parts.items() if not {word, FROZEN} & found.places.keys()]
    if silent:
        found.assumed[FROZEN] = f"{', '.join(silent)}: {version} freezes them unless told otherwise"
    kept = model.vision_kept
    if kept is not None and TOWER not in parts:
        each = f"{kept.trained_bytes / 1e6:.1f} GB for 1,000 patches, {kept.recomputed_bytes / 1e6:.1f} recomputed"
        found.assumed[IMAGES] = f"none: what the tower keeps of images ({each}) is counted where they are said"
    return list(parts.values())
