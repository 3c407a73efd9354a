"""What NeMo-RL's packs hold: its files say tokens of a whole micro-batch, which context ranks share."""

from __future__ import annotations

from planner.launch.reading.found import Found

KEYS = {
    "tokens_per_gpu": ("tokens_of_a_pack", "policy.sequence_packing.train_mb_tokens"),
    "log_prob_tokens": ("log_prob_tokens_of_a_pack", "policy.sequence_packing.logprob_mb_tokens"),
}


ASYNCHRONOUS = "grpo.async_grpo.enabled"


def say_when(found: Found) -> None:
    """Asynchronous where its own switch says so: vLLM's asynchronous engine and a corrected loss serve others too."""
    found.places.pop("asynchronous", None)
    found.say("asynchronous", ASYNCHRONOUS in found.options and found.has(ASYNCHRONOUS), ASYNCHRONOUS)


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
