"""Words that follow from others, engine by engine's own units."""

from __future__ import annotations

from planner.errors import Place
from planner.launch.reading.actors import OF_ACTOR, counts_critic, say_like_the_actor
from planner.launch.reading.adapters import say_adapter, say_base
from planner.launch.reading.formats import say_formats
from planner.launch.reading.found import Found
from planner.launch.reading.methods import say_method
from planner.launch.reading.swift import LAUNCHER as SWIFT
from planner.launch.reading.swift import say_swift
from planner.launch.reading.verl import (
    names_critic,
    ranks_of,
    say_critic,
    say_loaded,
    say_micro_batch,
    say_scoring,
    say_what_stays,
)

FIRST_FSDP = ("fsdp", "fsdp_config.fsdp_sharding_strategy", "fsdp_config.sharding_strategy")
"""Settings of the first FSDP, which is costed as the second."""
VERL = {"megatron": "verl-megatron", "fsdp": "verl-fsdp1", "fsdp2": "verl-fsdp2"}
"""Engines of verl by their strategy."""
STRATEGY = "actor_rollout_ref.actor.strategy"
FAMILIES = ("deepspeed", "transformers", "fsdp2")
REPLICATED = "transformers-ddp"
"""Engine of a trainer whose GPUs all hold the whole state."""
ROLLS_OUT_BY = {"nemo-rl": ("grpo.", "ppo.", "distillation.", "policy.generation.")}
"""Beginnings of settings without one of which a launcher's run has no rollouts."""
OF_ROLLOUTS = ("rollout_batch_size", "n_samples_per_prompt", "response_length", "colocated", "asynchronous")
"""Words that a run without rollouts (sft, dpo) does not say, whatever their defaults."""
VALUE_MODELS = frozenset(("nemo-rl",))
"""Launchers whose reader says how the second network differs from the policy."""
CRITICS = frozenset(("gae", "ppo"))
"""Estimators of advantages that take a second network."""
DEGREES_APART = ("tensor_parallel_size", "context_parallel_size", "sequence_parallel_degree", "expert_parallel_size")
"""Degrees of axolotl beside dp_shard_size, which FSDP2 has no words for here."""
STAGES = {"torchtune": 0, "torchtune-fsdp": 3, "fsdp2": 3, "torchtitan": 3, "transformers": 0, "transformers-ddp": 0}
"""ZeRO stage of engines whose files need not say it."""

OTHER_NAMES = {
    "precision": {"e4m3": "fp8", "hybrid": "fp8"},
    "optimizer": {"dist_muon": "muon", "adaptive_muon": "muon"},
}
"""Values of Megatron that are one format or optimizer to a plan."""
RECOMPUTED_BY_FSDP = ("fsdp_config.activation_checkpointing", "fsdp_config.fsdp_activation_checkpointing")
"""Switches of FSDP's own recomputation, instead of a Trainer's."""


def settle(found: Found) -> None:
    """Words that follow from others, engine by engine's own units."""
    _without_rollouts(found)
    if found.launcher == "verl":
        _as_verl(found)
    _of_critics(found)
    _of_first_fsdp(found)
    for name in [name for name in RECOMPUTED_BY_FSDP if name in found.options and found.has(name)]:
        found.say("all_recomputed", True, name)
    _count_copies(found)
    _of_degrees_apart(found)
    if found.words.get("zero_stage") == -1:
        found.words["zero_stage"] = None
        found.assumed["layout.zero_stage"] = "no line says the ZeRO stage"
    if "local_batch" in found.words:
        _of_local_batch(found)
    if found.launcher == SWIFT:
        say_swift(found)
    say_method(found)
    say_adapter(found)
    autocast = say_formats(found)
    say_base(found)
    _switch(found, autocast)
    _of_shards(found)
    _share_out(found)
    if found.words.get("schedule") == "1f1b" or found.words.get("pipeline_parallel", 1) == 1:
        found.words.pop("schedule", None)


def _without_rollouts(found: Found) -> None:
    """A run without rollouts says no word of them, whatever its launcher's defaults."""
    of_rollouts = ROLLS_OUT_BY.get(found.launcher, ("",))
    if not any(name.startswith(of_rollouts) for name in found.options):
        for word in OF_ROLLOUTS:
            found.words.pop(word, None)


def _as_verl(found: Found) -> None:
    """verl's trainers: where rollouts are made, micro-batches, what stays on the GPU, what scoring holds."""
    words, megatron = found.words, found.engine == VERL["megatron"]
    for name, told in (("model_engine", ("dp", "megatron")), (STRATEGY, tuple(VERL))):
        trainer = found.text(name)
        if trainer is not None and trainer not in told:
            found.unread.append((found.options[name].place, f"{trainer} is costed as FSDP2 is"))
    words["colocated"] = not words.get("generating_nodes") and words.get("asynchronous") is not True
    if not megatron:
        say_loaded(found)
    if not megatron and words.get("dynamic") is False:
        found.switch_on("fixed_micro_batches", "dynamic")
    found.padded = words.get("dynamic") is False and found.has("actor_rollout_ref.model.use_remove_padding")
    say_micro_batch(found, megatron=megatron)
    if words["colocated"]:
        say_what_stays(found, megatron=megatron)
    say_scoring(found)


def _of_critics(found: Found) -> None:
    """A second network that estimates advantages: said where it is counted, else listed."""
    if found.words.get("algorithm") not in CRITICS or found.words.get("rollout_batch_size") is None:
        return
    if found.launcher == "verl" and names_critic(found):
        say_critic(found, megatron=found.engine == VERL["megatron"])
        return
    if found.launcher in VALUE_MODELS and counts_critic(found):
        return
    if found.launcher in OF_ACTOR and counts_critic(found):
        say_like_the_actor(found)
        return
    found.words["algorithm"] = "gae"
    place = found.places.get("algorithm", found.places.get("model", Place("?")))
    found.unread.append((place, "the critic of PPO is not counted: costed as if advantages came from the group"))


def _of_first_fsdp(found: Found) -> None:
    first = next((found.options[name] for name in FIRST_FSDP if name in found.options and found.has(name)), None)
    if found.engine == FAMILIES[2] and first is not None and "fsdp_version" not in found.options:
        found.unread.append((first.place, "FSDP of the first kind is costed as FSDP2 is"))


def _of_degrees_apart(found: Found) -> None:
    """Ranks of degrees that are not costed, over which weights, tokens or experts lie otherwise than over shards."""
    words = found.words
    for name in [name for name in DEGREES_APART if name in found.options and (found.number(name) or 1) > 1]:
        option, many, shards = found.options[name], found.number(name), words.get("shard_ranks")
        found.uncosted.append((option.place, f"{name} {option.text} is not costed"))
        words["shard_ranks"] = shards * many if isinstance(shards, int) and many else shards


def _of_local_batch(found: Found) -> None:
    """torchtitan's: samples of a rank, layers of a chunk, copies of the shards, what is kept."""
    words = found.words
    local, staged = words.get("local_batch"), words.get("pipeline_parallel", 1) != 1
    if not staged and local is not None:
        words["micro_batch_size"] = local
        found.places["micro_batch_size"] = found.places.get("local_batch", Place("?"))
    chunk, stages = words.get("layers_per_chunk"), words.get("pipeline_parallel")
    if isinstance(chunk, int) and isinstance(stages, int):
        words["chunk_layers"] = chunk * stages
    if words.get("global_batch_size") == -1:  # configs.py: one local batch of each rank
        words["global_batch_size"] = None
        if not staged:
            words["gradient_accumulation"] = 1
    copies, shards = words.get("replicas"), words.get("data_parallel")
    if isinstance(copies, int) and isinstance(shards, int) and copies > 1:
        words["data_parallel"] = copies * shards
        found.switch_on("hybrid_sharding", "replicas")
    text = " ".join(found.options)
    modes = [mode for mode in ("full", "selective", "none") if f"activation-checkpoint:{mode}" in text]
    words["all_recomputed"] = "full" in modes
    words["recompute_modules"] = ["op"] if "selective" in modes else []


def _switch(found: Found, autocast: str | None) -> None:
    """Engine options that words of their own say, and values that are one to a plan under several names."""
    words = found.words
    if autocast is not None:
        found.switch_on(autocast, "precision")
    for word, names in OTHER_NAMES.items():
        if str(words.get(word)) in names:
            words[word] = names[str(words[word])]
    if words.get("fused_loss") is True:
        found.switch_on("native_cross_entropy_fusion", "fused_loss")
    if words.get("parameters_offloaded") is True:
        found.switch_on("parameter_offload", "parameters_offloaded")


def _of_shards(found: Found) -> None:
    """The ZeRO stage of engines that say it otherwise, or need not."""
    words = found.words
    if "reshard" in words:
        words["zero_stage"] = 3 if words.pop("reshard") else 2
        if "reshard" in found.places:
            found.places["zero_stage"] = found.places.pop("reshard")
    if "zero_stage" not in words and found.engine in STAGES:
        words["zero_stage"] = STAGES[found.engine]


def _share_out(found: Found) -> None:
    """GPUs that train and those that generate, from nodes and engines."""
    words = found.words
    whole, apart, each = words.get("all_nodes"), words.get("generating_nodes"), words.get("gpus_per_node")
    part = words.get("generating_gpus_per_node")
    if whole == apart == 1 and words.get("colocated") is False and isinstance(each, int) and isinstance(part, int):
        words["num_gpus"] = each - part  # one node whose GPUs are shared out
        words["generating_gpus"] = part
    elif isinstance(whole, int):
        beside = apart if words.get("colocated") is False and isinstance(apart, int) else 0
        words["training_nodes"] = whole - beside
        found.places["training_nodes"] = found.places.get("all_nodes", Place("?"))
    engines, wide = words.get("rollout_engines"), words.get("rollout_tensor_parallel")
    nodes, each = words.get("generating_nodes"), part or each
    if words.get("colocated") is not True and isinstance(engines, int) and isinstance(wide, int):
        words["generating_gpus"] = engines * wide
    elif isinstance(nodes, int) and nodes and isinstance(each, int) and "generating_gpus" not in words:
        words["generating_gpus"] = nodes * each
    if words.get("num_gpus") is None and words.get("shard_ranks") is not None:
        words["num_gpus"] = words["shard_ranks"]
        found.places["num_gpus"] = found.places.get("shard_ranks", Place("?"))


def _count_copies(found: Found) -> None:
    """Hybrid sharding where a file says it: copies of the state, the ranks of one copy, or both."""
    words = found.words
    copies, each = words.get("state_copies"), words.get("ranks_of_a_copy") or words.get("shard_ranks")
    several = isinstance(copies, int) and copies > 1
    if found.launcher == "verl":
        ranks = ranks_of(found)
        several = isinstance(each, int) and ranks is not None and 0 < each < ranks
    if not several:
        return
    found.switch_on("hybrid_sharding", "state_copies" if copies is not None else "ranks_of_a_copy")
    if isinstance(copies, int) and isinstance(each, int):
        words["shard_ranks"] = copies * each
