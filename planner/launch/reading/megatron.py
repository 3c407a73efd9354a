"""Megatron's options, alone and in slime, as words: the way back of planner.launch.parallel and network."""

from __future__ import annotations

import re
from collections.abc import Mapping

from planner.inputs.catalog import Catalog
from planner.launch.megatron import TABLE
from planner.launch.network import VARIANT
from planner.launch.reading.found import Found
from planner.launch.reading.network import network_of, usual_width
from planner.launch.switches import OFFLOADED, OLDER, SWITCHES
from planner.schema.catalog import Architecture

SHAPE = (
    ("--num-layers", "num_hidden_layers"),
    ("--hidden-size", "hidden_size"),
    ("--ffn-hidden-size", "intermediate_size"),
    ("--num-attention-heads", "num_attention_heads"),
    ("--num-query-groups", "num_key_value_heads"),
    ("--vocab-size", "vocab_size"),
    ("--num-experts", "num_experts"),
    ("--kv-lora-rank", "kv_lora_rank"),
)
DEFAULT_DEGREES = (
    ("tensor_parallel", "--tensor-model-parallel-size"),
    ("pipeline_parallel", "--pipeline-model-parallel-size"),
    ("context_parallel", "--context-parallel-size"),
    ("expert_parallel", "--expert-model-parallel-size"),
)

ANOTHER_RUN = {
    "--use-megatron-fsdp": "Megatron-FSDP",
    "--use-custom-fsdp": "Megatron-FSDP",
    "--use-torch-fsdp2": "FSDP2 under Megatron",
    "--fp4-format": "training in fp4",
    "--hybrid-layer-pattern": "a network of unlike layers",
    "--hybrid-override-pattern": "a network of unlike layers",
    "--is-hybrid-model": "a network of unlike layers",
    "--experimental-attention-variant": "attention of another kind",
}
"""Switches of runs whose memory is not costed: a layout of the usual ones would be judged in their place."""
LINEAR = ("--experimental-attention-variant",)
"""Of these, what names linear attention that is costed, where it is a gated delta rule."""
NOT_COUNTED = {
    "--cpu-offloading-num-layers": "layers whose activations wait on the host",
    "--hybrid-context-parallel": "context ranks by the length of each sequence",
    "--moe-layer-recompute": "recomputed expert layers",
    "--enable-cuda-graph": "pools of CUDA graphs",
    "--external-cuda-graph": "pools of CUDA graphs",
    "--main-grads-dtype": "the format of gradients",
    "--main-params-dtype": "the format of master weights",
}
"""Settings that change memory and are read by no rule of ours, beside those that are an engine option."""

OF_ENDS = {
    "embedding_counts": "--account-for-embedding-in-pipeline-split",
    "loss_counts": "--account-for-loss-in-pipeline-split",
}


def say_megatron(found: Found, catalog: Catalog) -> None:
    """Words of Megatron's options."""
    known = catalog.flags(TABLE).flags
    _model(found, catalog)
    if "model" not in found.words:
        _own_network(found, catalog)
    for name, what in ANOTHER_RUN.items():
        counted = name in LINEAR and found.text(name) == VARIANT
        if found.has(name) and not _shards_nothing(found, name) and not counted:
            found.uncosted.append((found.options[name].place, f"{what} ({name}) is not costed"))
    for name, what in NOT_COUNTED.items():
        usual = known.get(name, {}).get("default")
        if found.has(name) and found.text(name) != str(usual):
            found.unread.append((found.options[name].place, f"{what} ({name} {found.text(name)}) not counted"))
    for word, name in DEFAULT_DEGREES:
        value = found.number(name, 1)
        if name not in found.options or found.options[name].known:
            found.say(word, value, name)
    experts = found.number("--num-experts")
    degree = found.number("--expert-tensor-parallel-size", found.number("--tensor-model-parallel-size", 1))
    found.say("expert_tensor_parallel", degree if experts else 1, "--expert-tensor-parallel-size")
    found.say("sequence_parallel", found.has("--sequence-parallel"), "--sequence-parallel")
    _stages(found)
    _recomputed(found)
    for word, name in (
        ("micro_batch_size", "--micro-batch-size"),
        ("global_batch_size", "--global-batch-size"),
        ("sequence_length", "--seq-length"),
    ):
        found.say(word, found.number(name), name)
    if "--micro-batch-size" not in found.options:
        found.say("micro_batch_size", 1)
    fp8 = "--fp8-format" in found.options
    precision = "fp8" if fp8 else "bf16" if found.has("--bf16") else "fp16" if found.has("--fp16") else "fp32"
    found.say("precision", precision, "--fp8-format", "--bf16", "--fp16")
    optimizer = found.text("--optimizer", "adam")
    sgd = "sgd" if found.real("--sgd-momentum", 0.9) == 0 else "sgd-momentum"
    found.say("optimizer", {"adam": "adamw", "sgd": sgd}.get(str(optimizer), optimizer), "--optimizer")
    found.say("zero_stage", int(found.has("--use-distributed-optimizer")), "--use-distributed-optimizer")
    found.say("optimizer_offload", found.has("--optimizer-cpu-offload"), "--optimizer-cpu-offload")
    offloaded = found.has(OFFLOADED.flags[0][0])
    found.say("activation_offload", offloaded, OFFLOADED.flags[0][0])
    order = "tp_pp_dp" if found.has("--use-tp-pp-dp-mapping") else "default"
    found.say("rank_order", order, "--use-tp-pp-dp-mapping")
    found.say("engine_options", _switched(found, known), "--cross-entropy-fusion-impl", "--attention-backend")


def _shards_nothing(found: Found, name: str) -> bool:
    """Whether a switch of FSDP leaves the state as the distributed optimizer has it."""
    return "fsdp" in name and found.text("--data-parallel-sharding-strategy") == "optim"


def _switched(found: Found, table: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Engine options whose flags are all there, or absent where that is their default and another one is there; the
    refused loss kernel, which has none of ours, by its own."""
    on = []
    for name, switch in SWITCHES.items():
        if not switch.flags or switch is OFFLOADED:
            continue
        if name == "bf16_moments" and found.text("--exp-avg-dtype") != "bf16":
            continue
        flags = [(OLDER[name] if OLDER.get(name) in found.options else name, value) for name, value in switch.flags]
        there = any(option in found.options for option, _ in flags)
        if there and all(_matches(found, option, value, table) for option, value in flags):
            on.append(name)
    if found.text("--cross-entropy-fusion-impl") == "te" and found.has("--cross-entropy-loss-fusion"):
        on = [name for name in on if name != "native_cross_entropy_fusion"] + ["te_cross_entropy_fusion"]
    if found.number("--num-experts") and not found.has("--moe-grouped-gemm"):
        on.append("sequential_experts")
    if (found.number("--mtp-num-layers") or 0) > 0:
        on.append("multi_token_prediction")
    return sorted(on)


def _matches(
    found: Found, option: str, value: str | tuple[str, ...] | None, table: Mapping[str, Mapping[str, object]]
) -> bool:
    if option not in found.options:
        return value is not None and table.get(option, {}).get("default") == value
    wanted = "" if value is None else " ".join(value) if isinstance(value, tuple) else value
    return found.options[option].text == wanted


def _model(found: Found, catalog: Catalog) -> None:
    """The catalog's model of this shape; with several, the one whose rotary base and scaling are written too.

    None has what these options never say: blocks side by side, a tower. Of those that still are the same network, the
    one that others are tuned from.
    """
    said = {field: found.number(name) for name, field in SHAPE if name in found.options}
    if not {"num_hidden_layers", "hidden_size"} <= set(said):
        return
    if "num_experts" not in said:
        said.setdefault("intermediate_size", usual_width(found, said["hidden_size"] or 1))
    ids: list[str] | None = None
    for size in (size for size in ("hidden_size", "num_hidden_layers", "intermediate_size") if size in said):
        ids = catalog.may_state("models", size, str(said[size]).__eq__, ids)
    models: list[Architecture] = [catalog.find("models", name) for name in ids or ()]
    alike = [model for model in models if all(getattr(model, field) == value for field, value in said.items())]
    alike = [model for model in alike if not (model.parallel_block or model.vision_parameters)]
    alike = [model for model in alike if model.is_moe == ("num_experts" in said)] or alike
    scaled = found.real("--rope-scaling-factor", 8.0) if found.has("--use-rope-scaling") else None
    base = found.number("--rotary-base", 10000)

    def strange(model: Architecture) -> tuple[bool, bool, int, str]:
        factor = model.rope_scaling.factor if model.rope_scaling and model.rope_scaling.rope_type == "llama3" else None
        return (model.rope_theta or 10000) != base, scaled != factor, catalog.extends("models", model.id), model.id

    if alike:
        found.say("model", min(alike, key=strange).id, "--num-layers")


def _own_network(found: Found, catalog: Catalog) -> None:
    """Say the network that the options state, where no model of the catalog has their shape."""
    found.network = network_of(found, catalog)
    if found.network is not None:
        found.say("model", found.network.id, "--num-layers")
        text = "no model of the catalog has this shape: costed as these options state it, Megatron's defaults elsewhere"
        found.unread.append((found.places["model"], text))


def _stages(found: Found) -> None:
    layers, stages = found.number("--num-layers"), found.number("--pipeline-model-parallel-size", 1) or 1
    chunks = found.number("--num-virtual-stages-per-pipeline-rank", 1) or 1
    each = found.number("--num-layers-per-virtual-pipeline-stage")
    if each and layers and layers % (stages * each) == 0:
        chunks = layers // (stages * each)
    first, last = (found.number(f"--decoder-{end}-pipeline-num-layers") for end in ("first", "last"))
    string = found.text("--pipeline-model-parallel-layout")
    split: list[int] | None = None
    if string is not None:
        parts = layout_layers(string)
        if len(parts) % stages == 0:
            chunks = len(parts) // stages
            split = [sum(parts[stage::stages]) for stage in range(stages)]
    elif (first is not None or last is not None) and layers is not None and stages > 1:
        rest = stages - (first is not None) - (last is not None)
        middle = (layers - (first or 0) - (last or 0)) // max(rest, 1)
        split = [first if first is not None else middle, *[middle] * (stages - 2), last if last is not None else middle]
    for word, name in OF_ENDS.items():
        found.say(word, found.has(name), name)
    found.say(
        "virtual_pipeline", chunks, "--num-virtual-stages-per-pipeline-rank", "--num-layers-per-virtual-pipeline-stage"
    )
    if split is not None:
        found.say(
            "layers_per_stage",
            split,
            "--pipeline-model-parallel-layout",
            "--decoder-first-pipeline-num-layers",
            "--decoder-last-pipeline-num-layers",
        )


def layout_layers(text: str) -> list[int]:
    """Decoder layers of each virtual stage of a layout string.

    >>> layout_layers("Et*7|(t*8|)*2t*7L")
    [7, 8, 8, 7]
    """
    plain = text.replace(",", "").replace(" ", "")
    while (match := re.search(r"\(([^()]*)\)\*(\d+)", plain)) is not None and int(match[2]) <= 1000:
        plain = plain[: match.start()] + match[1] * int(match[2]) + plain[match.end() :]
    return [sum(int(count or 1) for count in re.findall(r"t(?:\*(\d+))?", part)) for part in plain.split("|")]


def _recomputed(found: Found) -> None:
    granularity = found.text("--recompute-granularity")
    if granularity is None and found.has("--recompute-activations"):
        granularity = "selective"
    if granularity == "selective":
        modules = found.options.get("--recompute-modules")
        found.say("recompute_modules", list(modules.values) if modules else ["core_attn"], "--recompute-modules")
    found.say("recompute_granularity", granularity or "none", "--recompute-granularity")
    if granularity == "full":
        found.say("recompute_method", found.text("--recompute-method"), "--recompute-method")
        found.say("recompute_num_layers", found.number("--recompute-num-layers"), "--recompute-num-layers")
