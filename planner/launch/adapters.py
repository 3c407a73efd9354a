"""Low-rank adapters as settings: what is trained, on which matrices, and how the frozen base lies in memory."""

from __future__ import annotations

from dataclasses import replace

from planner.formulas.matrices import mlp_matrices
from planner.formulas.parameters import ALL_LINEAR, target_names
from planner.inputs.catalog import Catalog
from planner.launch.hugging_face import FORMATS, kind
from planner.launch.keyed import key_table, settings
from planner.launch.said import Words
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.schema.scenario import Adapter
from planner.search.plan import Plan

PART = "adapter"
"""The part of a table in catalogs/flags that adapters are written and read by."""
BASES: dict[str, tuple[int, bool | None]] = {"nf4": (4, True), "nf4-single": (4, False), "int8": (8, None)}
"""Bits in which bitsandbytes holds a frozen base, and whether its scales are quantised as well."""
VARIANTS = ("lora", "rslora", "dora")
OF_MEGATRON = "linear_"
"""Beginning of the names of modules that only Megatron has."""
ALWAYS = frozenset(("tuner", "adapter_rank"))
"""Words that a file says whatever the launcher's default is."""


def adapter_settings(
    plan: Plan, catalog: Catalog, table: str, launcher: str, *,
    tuner_of_4_bits: str = "lora", every: str | None = None, joined: bool = False,
) -> Words:  # fmt: skip
    """Keys and values of a plan's adapter; none where all weights are trained.

    tuner_of_4_bits: the launcher's name of adapters on a base in 4 bits; every: its word for all linear layers, none
    where a switch says them; joined: names stand in one text between commas. Raises InputError for a base, a variant or
    a target that the launcher has no key for.
    """
    adapter = settled(plan).adapter
    if adapter is None:
        return {}
    _refuse_unknown(plan, adapter, launcher)
    bits, twice = BASES.get(adapter.base_precision, (None, None))
    keys = key_table(catalog, table, PART)
    apart = "base_bits_8" in keys.spoken
    whole = ALL_LINEAR in adapter.targets
    words: Words = {
        "tuner": tuner_of_4_bits if bits == 4 else "lora",
        "adapter_rank": adapter.rank,
        "adapter_all": whole,
        "adapter_targets": ([every] if every is not None else None) if whole else list(adapter.targets),
        "adapter_dropout": adapter.dropout,
        "adapter_saved": [str(name) for name in adapter.modules_to_save],
        "adapter_dora": adapter.variant == "dora",
        "adapter_rslora": adapter.variant == "rslora",
        "base_bits": None if apart and bits == 8 else bits,
        "base_bits_8": bits == 8,
        "quantised_twice": twice,
        # Shards of one format are what FSDP and ZeRO-3 cut; bitsandbytes alone packs 4 bits into bytes.
        "base_storage": FORMATS[plan.problem.precision.id] if bits == 4 and _sharded(plan) else None,
    }
    if joined:
        for word in ("adapter_targets", "adapter_saved"):
            names = words[word]
            words[word] = ",".join(map(str, names)) if isinstance(names, list) and names else None
    said = tuple(replace(key, default=None) if key.says in ALWAYS else key for key in keys.keys)
    return settings(plan, replace(keys, keys=said), words, launcher, set())


def _sharded(plan: Plan) -> bool:
    """Are weights themselves cut into shards: by FSDP in each case, by ZeRO in its third stage."""
    return kind(plan) == "fsdp" or plan.layout["zero_stage"] == 3


def _refuse_unknown(plan: Plan, adapter: Adapter, launcher: str) -> None:
    """Raise InputError for what neither peft nor bitsandbytes, which these launchers train by, has a name for."""
    own = plan.problem.precision.id
    if adapter.base_precision not in (own, *BASES):
        raise refuse(
            plan, f"{launcher} has no key for a base in {adapter.base_precision}",
            f"it holds a frozen base in {own}, in which products are taken, or in {', '.join(BASES)}",
            f"adapter.base_precision: {own}", "adapter", "base_precision",
        )  # fmt: skip
    if adapter.base_precision == "int8" and _sharded(plan):
        raise refuse(
            plan, f"{launcher} does not shard a base in int8",
            "of bitsandbytes' formats only 4 bits are cut into shards (llamafactory 0.9.5 quantization.py:188)",
            "adapter.base_precision: nf4", "adapter", "base_precision",
        )  # fmt: skip
    if adapter.variant not in VARIANTS:
        raise refuse(
            plan, f"{launcher} has no key for {adapter.variant} adapters", f"it knows {', '.join(VARIANTS)}",
            "adapter.variant: lora", "adapter", "variant",
        )  # fmt: skip
    foreign = [name for name in adapter.targets if name.startswith(OF_MEGATRON)]
    if foreign:
        raise refuse(
            plan, f"{launcher} knows no module {', '.join(foreign)}",
            "these are Megatron's names, and it trains networks of transformers",
            "adapter.targets: [all-linear]", "adapter", "targets",
        )  # fmt: skip
    a = plan.problem.architecture
    if a.is_moe and set(target_names(a, adapter.targets)).intersection(mlp_matrices(a)):
        raise refuse(
            plan, f"{launcher} has no key for adapters on every expert, which the plan counts",
            "experts are parameters of three dimensions in transformers 5, and which of them peft reaches by a name "
            "differs from network to network",
            "adapter.targets: names of attention, such as [q_proj, v_proj]", "adapter", "targets",
        )  # fmt: skip
    if plan.problem.engine.autocast and plan.problem.engine.states.weight_bytes == 4:
        raise refuse(
            plan, f"{launcher} has no key for a base in fp32 under autocast",
            "it loads a frozen base in the format that it computes in",
            "engine_options: [autocast_16bit_weights]", "engine_options",
        )  # fmt: skip
