"""What to change in a scenario so that its answer is one plan out of several that were found for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from planner.inputs.document import Document, json_value
from planner.problem.option_sets import OPTIONS
from planner.problem.variants import USUAL, Setting
from planner.search.plan import Plan

DEGREES = ("tensor_parallel", "pipeline_parallel", "virtual_pipeline", "context_parallel", "zero_stage")
OF_EXPERTS = ("expert_parallel", "expert_tensor_parallel")


def setting_value(setting: Setting) -> object:
    """The value of a decision that the search took, as a scenario says it."""
    path, word = setting
    if path == "layout.recompute_modules":
        return [] if word == "none" else word.split(", ")
    return {"true": True, "false": False, USUAL: None}.get(word, int(word) if word.isdigit() else word)


def pins(plan: Plan, asked: Document) -> tuple[str, ...]:
    """PATH=VALUE texts under which the scenario allows this layout alone, up to recomputed layers and rollout settings.

    Decisions that the scenario pins itself are left out.
    """
    lay, scenario = plan.named, plan.problem.scenario
    found: dict[str, Any] = {}
    for setting in plan.problem.settings:
        if setting[0].startswith(f"{OPTIONS}."):
            found |= {OPTIONS: list(scenario.engine_options), "options_to_try": []}
        elif setting[0] not in ("cluster.node", "layout.recomputed_layers"):
            found[setting[0]] = setting_value(setting)
    moe = OF_EXPERTS if plan.problem.architecture.is_moe else ()
    found |= {f"layout.{name}": getattr(lay, name) for name in (*DEGREES, *moe)}
    if lay.max_tokens_per_gpu is not None:
        found["batch.max_tokens_per_gpu"] = lay.max_tokens_per_gpu
    else:
        found["batch.micro_batch_size"] = lay.micro_batch_size
    found |= _machines(plan, asked)
    wish = plan.wish.given_up
    names = {"optimizer": "optimizer", "sequence_length": "batch.sequence_length"}
    found |= {names.get(name, f"rl.{name}"): getattr(plan.wish, name) for name in wish if name != "optimizer"}
    if "optimizer" in wish or isinstance(scenario.optimizer, list):
        found["optimizer"] = lay.optimizer
    return texts({path: value for path, value in found.items() if stands(asked, path) != value})


def opening(plan: Plan, asked: Document, over: str) -> tuple[str, ...]:
    """PATH=VALUE texts under which the scenario's answer is this point of a front over `over`."""
    changes = plan.problem.document.overrides[len(asked.overrides) :]
    counted = over in ("gpus", "dollars")
    return (*changes, *(texts(_machines(plan, plan.problem.document)) if counted else ()))


def _machines(plan: Plan, asked: Document) -> dict[str, Any]:
    """The machines of a plan as the scenario's only ones."""
    if stands(asked, "cluster.pools") is None:
        most = {"cluster.max_gpus": None} if stands(asked, "cluster.max_gpus") is not None else {}
        return {"cluster.num_gpus": plan.num_gpus, **most}
    if not plan.problem.colocated or plan.problem.later is not None:
        return _pools(plan, asked)
    pool = plan.problem.scenario.cluster.model_dump(exclude_defaults=True, mode="json")
    kept = {name: value for name, value in pool.items() if name not in ("max_gpus", "pools")}
    return {"cluster": {**kept, "num_gpus": plan.num_gpus}}


def _pools(plan: Plan, asked: Document) -> dict[str, object]:
    """Of a run that takes several pools, or shares one: those it takes, with as many GPUs as it takes of each."""
    problem, trains = plan.problem, plan.layout["num_gpus"]
    taken: Counter[str] = Counter()
    found: dict[str, object] = {}
    if problem.later is not None:
        taken[problem.node.id] += problem.first_gpus
        taken[problem.later.node.id] += trains - problem.first_gpus
    else:
        assert plan.rollout is not None
        taken[problem.node.id] += trains
        taken[problem.generating.node.id] += plan.rollout.num_gpus
        found["rl.rollout.num_gpus"] = plan.rollout.num_gpus
    pools = [pool for pool in asked.data["cluster"]["pools"] if pool["node"] in taken]
    others = ("num_gpus", "max_gpus")
    kept = [{k: v for k, v in pool.items() if k not in others} | {"num_gpus": taken[pool["node"]]} for pool in pools]
    return {"cluster.pools": kept, **found}


def texts(changes: dict[str, Any]) -> tuple[str, ...]:
    """Changes as PATH=VALUE texts."""
    return tuple(f"{path}={json_value(path, value)}" for path, value in changes.items())


def stands(document: Document, path: str) -> object:
    """What a scenario's file says at a dotted path; None where it says nothing."""
    value = document.data
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value
