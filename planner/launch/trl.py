"""TRL: the configuration of `trl sft`, with accelerate's. Written only: its keys are read as TrainingArguments."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import hugging_face as family
from planner.launch.attention import named_kernel
from planner.launch.documents import yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.launch.settled import settled
from planner.search.search import Outcome

NAME = "trl"
FILE = "trl_sft.yaml"
TABLE = "trl_116.yaml"
NO_LOGITS = (
    "This release never makes the logits of all tokens (trl/trainer/sft_trainer.py:1142), which the plan counts: the "
    "peak is lower where they are at it. engine_options: [fused_head] counts the loss in chunks."
)


def files(outcome: Outcome, catalog: Catalog) -> dict[str, str]:
    """The files of a plan. Raises InputError for what TRL has no key for."""
    plan = outcome.plan
    assert plan is not None
    family.refuse_untrained(plan, NAME)
    table = key_table(catalog, TABLE, "sft")
    words = family.spoken(plan) | {"attention": named_kernel(plan, catalog, NAME)}
    values = settings(plan, table, words, NAME, family.ALSO) | optional(plan, table, NAME)
    remarks = () if "fused_head" in settled(plan).engine_options else (NO_LOGITS,)
    out = {
        FILE: yaml_document(outcome, table.engine, values, remarks),
        family.ACCELERATE: family.accelerate_config(outcome, catalog, NAME),
    }
    return out | ({family.ZERO: family.zero_config(outcome, catalog, NAME)} if family.kind(plan) == "zero" else {})
