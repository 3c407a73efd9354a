"""Low-rank adapters in a launch file: what is trained, on which matrices, and how the frozen base lies in memory."""

from __future__ import annotations

from collections.abc import Mapping

from planner.errors import Place
from planner.launch.reading.formats import FAMILY, loads_whole
from planner.launch.reading.found import Found

FULL = frozenset(("full", "none", "null", "false", ""))
LOW_RANK = frozenset(("lora", "qlora", "dora", "canonical_lora"))
EVERY = frozenset(("all", "all-linear"))
SAVED = frozenset(("embed_tokens", "lm_head"))
USUAL = ("q_proj", "v_proj")
"""Targets of peft 0.21.2 (utils/constants.py) for Llama, Qwen and Mistral where a file names none."""
WHOLE_LISTS = frozenset(("nemo-rl",))
"""Launchers to which an empty list of targets is every linear layer."""
LEFT_WHOLE = "fp32"
"""A base that was to be in few bits and is not: peft's k-bit preparation makes all of it fp32 (loaders/model.py:1146;
peft 0.21.2 utils/other.py, prepare_model_for_kbit_training)."""
WORDS = (
    "tuner", "adapter_rank", "adapter_targets", "adapter_all", "adapter_dropout", "adapter_saved", "adapter_dora",
    "adapter_rslora", "adapter_kind", "base_bits", "base_bits_8", "quantised_twice",
)  # fmt: skip
"""Words of the parts of tables that adapters are read by."""


def say_adapter(found: Found) -> None:
    """Say the adapter of a file that trains one: word `adapter` (fields of a scenario's), at the place of its rank."""
    words = {word: found.words.pop(word, None) for word in WORDS}
    places = {word: found.places.pop(word) for word in WORDS if word in found.places}
    rank = words["adapter_rank"]
    method = str(words["tuner"] if words["tuner"] is not None else "lora" if rank else "full").lower()
    where = next((places[word] for word in ("adapter_rank", "tuner") if word in places), None)
    if method in FULL or (isinstance(rank, int) and rank < 1):
        return
    if method not in LOW_RANK:
        found.uncosted.append((where or Place("?"), f"{method} is not costed: it trains other weights than low ranks"))
        return
    adapter: dict[str, object] = {"targets": _targets(found, words)}
    if isinstance(rank, int):
        adapter["rank"] = rank
    if words["adapter_dora"] is True or "dora" in (words["adapter_kind"], method):
        adapter["variant"] = "dora"
    elif words["adapter_rslora"] is True:
        adapter["variant"] = "rslora"
    dropout = words["adapter_dropout"]
    if isinstance(dropout, (int, float)) and dropout > 0:
        adapter["dropout"] = float(dropout)
    saved = _names(words["adapter_saved"])
    if SAVED.intersection(saved):
        adapter["modules_to_save"] = [name for name in saved if name in SAVED]
    for name in saved:
        if name not in SAVED:
            found.unread.append((places["adapter_saved"], f"{name}, trained whole beside the adapter, is not counted"))
    quantised = _base(found, words, method)
    if quantised is not None:
        adapter["base_precision"] = quantised
    found.adapter = adapter
    found.words["adapter"] = method
    if where is not None:
        found.places["adapter"] = where


def say_base(found: Found) -> None:
    """Say the format of a frozen base that no line quantises: that in which products are taken."""
    if found.adapter is not None and "base_precision" not in found.adapter:
        precision = found.words.get("precision")
        whole = found.launcher in FAMILY and found.engine not in found.habits.casts_frozen_over and loads_whole(found)
        found.adapter["base_precision"] = precision if precision in ("fp16", "fp32") else "fp32" if whole else "bf16"


def _targets(found: Found, words: Mapping[str, object]) -> list[str]:
    names = _names(words["adapter_targets"])
    if words["adapter_all"] is True or EVERY.intersection(names) or (not names and found.launcher in WHOLE_LISTS):
        return ["all-linear"]
    if not names:
        found.assumed["adapter.targets"] = f"{', '.join(USUAL)}: no line names the adapted matrices"
        return list(USUAL)
    return names


def _names(value: object) -> list[str]:
    """A list, or words between commas; an empty list is read as a switch is."""
    if value is None or value is True:
        return []
    items = value if isinstance(value, list) else str(value).split(",")
    return [name for item in items if (name := str(item).strip())]


def _base(found: Found, words: Mapping[str, object], method: str) -> str | None:
    bits = 8 if words["base_bits_8"] is True else words["base_bits"]
    held = found.habits.bits_of.get(method)
    if held == 8 and bits == 4:
        whole = found.engine in found.habits.unprepared_over and found.words.get("zero_stage") == 3
        return None if whole else LEFT_WHOLE
    if bits == 8 and held != 4:
        return "int8"
    if bits == 4 or method == "qlora":
        return "nf4-single" if words["quantised_twice"] is False else "nf4"
    return None
