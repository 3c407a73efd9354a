"""axolotl: its YAML (and the DeepSpeed file where that shards)."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import hugging_face as family
from planner.launch.adapters import adapter_settings
from planner.launch.attention import named_kernel
from planner.launch.documents import yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.search.search import Outcome

NAME = "axolotl"
FILE = "axolotl.yaml"
TABLE = "axolotl_019.yaml"
NO_ALPHA = "lora_alpha is yours to add: axolotl has no default and peft none for it (loaders/adapter.py:189)."


def files(outcome: Outcome, catalog: Catalog) -> dict[str, str]:
    """The files of a plan. Raises InputError for what the engine has no key for."""
    plan = outcome.plan
    assert plan is not None
    family.refuse_untrained(plan, NAME, adapts=True)
    adapts = settled(plan).adapter is not None
    words, sharding = family.spoken(plan), family.kind(plan)
    if words["weights_format"] != family.FORMATS["fp32"]:
        if sharding == "alone" and not adapts:
            # Without it embeddings, norms and routers are left in fp32, but for adapters (axolotl 0.19.0
            # loaders/model.py:440-492).
            words["attention"] = "flash_attention_2"
        if words["autocast"] == "no":
            raise refuse(
                plan, f"{NAME} has no word for 16-bit weights without autocast",
                "its schema takes bf16: true, false or auto, and true is autocast (core/builders/base.py:273-278)",
                "engine_options: [autocast_16bit_weights]", "engine_options",
            )  # fmt: skip
    if (kernel := named_kernel(plan, catalog, NAME)) is not None:
        words["attention"] = kernel
    if sharding == "fsdp" and words["optimizer"] == "adamw-8bit":
        raise refuse(
            plan, f"{NAME} has no bitsandbytes optimizer in 8 bits over FSDP2",
            "its schema refuses adamw_bnb_8bit there (axolotl 0.19.0 utils/schemas/validation.py:1249-1262)",
            "optimizer: adamw", "optimizer",
        )  # fmt: skip
    common, own = (key_table(catalog, TABLE, part) for part in ("common", sharding))
    values = settings(plan, common, words, NAME, family.ALSO | own.spoken)
    values |= settings(plan, own, words, NAME, family.ALSO | common.spoken)
    values |= adapter_settings(plan, catalog, TABLE, NAME, tuner_of_4_bits="qlora")
    values |= optional(plan, common, NAME)
    out = {FILE: yaml_document(outcome, common.engine, values, (NO_ALPHA,) if adapts else ())}
    if sharding == "zero":
        out[family.ZERO] = family.zero_config(outcome, catalog, NAME)
    return out
