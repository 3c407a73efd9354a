"""Mistakes that engines take without a word, or refuse late; each names who made it or where the engine says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from planner.errors import Place
from planner.inputs.catalog import Catalog
from planner.launch.reading.found import Found
from planner.launch.reading.scenario import known_model


@dataclass(frozen=True)
class Finding:
    """One thing wrong, or worth knowing, at a line."""

    severity: str
    """error: refused, or another run than meant; warning: costs memory or time; note."""
    rule: str
    text: str
    where: Place
    fix: tuple[str, str] | None = None
    """(words on that line, words instead)."""


def traps(found: Found, catalog: Catalog) -> Iterator[Finding]:
    """All traps of a file's engine."""
    for trap in TRAPS.get(found.launcher, ()):
        yield from trap(found)
    if found.launcher in OF_MEGATRON:
        yield from _network(found, catalog)


def _at(found: Found, name: str) -> Place:
    return found.options[name].place


def _megatron(found: Found) -> Iterator[Finding]:
    options = found.options
    if found.text("--cross-entropy-fusion-impl") == "te" and found.has("--cross-entropy-loss-fusion"):
        yield Finding(
            "error",
            "refused_loss_kernel",
            "Megatron-core 0.18.2 and later refuse Transformer Engine's cross-entropy (arguments.py:1643)",
            _at(found, "--cross-entropy-fusion-impl"),
            ("--cross-entropy-fusion-impl te", "--cross-entropy-fusion-impl native"),
        )
    if found.has("--sequence-parallel") and found.words.get("tensor_parallel") == 1:
        text = "--sequence-parallel without tensor parallelism is switched off with a warning (arguments.py:1390)"
        yield Finding("note", "idle_sequence_parallel", text, _at(found, "--sequence-parallel"))
    if found.text("--recompute-granularity") == "full":
        missing = [name for name in ("--recompute-method", "--recompute-num-layers") if name not in options]
        if missing:
            text = f"full recomputation needs {' and '.join(missing)} (transformer_config.py, Megatron-LM issue 1487)"
            yield Finding("error", "incomplete_recomputation", text, _at(found, "--recompute-granularity"))
    if "--step-batch-size-schedule" in options and "--global-batch-size" in options:
        text = "a schedule of batch sizes excludes --global-batch-size (arguments.py:680)"
        yield Finding("error", "two_batch_sizes", text, _at(found, "--global-batch-size"))
    schedule = options.get("--step-batch-size-schedule")
    if schedule is not None and len(schedule.values) > 1:
        text = "the array is expanded without quotes, so that the schedule becomes several words"
        yield Finding("error", "unquoted_array", text, _at(found, "--step-batch-size-schedule"))


def _network(found: Found, catalog: Catalog) -> Iterator[Finding]:
    """A network other than the checkpoint's: Megatron alone never notices."""
    model = known_model(str(found.words.get("model")), catalog)
    if model is None:
        return
    if model.is_mla and "--multi-latent-attention" in found.options and "--qk-layernorm" not in found.options:
        text = f"without --qk-layernorm Megatron builds {model.id} without the norms of its latents: another network"
        yield Finding("error", "missing_norms", text, _at(found, "--multi-latent-attention"))
    base = found.number("--rotary-base", 10000)
    if model.rope_theta is not None and model.learned_positions is None and base != model.rope_theta:
        name = "--rotary-base" if "--rotary-base" in found.options else "--num-layers"
        text = f"--rotary-base is {base}; the configuration of {model.id} says {model.rope_theta:g}"
        old = found.options["--rotary-base"].text if "--rotary-base" in found.options else None
        fix = (f"--rotary-base {old}", f"--rotary-base {model.rope_theta:.0f}") if old is not None else None
        yield Finding("warning", "other_rotary_base", text, _at(found, name), fix)
    written = found.real("--norm-epsilon", 1e-5)
    if model.norm_epsilon is not None and written is not None and abs(written - model.norm_epsilon) > 1e-12:
        name = "--norm-epsilon" if "--norm-epsilon" in found.options else "--num-layers"
        text = f"--norm-epsilon is {written:g}; the configuration of {model.id} says {model.norm_epsilon:g}"
        yield Finding("warning", "other_norm_epsilon", text, _at(found, name))


def _slime(found: Found) -> Iterator[Finding]:
    words = found.words
    tokens, context = found.number("--max-tokens-per-gpu"), words.get("context_parallel")
    if tokens is not None and not found.has("--use-dynamic-batch-size"):
        text = "--max-tokens-per-gpu does nothing without --use-dynamic-batch-size"
        yield Finding("warning", "idle_token_cap", text, _at(found, "--max-tokens-per-gpu"))
    longest = found.number("--rollout-max-context-len") or found.number("--rollout-max-response-len")
    if tokens is not None and longest is not None and isinstance(context, int) and tokens * context < longest:
        text = (
            f"{tokens} tokens a GPU times context parallelism {context} are fewer than a sample's {longest}: a long "
            "sample gets a micro-batch of its own above the cap, which then bounds nothing (slime issues 1839, 1237)"
        )
        yield Finding("warning", "cap_below_sample", text, _at(found, "--max-tokens-per-gpu"))
    if found.has("--use-kl-loss") and found.real("--kl-loss-coef") == 0:
        text = "a reference is loaded and run for a KL term whose coefficient is 0"
        yield Finding("warning", "idle_reference", text, _at(found, "--use-kl-loss"))
    batch, prompts, samples = (
        found.number(name) for name in ("--global-batch-size", "--rollout-batch-size", "--n-samples-per-prompt")
    )
    steps = found.number("--num-steps-per-rollout")
    if batch and prompts and samples and steps and batch * steps != prompts * samples:
        text = f"{prompts} prompts of {samples} samples are not {steps} steps of {batch}: slime refuses it"
        yield Finding("error", "unequal_samples", text, _at(found, "--global-batch-size"))
    each = found.number("--actor-num-gpus-per-node", 8)
    if found.has("--colocate") and each != 8 and "--num-gpus-per-node" not in found.options:
        text = f"slime counts 8 GPUs a node for its rollout engines; write --num-gpus-per-node {each}"
        yield Finding("warning", "gpus_of_a_node", text, _at(found, "--colocate"))


def _verl(found: Found) -> Iterator[Finding]:
    words = found.words
    batch, mini = words.get("rollout_batch_size"), words.get("prompts_per_step")
    if isinstance(batch, int) and isinstance(mini, int) and mini > batch > 0:
        name = "actor_rollout_ref.actor.ppo_mini_batch_size"
        where = found.places.get("prompts_per_step", found.places.get("rollout_batch_size", Place("?")))
        text = f"{name} is {mini} prompts and a rollout has {batch}; unchecked with dynamic batches"
        yield Finding("error", "mini_batch_above_rollout", text, where)
    tokens, context = words.get("tokens_per_gpu"), words.get("context_parallel", 1)
    longest = sum(value for word in ("prompt_length", "response_length") if isinstance(value := words.get(word), int))
    if words.get("dynamic") is True and isinstance(tokens, int) and isinstance(context, int):
        if tokens * context < longest:
            where = found.places.get("tokens_per_gpu", found.places.get("dynamic", Place("?")))
            text = f"{tokens} tokens a GPU times {context} are fewer than a sample's {longest}"
            yield Finding("error", "cap_below_sample", text, where)
    elif words.get("dynamic") is not True:
        name = "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu"
        if name not in found.options and "actor_rollout_ref.actor.ppo_micro_batch_size" not in found.options:
            where = found.places.get("model", Place("?"))
            yield Finding("error", "no_micro_batch", f"verl wants use_dynamic_bsz or {name}", where)


UNFROZEN = "actor_rollout_ref.actor.freeze_vision_tower"
"""A setting that verl 0.9.1 knows (workers/config/actor.py:161) and nothing in it reads."""


def _verl_tower(found: Found) -> Iterator[Finding]:
    if found.has(UNFROZEN):
        text = (
            f"verl 0.9.1 reads {UNFROZEN} nowhere: the tower is trained, and counted so. Releases up to 0.7 froze it "
            "under FSDP (workers/fsdp_workers.py:466 of v0.7.0): --set frozen=[vision_tower,projector]"
        )
        yield Finding("warning", "tower_not_frozen", text, _at(found, UNFROZEN))


def _deepspeed(found: Found) -> Iterator[Finding]:
    whole, micro, steps = (
        found.number(name)
        for name in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    )
    if whole and micro and steps and whole % (micro * steps):
        text = f"train_batch_size {whole} is no multiple of {micro} x {steps}: DeepSpeed refuses any world size"
        yield Finding("error", "unequal_batch", text, _at(found, "train_batch_size"))
    known = ("zero_optimization", "zero_allow_untested_optimizer", "bf16", "fp16", "optimizer", "scheduler")
    for option in found.options.values():
        top = option.name.partition(".")[0]
        if top not in known and top.startswith("zero_opt"):
            text = f"DeepSpeed does not know {top} and drops it in silence; did you mean zero_optimization?"
            yield Finding("error", "unknown_setting", text, option.place, (top, "zero_optimization"))
    if any(name.startswith("zero_optimization.offload_param") for name in found.options):
        stage = found.number("zero_optimization.stage", 0)
        if stage != 3:
            name = next(name for name in found.options if name.startswith("zero_optimization.offload_param"))
            text = f"offload_param does nothing at stage {stage}"
            yield Finding("warning", "idle_offload", text, _at(found, name))


NAMES_OF_TARGETS = ("lora_target_modules", "lora_target_parameters", "lora_model_dir")
"""Settings of axolotl that name adapted matrices, one by one or by an adapter that is there."""


def _axolotl(found: Found) -> Iterator[Finding]:
    """What its schema refuses of bases in few bits, and what its loader then leaves whole."""
    method = (found.text("adapter") or "null").lower()
    four, eight = (found.has(name) for name in ("load_in_4bit", "load_in_8bit"))
    asked = "load_in_8bit" if eight else "load_in_4bit"
    if method == "null" and (four or eight):
        text = f"{asked} without adapter is refused (axolotl 0.19.0 utils/schemas/peft.py:181-188)"
        yield Finding("error", "refused_base", text, _at(found, asked))
    elif method == "qlora" and (eight or not four):
        text = "qlora wants load_in_4bit, and no load_in_8bit (axolotl 0.19.0 utils/schemas/peft.py:216-223)"
        yield Finding("error", "refused_base", text, _at(found, asked if eight else "adapter"))
    elif method == "lora" and four and not eight:
        text = (
            "load_in_4bit quantises under adapter: qlora alone (axolotl 0.19.0 loaders/model.py:801): the base stays "
            "whole, and peft's preparation makes it fp32"
        )
        yield Finding("error", "base_left_whole", text, _at(found, "adapter"), ("lora", "qlora"))
    named = found.has("lora_target_linear") or any(name in found.options for name in NAMES_OF_TARGETS)
    if method in ("lora", "qlora") and not named:
        text = "no line names the adapted matrices, and axolotl has no default: peft refuses an empty list"
        yield Finding("error", "no_targets", text, _at(found, "adapter"))


TRAPS: dict[str, tuple[Callable[[Found], Iterator[Finding]], ...]] = {
    "megatron": (_megatron,),
    "slime": (_megatron, _slime),
    "verl": (_verl, _verl_tower),
    "deepspeed": (_deepspeed,),
    "axolotl": (_axolotl,),
}
OF_MEGATRON = frozenset(("megatron", "slime"))
"""Launchers whose files state the network's shape in Megatron's options."""
