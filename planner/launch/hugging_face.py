"""Files that the Hugging Face family shares: TrainingArguments, and configurations of DeepSpeed and accelerate."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch.attention import named_kernel
from planner.launch.documents import json_document, yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.launch.said import Words, said
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.problem.reference import sequences_together
from planner.search.plan import Plan
from planner.search.search import Outcome

TABLE = "hf_trainer_523.yaml"
ARGUMENTS, ZERO, ACCELERATE = "training_arguments.yaml", "ds_config.json", "accelerate.yaml"
ALSO = {"recompute_granularity", "optimizer_offload", "optimizer", "precision", "adapter", "frozen"}
"""Said by TrainingArguments, or by a trainer's own file, beside the file at hand."""
ADAPTS = ("axolotl", "llama-factory", "trl")
"""Launchers whose files say adapters."""
FREEZES = ("axolotl", "llama-factory")
"""Launchers whose files say what of a vision tower is frozen."""
FP32_ADAMW = ("adamw-no-master",)
"""Optimizers that are torch's AdamW where fp32 is trained: its moments are made like weights (optim/adam.py:178)."""
FORMATS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""Precisions that a Trainer computes in, and torch's name of each."""


def kind(plan: Plan) -> str:
    """zero (DeepSpeed), fsdp, ddp (copies on several GPUs) or alone: how the plan's engine shards."""
    engine = plan.problem.engine
    whole = "ddp" if engine.data_parallel else "alone"
    return "zero" if {1, 2} & set(engine.zero_stages) else "fsdp" if 3 in engine.zero_stages else whole


def spoken(plan: Plan) -> Words:
    """Decisions of a plan, and the two that a Trainer takes apart: what it casts to, and the format of the weights.

    autocast: the precision, or `no`: on a GPU of its own, and under DDP, `bf16: true` is autocast over weights as they
    were loaded (accelerate 1.15.0 accelerator.py:1824, Accelerator.prepare_model), which the plan counts with an engine
    option alone; FSDP2 casts by its own policy (accelerator.py:1677, _prepare_fsdp2) and DeepSpeed itself.
    weights_format: torch's name of the format in which the trained weights lie. FSDP2's are cast to fp32 in any case
    (utils/fsdp_utils.py:820). Under adapters it is the frozen base's, which stays as it was loaded (line 813).
    """
    words, engine, sharding = _samples(plan), plan.problem.engine, kind(plan)
    precision = plan.problem.precision.id
    sixteen = FORMATS.get(precision, precision)
    casts = sharding in ("zero", "fsdp") or engine.autocast
    single = sharding == "fsdp" or engine.states.weight_bytes == 4
    single = single and settled(plan).adapter is None
    words["autocast"] = precision if casts and precision != "fp32" else "no"
    words["weights_format"] = FORMATS["fp32"] if single else sixteen
    if words["optimizer"] in FP32_ADAMW and _trains_fp32(plan):
        words["optimizer"] = "adamw"
    return words


def _samples(plan: Plan) -> Words:
    """Decisions of a plan, micro-batches in samples of the data: a pair of answers is one, of two sequences."""
    return said(plan) | {"micro_batch_size": plan.layout["micro_batch_size"] // sequences_together(plan.problem)}


def _trains_fp32(plan: Plan) -> bool:
    """Is all that is trained fp32 adapters, of which no second copy is kept."""
    adapter, states = settled(plan).adapter, plan.problem.engine.states
    return adapter is not None and not adapter.modules_to_save and states.adapters == "fp32"


def refuse_untrained(plan: Plan, launcher: str, *, adapts: bool = False) -> None:
    """Raise InputError for layers of which only some are recomputed, and what no Trainer computes in.

    For adapters too where the launcher has no keys of its own for them (`adapts`).
    """
    precision, adapter = plan.problem.precision.id, settled(plan).adapter
    if precision not in FORMATS:
        raise refuse(
            plan, f"{launcher} has no word for precision {precision}", f"it takes {', '.join(FORMATS)}",
            "precision: bf16", "precision",
        )  # fmt: skip
    if precision == "fp32" and plan.problem.engine.autocast:
        raise refuse(
            plan, f"{launcher} has no autocast to fp32", "autocast takes products in bf16 or fp16",
            "precision: bf16, or engine_options without autocast", "engine_options",
        )  # fmt: skip
    # Adapters are fp32 beside a base in fp16 (peft 0.21.2), and only autocast takes both.
    scaled = plan.problem.engine.autocast and _trains_fp32(plan)
    whole = kind(plan) in ("ddp", "alone") and not scaled
    if precision == "fp16" and whole and spoken(plan)["weights_format"] == FORMATS["fp16"]:
        raise refuse(
            plan, f"{launcher} does not train weights in fp16",
            "loss scaling refuses their gradients (torch 2.13.0 amp/grad_scaler.py:274)",
            "precision: bf16, or engine_options: [autocast]", "precision",
        )  # fmt: skip
    if adapter is not None and not adapts:
        able = [name for name in ADAPTS if name in plan.problem.engine.launch]
        raise refuse(
            plan, f"{launcher} files are written for full training", "the scenario trains an adapter",
            f"--to {' or '.join(able)}, which have keys for adapters", "adapter",
        )  # fmt: skip
    if settled(plan).frozen and launcher not in FREEZES:
        raise refuse(
            plan, f"{launcher} has no key for a frozen {' and '.join(settled(plan).frozen).replace('_', ' ')}",
            "a Trainer trains what requires a gradient in the network that a program hands over",
            f"--to {' or '.join(FREEZES)}, or frozen: [] and requires_grad_(False) in your program", "frozen",
        )  # fmt: skip
    if any(plan.recomputed) and plan.recomputed != plan.layers:
        raise refuse(
            plan, f"{launcher} recomputes every layer or none", f"recomputed layers: {plan.recomputed}",
            "layout.recomputed_layers: all", "layout", "recomputed_layers",
        )  # fmt: skip


def training_arguments(outcome: Outcome, catalog: Catalog, launcher: str) -> str:
    """TrainingArguments as YAML, which HfArgumentParser reads."""
    plan = _plan(outcome)
    table = key_table(catalog, TABLE, "training_arguments")
    words = spoken(plan)
    values = settings(plan, table, words, launcher, ALSO) | optional(plan, table, launcher)
    if kind(plan) == "zero":
        values["deepspeed"] = ZERO
    remarks: tuple[str, ...] = (
        f"The length of {plan.layout['sequence_length']} tokens is the data's: TrainingArguments have no key for it.",
        f"The plan counts weights loaded with dtype={words['weights_format']}, for which they have no key.",
    )
    kernel = named_kernel(plan, catalog, launcher)
    if kernel is not None:
        remarks += (
            f"The plan counts attn_implementation={kernel}, for which they have no key: from_pretrained takes it. "
            "Without it attention is eager and keeps whole scores.",
        )
    return yaml_document(outcome, table.engine, values, remarks)


def zero_config(outcome: Outcome, catalog: Catalog, launcher: str) -> str:
    """A DeepSpeed configuration. train_batch_size is left out: DeepSpeed multiplies it from the world it finds."""
    plan = _plan(outcome)
    return json_document(settings(plan, key_table(catalog, TABLE, "deepspeed"), _samples(plan), launcher, ALSO))


def accelerate_config(outcome: Outcome, catalog: Catalog, launcher: str) -> str:
    """An accelerate configuration for this plan's sharding."""
    plan = _plan(outcome)
    table = key_table(catalog, TABLE, "accelerate")
    own = key_table(catalog, TABLE, kind(plan))
    words = spoken(plan)
    values = settings(plan, own, words, launcher, ALSO | table.spoken)
    if kind(plan) == "zero":
        del words["autocast"]  # the DeepSpeed file says it, and accelerate refuses it twice
    values |= settings(plan, table, words, launcher, ALSO | own.spoken)
    remarks = ("machine_rank, main_process_ip and main_process_port are each machine's own.",)
    values = {"compute_environment": "LOCAL_MACHINE", **values}
    return yaml_document(outcome, table.engine, values, remarks if words["training_nodes"] != 1 else ())


def _plan(outcome: Outcome) -> Plan:
    assert outcome.plan is not None
    return outcome.plan
