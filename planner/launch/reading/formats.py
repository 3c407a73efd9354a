"""Number formats of the Hugging Face family: what its switches say together about weights and autocast."""

from __future__ import annotations

from planner.launch.reading.found import Found

SWITCHES = ("bf16", "fp16")
FAMILY = ("accelerate", "trl", "deepspeed", "axolotl", "llama-factory", "ms-swift-trainer")
UPCASTS = frozenset(("llama-factory",))
"""Launchers that make trained weights fp32 unless told not to."""
NAMES_NO_WEIGHTS = frozenset(("accelerate",))
"""Launchers whose file has no word for the format in which weights are loaded: a program's own argument says it."""
CASTS_ITSELF = frozenset(("deepspeed", "fsdp2"))
"""Engines whose shards are cast by the engine: a Trainer's switch says the precision there, and no autocast."""
LOADED = ("torch_dtype", "dtype")
"""Arguments of TRL's programs that say the format in which weights are loaded (trainer/model_config.py)."""
WHOLE = frozenset(("float32", "fp32"))
NARROW = {"bfloat16": "bf16", "float16": "fp16"}
AUTOCAST = {True: "autocast", False: "autocast_16bit_weights"}
"""Engine option, by whether the weights under autocast are fp32."""


def say_formats(found: Found) -> str | None:
    """Say the precision of a family's file; returns the engine option of autocast where that is on.

    How each loads and casts is told in planner.launch.hugging_face.spoken, and in the launchers of axolotl and
    LLaMA-Factory.
    """
    if found.launcher not in FAMILY:
        return None
    for word in ("autocast", "pure_16bit", "attention"):
        found.words.pop(word, None)
        found.places.pop(word, None)
    names = [*SWITCHES, "mixed_precision", *(f"{name}.enabled" for name in SWITCHES)]
    cast = _computed(found)
    pure = found.has("pure_bf16") or (found.text("bf16") or "").lower() == "full"
    if found.engine in CASTS_ITSELF:
        found.say("precision", cast or ("bf16" if pure else "fp32"), *names)
        _say_silence(found, names)
        return None
    if cast is not None:
        found.say("precision", cast, *names)
        if loads_whole(found):
            if _loaded(found) is None:
                text = f"weights in fp32 under autocast: {found.launcher}'s own default"
                found.assumed["engine_options"] = "; ".join(filter(None, [text, found.assumed.get("engine_options")]))
            return AUTOCAST[True]
        if found.launcher in NAMES_NO_WEIGHTS and _loaded(found) is None:
            found.assumed["engine_options"] = f"weights in {cast} under autocast: no line says how they are loaded"
        return AUTOCAST[found.launcher in UPCASTS and not pure and "adapter" not in found.words]
    held = NARROW.get(_loaded(found) or "")
    if held is not None:
        found.say("precision", held, *LOADED)
    elif pure or found.launcher == "accelerate":
        found.say("precision", "bf16", "pure_bf16", *names)
        if not pure:
            found.assumed["precision"] = "bf16: weights in the format of a bf16 checkpoint, no autocast"
    else:
        found.say("precision", "fp32", *names)
        _say_silence(found, names)
    return None


def loads_whole(found: Found) -> bool:
    """Whether weights are loaded in fp32 by a setting, or by the launcher's default."""
    loaded = _loaded(found)
    return found.habits.loads_whole if loaded is None else loaded in WHOLE


def _loaded(found: Found) -> str | None:
    """The format in which a setting says that weights are loaded."""
    return next((text for name in LOADED if (text := found.text(name)) is not None), None)


def _say_silence(found: Found, names: list[str]) -> None:
    """List fp32 as taken where no line says any format."""
    if found.words["precision"] == "fp32" and not any(name in found.options for name in names):
        found.assumed["precision"] = "fp32: no line turns on bf16 or fp16"


def _computed(found: Found) -> str | None:
    """The 16-bit format that products are taken in by a switch; none where no switch is on."""
    for name in SWITCHES:
        own, zero = (found.text(option, "") or "" for option in (name, f"{name}.enabled"))
        if own.lower() in ("true", "auto") or zero.lower() == "true":
            return name
    if found.habits.computes_in_16_bits and not any(name in found.options for name in SWITCHES):
        return SWITCHES[0]
    mixed = (found.text("mixed_precision") or "").lower()
    return mixed if mixed in SWITCHES else None
