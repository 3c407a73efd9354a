"""torchtune's configurations: adapters by the name of a network's builder, and what of a recipe is not costed."""

from __future__ import annotations

from planner.launch.reading.found import Found

LAUNCHER = "torchtune"
NOTHING = "no optimizer: it trains nothing"
ONE_GPU = "single_device"
"""In the name of a configuration whose recipe takes one GPU (recipes/*_single_device.py); others shard by FSDP2."""
ENGINES = {True: "torchtune", False: "torchtune-fsdp"}
BUILDER, OPTIMIZER, LOSS = "model._component_", "optimizer._component_", "loss._component_"
NEXT_TOKEN = ("LinearCrossEntropyLoss", "CEWithChunkedOutputLoss", "CrossEntropyLoss")
PREFIXES = ("qlora_", "lora_")
IN_ATTENTION = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "output_proj": "o_proj"}
"""torchtune's names of attention's matrices, and Hugging Face's."""
IN_MLP = ("gate_proj", "up_proj", "down_proj")
SHARDED_OTHERWISE = ("tensor_parallel_dim", "context_parallel_dim", "data_parallel_replicate_dim")
"""Degrees above 1 that are not costed."""
ON = ("fsdp_cpu_offload", "model.apply_lora_to_output")
"""Switches that are not costed."""
ANOTHER = ("quantizer", "fake_quant_enabled_after_n_steps", "teacher_model")
"""Sections and settings of recipes that train otherwise: quantisation-aware, distilling."""


def one_gpu(path: str) -> bool:
    """Whether a configuration's name says that its recipe takes one GPU."""
    return ONE_GPU in path.rpartition("/")[2]


def say_torchtune(found: Found) -> None:
    """Say the adapter and the machines; list what makes another run than any that is costed."""
    options, words = found.options, found.words
    _say_adapter(found)
    first = next(iter(options.values()))
    inside = next((one for name, one in options.items() if name.endswith(f".{LOSS}")), None)
    if OPTIMIZER not in options:
        text = f"{_last(inside.text)} is not costed: it is not the next token's loss" if inside is not None else NOTHING
        found.uncosted.append(((inside or first).place, text))
        return
    if found.engine == ENGINES[True]:
        words["num_gpus"] = 1
        found.assumed["cluster.num_gpus"] = f"1: its name says {ONE_GPU}"
    loss = options.get(LOSS)
    if loss is None or _last(loss.text) not in NEXT_TOKEN:
        what = _last(loss.text) if loss is not None else "no loss"
        found.uncosted.append(((loss or first).place, f"{what} is not costed: it is not the next token's loss"))
    for name in SHARDED_OTHERWISE:
        if (found.number(name) or 1) > 1:
            found.uncosted.append((options[name].place, f"{name} {options[name].text} is not costed"))
    other = next((one for name, one in options.items() if name.partition(".")[0] in ANOTHER), None)
    if other is not None:
        found.uncosted.append((other.place, f"{other.name.partition('.')[0]} is not costed: it trains otherwise"))
    for name in ON:
        if name in options and found.has(name):
            found.uncosted.append((options[name].place, f"{name} is not costed"))
    if words.get("activation_offload") is False:
        del words["activation_offload"]


def _last(component: str) -> str:
    """The class or function of a component's dotted path."""
    return component.rpartition(".")[2]


def _say_adapter(found: Found) -> None:
    """The adapted matrices of a builder whose name begins with one of PREFIXES; others train every weight."""
    built = _last(found.text(BUILDER) or "")
    prefix = next((each for each in PREFIXES if built.startswith(each)), None)
    found.words["tuner"] = prefix.rstrip("_") if prefix is not None else "full"
    if prefix is None:
        return
    found.places["tuner"] = found.options[BUILDER].place
    named = found.options.get("model.lora_attn_modules")
    targets = [IN_ATTENTION.get(name, name) for name in (named.values if named is not None else ())]
    found.words["adapter_targets"] = [*targets, *IN_MLP] if found.text("model.apply_lora_to_mlp") == "true" else targets
