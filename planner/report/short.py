"""A plan in a few words: for tables in which each plan is one row."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from planner.inputs.document import Document
from planner.problem.variants import USUAL
from planner.report.json_text import JsonObject
from planner.search.plan import Plan, degrees

SAID = {
    "cluster.node": "{}",
    "layout.later_stages_on": "later stages on {}",
    "rl.placement": "{}",
    "rl.rollout.node": "rollout on {}",
    "precision": "{}",
}
UNUSUAL = {
    ("layout.schedule", "zb-h1"): "zb-h1",
    ("layout.optimizer_offload", "true"): "optimizer on the host",
    ("layout.activation_offload", "true"): "activations on the host",
    ("cluster.rank_order", "tp_pp_dp"): "tp-pp-dp",
    ("layout.sequence_parallel", "false"): "no sequence parallelism",
}
LEGEND = "layout: mbs sequences a micro-batch, rc recomputed layers of each stage"


def short_layout(plan: Plan) -> str:
    """The degrees of a plan, its micro-batch and its recomputation."""
    text = f"{degrees(plan.layout)} mbs{plan.layout['micro_batch_size']} rc{_counts(plan.recomputed)}"
    if len(set(plan.layers)) > 1:
        text += f" layers {_counts(plan.layers)}"
    if plan.rollout is not None:
        text += f", rollout TP{plan.rollout.tensor_parallel} at {plan.rollout.gpu_memory_utilization:g}"
    if plan.rollout is not None and not plan.problem.colocated:
        text += f" on {plan.rollout.num_gpus} of {plan.num_gpus} GPUs"
    words = [said for setting in plan.problem.settings if (said := _said(*setting))]
    return text + (f", {', '.join(words)}" if words else "")


def _said(path: str, value: str) -> str:
    """A decision of the search in a few words; nothing where it is as usual."""
    if value == USUAL:
        return ""
    return SAID[path].format(value) if path in SAID else UNUSUAL.get((path, value), "")


def short_binding(plan: Plan) -> str:
    """Phase and stage of the peak."""
    phase = plan.binding.phase.replace("_", " ")
    several = plan.binding.stage is not None and len(plan.layers) > 1
    return f"{phase}, stage {plan.binding.stage}" if several else phase


def granted(plan: Plan, wish: str) -> str:
    """The value that a plan gives to a wish."""
    value = getattr(plan.wish, wish)
    return plan.problem.optimizers[value].id if wish == "optimizer" else f"{value:,}"


def short_wishes(plan: Plan) -> str:
    """Wishes that a plan gives up, with what it grants instead."""
    return ", ".join(f"{name} {granted(plan, name)}" for name in plan.wish.given_up) or "none"


def provenance(documents: Sequence[Document], catalog: Sequence[tuple[str, str]]) -> JsonObject:
    """What is needed to make the same answer again."""
    from importlib.metadata import version

    return {
        "planner": version("planner"),
        "ortools": version("ortools"),
        "inputs": [{"file": d.name, "sha256": d.sha256, "overrides": list(d.overrides)} for d in documents],
        "catalog": dict(sorted(catalog)),
    }


def typed(document: Document, extra: Sequence[str] = ()) -> str:
    """A scenario and its overrides as one would type them."""
    parts = ["-" if document.name == "<stdin>" else document.name]
    for argument in (*document.overrides, *extra):
        parts += ["--set", argument]
    return " ".join(shlex.quote(part) for part in parts)


def _counts(values: tuple[int, ...]) -> str:
    """`14` where all stages agree, else runs of equal stages such as `14x3,13`."""
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    if len(runs) == 1:
        return str(values[0])
    return ",".join(f"{value}x{count}" if count > 1 else str(value) for value, count in runs)
