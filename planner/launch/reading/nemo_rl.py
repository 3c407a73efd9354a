"""What NeMo-RL's packs hold, whose files say tokens of a whole micro-batch, which context ranks share; its value model.

Source of the value model: NeMo-RL @7ea279ab algorithms/ppo.py:762-784, models/value/config.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from planner.errors import Place
from planner.launch.keyed import KeyTable, written
from planner.launch.nemo_rl_value import DECIDES, POLICY, VALUE, values_key
from planner.launch.reading.found import Found

KEYS = {
    "tokens_per_gpu": ("tokens_of_a_pack", "policy.sequence_packing.train_mb_tokens"),
    "log_prob_tokens": ("log_prob_tokens_of_a_pack", "policy.sequence_packing.logprob_mb_tokens"),
}


ASYNCHRONOUS = ("grpo.async_grpo.enabled", "ppo.async_ppo.enabled")
OF_PPO = ("ppo.", VALUE)
"""Beginnings of settings that a run with a value model has."""
EPOCHS, EPOCHS_OF_THE_BASE = "ppo.ppo_epochs", 4
"""Passes over a rollout that train both networks."""
UNPACKED = {f"{VALUE}sequence_packing.enabled": "false"}
"""What the value model's base says otherwise than the policy's."""


def say_when(found: Found) -> None:
    """Asynchronous where its own switch says so: vLLM's asynchronous engine and a corrected loss serve others too."""
    found.places.pop("asynchronous", None)
    found.say("asynchronous", any(name in found.options and found.has(name) for name in ASYNCHRONOUS), *ASYNCHRONOUS)


def say_value_model(found: Found, tables: Iterable[KeyTable]) -> None:
    """PPO: the value model is costed as the policy is, and what it is told otherwise is listed."""
    first = next((option for name, option in found.options.items() if name.startswith(OF_PPO)), None)
    if first is None:
        return
    found.say("algorithm", "ppo", first.name)
    epochs = found.number(EPOCHS) if EPOCHS in found.options else EPOCHS_OF_THE_BASE
    if epochs != 1:
        place = found.options[EPOCHS].place if EPOCHS in found.options else first.place
        found.note(place, f"{EPOCHS} {epochs}: the step is timed with one pass over a rollout")
    model, policys = found.options.get(f"{VALUE}model_name"), found.options.get(f"{POLICY}model_name")
    if model is not None and policys is not None and model.known and model.text != policys.text:
        found.say("critic_model", model.text, model.name)
    for key in (key for table in tables for key in table.keys):
        name = values_key(key.name)
        if name is None or not name.endswith(DECIDES):
            continue
        own, its = found.options.get(name), found.options.get(key.name)
        usual = written(key.default)
        said, other = (one.text.lower() if one is not None else usual for one in (own, its))
        said = UNPACKED.get(name, said) if own is None else said
        if said != other:
            place = next((one.place for one in (own, its) if one is not None), found.places.get("model", Place("?")))
            how = "" if own is not None else " by default"
            found.note(place, f"{name} {said}{how} is costed as the policy's {other}")


def say_packs(found: Found, log_prob_times: int) -> None:
    """Tokens a GPU of packed passes; scoring where it is not `log_prob_times` as large as training.

    What no line says the base takes from the longest sequence and the samples of a micro-batch.
    """
    words = found.words
    longest, samples = words.get("sequence_length"), words.get("fixed_micro_batch_size")
    scored, ranks = words.pop("log_prob_samples", None) or samples, words.get("context_parallel") or 1
    if words.get("dynamic") is False:
        found.words["log_prob_samples"] = None if scored == samples else scored
        return
    for (word, (whole, key)), usual in zip(KEYS.items(), (samples, scored), strict=True):
        pack = words.pop(whole, None)
        found.places.pop(whole, None)
        if pack is None and isinstance(longest, int) and isinstance(usual, int):
            pack = longest * usual
        if isinstance(pack, int) and isinstance(ranks, int) and pack >= ranks > 0:
            found.say(word, pack // ranks, key)
    trained = words.get("tokens_per_gpu")
    if isinstance(trained, int) and words.get("log_prob_tokens") == trained * log_prob_times:
        words.pop("log_prob_tokens")
        found.places.pop("log_prob_tokens", None)
