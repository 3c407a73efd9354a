"""Words of slime's own options, beside those of its Megatron."""

from __future__ import annotations

from collections.abc import Sequence

from planner.launch.reading.found import Found
from planner.launch.reading.words import Word

SHARE = 0.85
"""Of a GPU's memory, where no line says how much SGLang takes: about what it chooses on 80 GB (srt/server_args.py)."""
ESTIMATOR, OF_ROLES = "--advantage-estimator", "--megatron-config-path"
ONE_GPU = 1
"""GPUs of a rollout engine where no line says how many (slime/utils/arguments.py, --rollout-num-gpus-per-engine)."""


def say_slime(found: Found, words: Sequence[Word]) -> None:
    """Say what rolls out, and how samples are packed."""
    found.words["zero_stage"] = 1
    for word, name in (
        ("rollout_batch_size", "--rollout-batch-size"),
        ("n_samples_per_prompt", "--n-samples-per-prompt"),
        ("steps_per_rollout", "--num-steps-per-rollout"),
        ("prompt_length", "--rollout-max-prompt-len"),
        ("response_length", "--rollout-max-response-len"),
        ("sequence_length", "--rollout-max-context-len"),
        ("rollout_tensor_parallel", "--rollout-num-gpus-per-engine"),
        ("rollout_max_concurrency", "--sglang-max-running-requests"),
        ("log_prob_tokens", "--log-probs-max-tokens-per-gpu"),
        ("generating_gpus", "--rollout-num-gpus"),
        ("tokens_per_gpu", "--max-tokens-per-gpu"),
    ):
        value = found.number(name, ONE_GPU if name == "--rollout-num-gpus-per-engine" else None)
        if value is not None or name == "--rollout-max-context-len":
            found.say(word, value, name)
    share = found.real("--sglang-mem-fraction-static")
    if share is not None:
        found.say("gpu_memory_utilization", share, "--sglang-mem-fraction-static")
    elif found.words.get("rollout_tensor_parallel") is not None:
        found.words["gpu_memory_utilization"] = SHARE
        found.assumed["rl.rollout.gpu_memory_utilization"] = f"{SHARE}: SGLang chooses it by the GPU's memory"
    found.say("dynamic", found.has("--use-dynamic-batch-size"), "--use-dynamic-batch-size")
    found.say("colocated", found.has("--colocate"), "--colocate")
    if found.has("--sglang-disable-cuda-graph"):
        found.say("eager", True, "--sglang-disable-cuda-graph")
    found.say("reference", found.has("--use-kl-loss"), "--use-kl-loss")
    found.say("asynchronous", any(word.text.endswith("train_async.py") for word in words))
    if found.words["colocated"]:
        found.words.pop("generating_gpus", None)
    _say_critic(found)
    bf16 = "fp16" if found.has("--fp16") else "fp8" if "--fp8-format" in found.options else "bf16"
    found.say("precision", bf16, "--fp8-format", "--bf16", "--fp16")  # slime trains in bf16 unless told otherwise


def _say_critic(found: Found) -> None:
    """A critic on the actor's GPUs is costed as the actor is; settings of its own are in a file that is not read."""
    if found.text(ESTIMATOR) != "ppo":
        return
    place = found.options[ESTIMATOR].place
    if found.words["colocated"] is not True:
        found.unread.append((place, "the critic of PPO is not counted beside rollouts on GPUs of their own"))
        return
    found.say("algorithm", "ppo", ESTIMATOR)
    if OF_ROLES in found.options:
        place = found.options[OF_ROLES].place
        found.unread.append((place, "the critic's own settings are not read: it is costed as the actor"))
