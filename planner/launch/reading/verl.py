"""What a verl file says by leaving it out: what of the trainer stays on the GPU; and the size of scoring passes."""

from __future__ import annotations

from planner.errors import Place
from planner.launch.reading.actors import counts_critic
from planner.launch.reading.found import Found
from planner.launch.verl_critic import DECIDES, critics_key

ACTOR = "actor_rollout_ref.actor"
OF_ALL_RANKS = "ppo_micro_batch_size"
"""Samples of a micro-batch over all ranks, as releases before 0.3 were told; a rank's own is the setting of today."""
CRITICS_SIZES = ("ppo_max_token_len_per_gpu", "ppo_micro_batch_size_per_gpu")
NETWORK = "critic.model.path"
INHERITED = (NETWORK,)
"""What a critic's own default already says, or what no plan rests on."""
LOADED, IN_16_BITS = f"{ACTOR}.fsdp_config.model_dtype", "model_in_16bit"
"""Format in which FSDP's network is loaded, and the engine option of one of 16 bits."""
SPELT = {IN_16_BITS: ("16", "fp16", "float16", "bf16", "bfloat16"), "": ("32", "fp32", "float32", "null", "none", "~")}
"""Spellings of verl 0.9.1 utils/torch_dtypes.py; null is fp32 for what trains (engine/fsdp/transformer_impl.py:260)."""
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


def say_loaded(found: Found) -> None:
    """Weights that FSDP loads in 16 bits, in verl's other spellings of it; what is none of its formats is listed."""
    said, on = found.options.get(LOADED), found.words.get("engine_options")
    if said is None or not said.known or (isinstance(on, list) and IN_16_BITS in on):
        return
    if said.text.lower() in SPELT[IN_16_BITS]:
        found.switch_on(IN_16_BITS, LOADED)
        found.places["engine_options"] = said.place
    elif said.text.lower() not in SPELT[""]:
        found.note(said.place, f"{LOADED} {said.text} is none of verl's formats: costed as fp32")


def names_critic(found: Found) -> bool:
    """A critic that is named and counted: on shared GPUs, without adapters. Nothing said would mean one by default."""
    named = "algorithm.adv_estimator" in found.options or any(name.startswith("critic.") for name in found.options)
    return named and counts_critic(found)


def say_critic(found: Found, *, megatron: bool) -> None:
    """A critic that is laid out as the policy is costed, and what of it stays on the GPU; what differs is listed."""
    words, own = found.words, "critic.megatron" if megatron else "critic.fsdp"
    words["algorithm"] = "ppo"
    pairs = {each: name for name in found.options if name.endswith(DECIDES) and (each := critics_key(name)) is not None}
    pairs |= {f"critic.{name}": f"{ACTOR}.{name}" for name in CRITICS_SIZES}
    for critics, policys in pairs.items():
        said, its = found.options.get(critics), found.options.get(policys)
        if (
            critics == NETWORK
            and not megatron
            and said is not None
            and said.known
            and (its is None or said.text != its.text)
        ):
            found.say("critic_model", said.text, NETWORK)
            continue
        if said is not None and (its is None or said.text != its.text):
            found.note(said.place, f"{critics} {said.text} is costed as the policy's {its.text if its else 'own'}")
        elif said is None and its is not None and critics not in INHERITED:
            found.note(its.place, f"{critics} is not said: costed as {policys} {its.text}")
    if found.has(f"{own}.param_offload") and found.has(f"{own}.optimizer_offload"):
        return
    place = found.places.get("algorithm", found.places.get("model", Place("?")))
    if words.get("rollout_tensor_parallel") is None or words.get("gpu_memory_utilization") is None:
        found.note(place, "the critic stays on the GPU, not counted: no line says the rollout engine's size and memory")
        return
    stays = words.get("trainer_on_gpu")
    words["trainer_on_gpu"] = [*map(str, stays if isinstance(stays, list) else ()), "critic"]
    found.places.setdefault("trainer_on_gpu", place)


def say_micro_batch(found: Found, *, megatron: bool) -> None:
    """A rank's samples of a micro-batch where a line counts those of all ranks (workers/fsdp_workers.py of 0.2)."""
    key = f"{ACTOR}.{OF_ALL_RANKS}"
    whole = found.number(key) if found.options.get(key) is not None and found.text(key) != "null" else None
    if whole is None or found.words.get("fixed_micro_batch_size") is not None or found.words.get("dynamic") is True:
        return
    ranks, degrees = ranks_of(found), ("tensor_parallel", "pipeline_parallel", "context_parallel")
    for degree in degrees if megatron else degrees[2:]:
        each = found.words.get(degree)
        ranks = ranks // each if ranks is not None and isinstance(each, int) and each > 0 else ranks
    if ranks is None:
        found.unread.append((found.options[key].place, f"{key} is of all ranks, and no line says how many there are"))
    elif ranks > whole:
        text = f"{key} {whole} is of all ranks: fewer than one sample for each of {ranks}"
        found.unread.append((found.options[key].place, text))
    else:
        found.say("fixed_micro_batch_size", whole // ranks, key)


def ranks_of(found: Found) -> int | None:
    """GPUs that train, where lines say both nodes and GPUs of one."""
    gpus, nodes = found.words.get("gpus_per_node"), found.words.get("training_nodes")
    return gpus * nodes if isinstance(gpus, int) and isinstance(nodes, int) else None


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
