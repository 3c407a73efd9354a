"""What a verl file says by leaving it out: what of the trainer stays on the GPU; and the size of scoring passes."""

from __future__ import annotations

from planner.errors import Place
from planner.launch.reading.found import Found

ACTOR = "actor_rollout_ref.actor"
REFERENCE = "actor_rollout_ref.ref.megatron.param_offload"


def say_what_stays(found: Found, *, megatron: bool) -> None:
    """Parts of the trainer that no line moves to the host, where the rollout engine beside them is known.

    Megatron's reference goes where the actor's weights go unless a line says otherwise.
    """
    words, own = found.words, "megatron" if megatron else "fsdp_config"
    switches = {"weights": f"{ACTOR}.{own}.param_offload", "optimizer": f"{ACTOR}.{own}.optimizer_offload"}
    parts = [part for part, name in switches.items() if not found.has(name)]
    moved = found.has(REFERENCE) if REFERENCE in found.options else "weights" not in parts
    parts += ["reference"] if megatron and words.get("reference") is True and not moved else []
    if not parts:
        return
    place = found.places.get("model", Place("?"))
    if words.get("rollout_tensor_parallel") is None or words.get("gpu_memory_utilization") is None:
        text = f"{' and '.join(parts)} stay on the GPU, not counted: no line says the rollout engine's size and memory"
        found.unread.append((place, text))
        return
    words["trainer_on_gpu"] = parts
    named = (found.options[name].place for name in switches.values() if name in found.options)
    found.places["trainer_on_gpu"] = next(named, place)


def say_scoring(found: Found) -> None:
    """Passes that take log-probabilities, where they are not as large as those of training."""
    packed = found.words.get("dynamic") is not False
    name, trained, word = (
        ("log_prob_max_token_len_per_gpu", "tokens_per_gpu", "log_prob_tokens")
        if packed
        else ("log_prob_micro_batch_size_per_gpu", "fixed_micro_batch_size", "log_prob_samples")
    )
    key = f"actor_rollout_ref.rollout.{name}"
    many = found.number(key)
    if many is not None and many != found.words.get(trained):
        found.say(word, many, key)
