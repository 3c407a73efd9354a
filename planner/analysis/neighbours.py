"""What other decisions would cost or gain: single changes of a scenario solved again, and questions of "why not"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from planner.analysis.changes import less_headroom, machine_counts, more_gpus
from planner.analysis.pins import setting_value
from planner.analysis.two_plans import Difference, differences
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.problem.defaults import MOST_TOGETHER
from planner.problem.option_sets import OPTIONS
from planner.problem.problem import Question
from planner.problem.variants import Setting
from planner.search.plan import Plan
from planner.search.search import Outcome, plan, search

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Alternative:
    """One change, solved again."""

    text: str
    changes: tuple[tuple[str, Any], ...]
    outcome: Outcome | None
    """None where the change contradicts the scenario."""
    refused: str = ""
    """Why, in that case."""
    lifted: bool = False
    """The change leaves to the search what only a default held."""

    @property
    def plan(self) -> Plan | None:
        """The best plan under the change."""
        return self.outcome.plan if self.outcome is not None else None

    def throughput_change(self, base: Plan) -> float | None:
        """Relative change of tokens a second, positive where the change is faster."""
        return self.plan.tokens_per_second / base.tokens_per_second - 1 if self.plan is not None else None

    def headroom_change_gib(self, base: Plan) -> float | None:
        """[GiB]"""
        return self.plan.headroom_gib - base.headroom_gib if self.plan is not None else None


def ask(outcome: Outcome, text: str, changes: dict[str, object], catalog: Catalog) -> Alternative:
    """Solve the scenario again with some values changed."""
    pairs = tuple(changes.items())
    try:
        return Alternative(text, pairs, plan(override(outcome.question.document, changes), catalog, check_points=0))
    except InputError as error:
        return Alternative(text, pairs, None, "; ".join(problem.what for problem in error.problems))


def neighbours(outcome: Outcome, catalog: Catalog, progress: Progress = lambda text: None) -> list[Alternative]:
    """The next changes one would try from a plan, each solved again; those that change nothing are left out."""
    base = outcome.plan
    if base is None:
        return []
    out = [
        each for each in lifted(outcome, catalog, progress) if each.plan is None or not same_decisions(each.plan, base)
    ]
    for text, setting in _settings(outcome.question, base):
        progress(f"what would {text} do?")
        out.append(_with_setting(outcome.question, text, setting))
    for text, changes in _changes(outcome, base):
        progress(f"what would {text} do?")
        found = ask(outcome, text, changes, catalog)
        if found.plan is None or not same_decisions(found.plan, base):
            out.append(found)
    return out


def lifted(outcome: Outcome, catalog: Catalog, progress: Progress = lambda text: None) -> list[Alternative]:
    """Each decision that a default holds left to the search, where that is not too much for one answer."""
    out = []
    for one in outcome.proof.held:
        if one.values > MOST_TOGETHER or one.path == "options_to_try":
            continue  # of options `option_gains` says what each would do
        progress(f"what would {one.change} do?")
        out.append(replace(ask(outcome, one.change, {one.path: one.opened}, catalog), lifted=True))
    return out


def same_decisions(one: Plan, other: Plan) -> bool:
    """Are these the same plan, whichever of its decisions were pinned or left open when it was found."""
    return _decisions(one) == _decisions(other)


def _decisions(found: Plan) -> tuple[object, ...]:
    problem, lay, wish = found.problem, found.layout, found.wish
    spec, cluster = problem.scenario.layout, problem.scenario.cluster
    return (
        {name: value for name, value in lay.items() if name not in ("variant", "wish", "optimizer")},
        problem.optimizers[lay["optimizer"]].id,
        (wish.rollout_batch_size, wish.n_samples_per_prompt, wish.response_length),
        (found.layers, found.recomputed, found.rollout),
        (problem.node.id, problem.generating.node.id, problem.placement, cluster.rank_order, problem.precision.id),
        (
            spec.later_stages_on,
            spec.schedule == "zb-h1",
            spec.optimizer_offload,
            spec.activation_offload,
            tuple(spec.recompute_modules),
            found.named.recompute_group,
            frozenset(problem.scenario.engine_options),
        ),
    )


def _with_setting(question: Question, text: str, setting: Setting) -> Alternative:
    """The variants that take one value of a decision, searched again."""
    kept = tuple(variant for variant in question.problems if setting in variant.settings)
    if setting[0].startswith(f"{OPTIONS}."):
        return Alternative(text, _option_changes(question, *setting), search(Question(kept), check_points=0))
    return Alternative(text, ((setting[0], setting_value(setting)),), search(Question(kept), check_points=0))


def _option_changes(question: Question, path: str, word: str) -> tuple[tuple[str, object], ...]:
    """What pins an option of the engine on or off in the scenario's file, the others left as they are there."""
    variants = question.problems
    tried = dict.fromkeys(p for variant in variants for p, _ in variant.settings if p.startswith(OPTIONS))
    others = [each.removeprefix(f"{OPTIONS}.") for each in tried if each != path]
    named = path.removeprefix(f"{OPTIONS}.")
    on = [name for name in question.scenario.engine_options if name not in (named, *others)]
    return ((OPTIONS, [*on, named] if word == "true" else on), ("options_to_try", others))


def _settings(question: Question, base: Plan) -> list[tuple[str, Setting]]:
    """Each other value of a decision that the search took: machines, placement, precision, schedule, offload."""
    out: list[tuple[str, Setting]] = []
    for path, chosen in base.problem.settings:
        for other in dict.fromkeys(value for v in question.problems for p, value in v.settings if p == path):
            if other != chosen and path != "layout.recompute_modules":
                out.append((f"{path} {chosen} to {other}", (path, other)))
    if dict(base.problem.settings).get("layout.recompute_modules", "none") != "none":
        out.append(("no module recomputed", ("layout.recompute_modules", "none")))
    return out


def _changes(outcome: Outcome, base: Plan) -> list[tuple[str, dict[str, Any]]]:
    """Single changes around a plan: degrees halved and doubled, micro-batch, recomputation, headroom, GPUs, length."""
    asked, problem, lay = outcome.question, base.problem, base.layout
    out: list[tuple[str, dict[str, Any]]] = []
    for name in ("tensor_parallel", "pipeline_parallel", "context_parallel", "expert_parallel"):
        for value in (lay[name] // 2, lay[name] * 2):
            legal = 1 <= value <= lay["num_gpus"] and (name != "expert_parallel" or problem.architecture.is_moe)
            if legal:
                out.append((f"{name} {lay[name]} to {value}", {f"layout.{name}": value}))
    if lay["max_tokens"]:
        for value in (lay["max_tokens"] // 2, lay["max_tokens"] * 2):
            text = f"max_tokens_per_gpu {lay['max_tokens']} to {value}"
            out.append((text, {"batch.max_tokens_per_gpu": value}))
    for value in (lay["micro_batch_size"] // 2, lay["micro_batch_size"] * 2):
        if value >= 1 and not lay["max_tokens"]:
            text = f"micro_batch_size {lay['micro_batch_size']} to {value}"
            out.append((text, {"batch.micro_batch_size": value}))
    if any(base.recomputed):
        out.append(("no recomputed layers", {"layout.recomputed_layers": 0}))
    if base.recomputed != base.layers:
        out.append(("every layer recomputed", {"layout.recomputed_layers": "all"}))
    for share in (0.5, 1.5):
        gib = round(problem.headroom_gib * share, 1)
        out.append((f"headroom_gib {problem.headroom_gib:.1f} to {gib:.1f}", dict(less_headroom(problem, gib))))
    each = " of each pool" if problem.scenario.cluster.pools is not None else ""
    most = max(count for one in asked.problems for count in machine_counts(one))
    out.append((f"up to {2 * most} GPUs{each}", dict(more_gpus(asked, 2))))
    path = "rl.response_length" if problem.is_rl else "batch.sequence_length"
    tokens = base.wish.response_length if problem.is_rl else base.wish.sequence_length
    for value in (tokens // 2, tokens * 2):
        out.append((f"{path.split('.')[1]} {tokens} to {value}", {path: value}))
    held = any(one.path == "layout.optimizer_offload" for one in outcome.proof.held)
    if problem.engine.optimizer_offload and not problem.scenario.layout.optimizer_offload and not held:
        out.append(("optimizer on the host", {"layout.optimizer_offload": True}))
    return out


def slower_items(base: Plan, other: Plan) -> tuple[Difference, ...]:
    """Time items of another plan against the base, largest difference first, scaled to the same work. [s]"""
    scale = (base.sequences_per_step * base.layout["mean_sequence_length"]) / (
        other.sequences_per_step * other.layout["mean_sequence_length"]
    )
    ours = [(entry.name, entry.amount) for entry in base.time]
    theirs = [(entry.name, entry.amount * scale) for entry in other.time]
    return differences(ours, theirs)
