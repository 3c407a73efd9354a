"""Export, then lint: the plan that a file was written of and the plan that is read back, decision by decision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from drawn import catalog

from planner.launch import registry
from planner.launch.lint import Linted, lint
from planner.launch.script import STATED
from planner.problem.copies import copies_of
from planner.search.decisions import layout_document
from planner.search.plan import Plan
from planner.search.search import Outcome

LAUNCHERS = (
    "slime", "megatron", "verl", "nemo-rl", "openrlhf", "ms-swift", "axolotl", "llama-factory", "deepspeed",
    "accelerate", "torchtitan", "trl",
)  # fmt: skip
"""Formats that are both written and read."""
OF_ENGINE = {
    engine.id: tuple(name for name in LAUNCHERS if name in engine.launch)
    for engine in catalog().all("engines")
    if set(LAUNCHERS) & set(engine.launch)
}
"""The formats of each engine."""
ROOM = ("cluster.usable_gib=40000", "cluster.host_memory_gib=100000")
"""Random layouts are legal, and may be larger than any GPU: drawn up to 4,000 GiB, and never near to the limit here."""
LENGTHS = ("mean_sequence_length", "rollout_concurrency")
"""What follows from lengths of responses, which no file says; of packed samples the micro-batches too."""
OF_PACKED = ("num_micro_batches", "micro_batch_size")


def decisions(plan: Plan) -> dict[str, Any]:
    """Every decision, in one way where two mean the same: each exception says why."""
    out = layout_document(plan)
    problem, lay = plan.problem, plan.layout
    for name in (*LENGTHS, *(OF_PACKED if lay["max_tokens"] else ())):
        out.pop(name, None)
    options = set(out["engine_options"])
    idle = {
        "multi_token_prediction": not problem.architecture.num_nextn_predict_layers,
        "sequential_experts": not problem.architecture.is_moe,
        "hybrid_sharding": "hybrid_sharding" in options and copies_of(problem, lay) == 1,
        # It adds a rule alone, which planner holds a file with fixed micro-batches to in any case.
        "fixed_micro_batches": True,
        # The same flags as layout.activation_offload.
        "fine_grained_offloading": True,
        **dict.fromkeys(STATED, True),  # the file's header lists them
    }
    out["activation_offload"] |= "fine_grained_offloading" in options
    out["engine_options"] = sorted(name for name in options if not idle.get(name, False))
    if plan.recomputed == plan.layers and problem.scenario.layout.recompute_group == 1:
        out["recompute_method"] = out["recompute_num_layers"] = "all"  # by either method
    rl = problem.scenario.rl
    out["reference_model"] = rl is not None and rl.reference_model
    out["algorithm"] = rl.algorithm if rl is not None else None
    if rl is not None:
        out["awake"] = (sorted(rl.trainer_on_gpu), rl.rollout.sleeps, rl.rollout.cuda_graphs)
        batch = problem.scenario.batch
        out["scored"] = (batch.log_prob_micro_batch_size, batch.log_prob_max_tokens_per_gpu)
    out["model"] = problem.architecture.id
    out["adapter"] = problem.scenario.adapter
    return out


def unsaid(plan: Plan, launcher: str, linted: Linted) -> Iterator[str]:
    """What the format has no word for and lint lists as such, filled in from the plan."""
    lay, scenario = plan.layout, plan.problem.scenario
    numbers = {
        "cluster.num_gpus": lay["num_gpus"],
        "batch.global_batch_size": lay["global_batch_size"],
        "batch.sequence_length": lay["sequence_length"],
        "model": plan.problem.architecture.id,
        "precision": plan.problem.precision.id,
        "engine_options": str(list(scenario.engine_options)),
    }
    said = {
        "torchtitan": ("model",),
        "accelerate": ("model", "batch.sequence_length"),
        "deepspeed": tuple(numbers)[:4],
        "axolotl": tuple(numbers)[:2],
        "llama-factory": tuple(numbers)[:2],
    }
    listed = {path for path in linted.found.assumed if path in numbers}
    listed |= {path for path in said.get(launcher, ()) if path in numbers and not _stated(linted.scenario, path)}
    yield from (f"{path}={numbers[path]}" for path in sorted(listed))


def _stated(tree: Any, path: str) -> bool:
    for step in path.split("."):
        if not isinstance(tree, dict) or step not in tree:
            return False
        tree = tree[step]
    return True


def read_back(outcome: Outcome, launcher: str, folder: Path) -> Linted:
    """The plan's file, read again with what it cannot say. Raises InputError for a plan that it cannot say at all."""
    assert outcome.plan is not None
    files = registry.files(launcher, outcome, catalog())
    for old in folder.iterdir():
        old.unlink()
    for name, text in files.items():
        (folder / name).write_text(text)
    wide = " ".join("".join(files.values()).split())
    for name in STATED:
        if name in outcome.plan.named.engine_options:
            assert f"The plan counts {name}, which no setting says." in wide.replace(" # ", " ")
    path = folder if len(files) > 1 else folder / next(iter(files))
    first = lint(path, catalog(), ROOM)
    filled = tuple(unsaid(outcome.plan, launcher, first))
    return lint(path, catalog(), (*ROOM, *filled)) if filled else first


def differences(outcome: Outcome, launcher: str, folder: Path) -> list[str]:
    """What is read back otherwise than it was written; empty where nothing is."""
    linted = read_back(outcome, launcher, folder)
    assert outcome.plan is not None
    if linted.plan is None:
        return [f"not costed: {[one.text for one in linted.findings]} {[mistake.what for mistake in linted.open]}"]
    mine, theirs = decisions(outcome.plan), decisions(linted.plan)
    out = [f"{name}: {mine.get(name)} became {theirs.get(name)}" for name in sorted(mine.keys() | theirs.keys())
           if mine.get(name) != theirs.get(name)]  # fmt: skip
    return out + [f"finding: {one.text}" for one in linted.findings if one.rule != "cap_below_sample"]
