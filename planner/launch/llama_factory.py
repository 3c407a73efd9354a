"""LLaMA-Factory: its YAML (and the DeepSpeed or accelerate file that shards)."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import hugging_face as family
from planner.launch.adapters import adapter_settings
from planner.launch.attention import named_kernel
from planner.launch.documents import yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.search.search import Outcome

NAME = "llama-factory"
FILE = "llama_factory.yaml"
TABLE = "llama_factory_095.yaml"


def files(outcome: Outcome, catalog: Catalog) -> dict[str, str]:
    """The files of a plan. Raises InputError for what the engine has no key for."""
    plan = outcome.plan
    assert plan is not None
    family.refuse_untrained(plan, NAME, adapts=True)
    words, sharding = family.spoken(plan), family.kind(plan)
    words["pure_16bit"] = sharding == "alone" and words["weights_format"] == family.FORMATS["bf16"]
    words["attention"] = named_kernel(plan, catalog, NAME)
    common, own = (key_table(catalog, TABLE, part) for part in ("common", sharding))
    values = settings(plan, common, words, NAME, family.ALSO | own.spoken)
    values |= settings(plan, own, words, NAME, family.ALSO | common.spoken)
    values |= adapter_settings(plan, catalog, TABLE, NAME, every="all", joined=True)
    values |= optional(plan, common, NAME)
    out = {FILE: yaml_document(outcome, common.engine, values)}
    if sharding == "zero":
        out[family.ZERO] = family.zero_config(outcome, catalog, NAME)
    elif sharding == "fsdp":
        out[family.ACCELERATE] = family.accelerate_config(outcome, catalog, NAME)
    return out
