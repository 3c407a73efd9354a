"""TRL: the configuration of `trl sft`, or of `trl dpo`, with accelerate's."""

from __future__ import annotations

from dataclasses import replace

from planner.inputs.catalog import Catalog
from planner.launch import hugging_face as family
from planner.launch.adapters import BASES, adapter_settings
from planner.launch.attention import named_kernel
from planner.launch.documents import yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.launch.said import Words
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.schema.preference import DPO
from planner.search.plan import Plan
from planner.search.search import Outcome

NAME = "trl"
FILE = "trl_{}.yaml"
"""Name of the file of a subcommand."""
TABLE = "trl_116.yaml"
SFT = "sft"
TILES = "log_probs_in_tiles"
AS_COMPUTED = "adapters_as_computed"
"""The engine option of adapters in 16 bits."""
NO_LOGITS = (
    "This release never makes the logits of all tokens (trl/trainer/sft_trainer.py:1142), which the plan counts: the "
    "peak is lower where they are at it. engine_options: [log_probs_in_tiles] counts what it does make."
)


def files(outcome: Outcome, catalog: Catalog) -> dict[str, str]:
    """The files of a plan. Raises InputError for what TRL has no key for."""
    plan = outcome.plan
    assert plan is not None
    family.refuse_untrained(plan, NAME, adapts=True)
    _refuse_other_adapters(plan)
    table, method = key_table(catalog, TABLE, SFT), DPO if settled(plan).task == DPO else SFT
    words = family.spoken(plan) | {"attention": named_kernel(plan, catalog, NAME)}
    if method == DPO:
        table = replace(table, keys=(*table.keys, *key_table(catalog, TABLE, DPO).keys))
        words |= _reference(plan)
    values = settings(plan, table, words, NAME, family.ALSO)
    values |= adapter_settings(plan, catalog, TABLE, NAME, every="all-linear") | optional(plan, table, NAME)
    whole = method == SFT and not {TILES, "fused_head"} & set(settled(plan).engine_options)
    remarks = (NO_LOGITS,) if whole else ()
    out = {
        FILE.format(method): yaml_document(outcome, table.engine, values, remarks),
        family.ACCELERATE: family.accelerate_config(outcome, catalog, NAME),
    }
    return out | ({family.ZERO: family.zero_config(outcome, catalog, NAME)} if family.kind(plan) == "zero" else {})


def _reference(plan: Plan) -> Words:
    """What `trl dpo` is told of its reference. Raises InputError for a loss without a reference, which it has not."""
    reference = settled(plan).reference
    if reference == "none":
        because = "DPOTrainer compares with a reference (trl 1.16.0 trainer/dpo_trainer.py:1323)"
        raise refuse(plan, f"{NAME} {DPO} has no loss without one", because, "dpo.reference: model", "dpo", "reference")
    return {"precomputed_reference": reference == "precomputed"}


def _refuse_other_adapters(plan: Plan) -> None:
    """Raise InputError where TRL trains adapters in another format than the plan counts.

    Those of a quantised base it casts to bf16, and peft makes all others fp32; FSDP2 and DeepSpeed cast them again.
    """
    adapter, narrow = settled(plan).adapter, plan.problem.engine.states.adapters == "as weights"
    if adapter is None or family.kind(plan) not in ("ddp", "alone") or (adapter.base_precision in BASES) == narrow:
        return
    if narrow:
        what, because = "adapters of a base that is not quantised are fp32", "peft casts them, and no key turns it off"
    else:
        what, because = "adapters of a quantised base are bf16", "trl 1.16.0 trainer/sft_trainer.py:908-911"
    attempt = f"engine_options {'without' if narrow else 'with'} {AS_COMPUTED}"
    raise refuse(plan, f"{NAME} has no word for it: {what}", because, attempt, "engine_options")
