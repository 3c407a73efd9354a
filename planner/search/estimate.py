"""The story on one screen: a scenario file becomes an outcome.

    read -> validate -> resolve (names, wishes) -> space (what is legal) -> costs (ledgers) -> tables (integers)
         -> solve (which values) -> plan (ledgers again, in floats) -> verify

What-ifs, budgets, comparisons and explanations call these functions; they are never modes inside them.
"""

from __future__ import annotations

from planner.errors import InputError, Mistake
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.problem.stage_choices import even_layers, is_free, recompute_levels
from planner.problem.variants import open_settings
from planner.search.plan import Plan, make_plan
from planner.search.space import build_space
from planner.search.witness.witness import refuse_unlaunchable

OPEN_COLUMNS = (
    ("num_gpus", "cluster.num_gpus"),
    ("tensor_parallel", "layout.tensor_parallel"),
    ("pipeline_parallel", "layout.pipeline_parallel"),
    ("virtual_pipeline", "layout.virtual_pipeline"),
    ("context_parallel", "layout.context_parallel"),
    ("expert_parallel", "layout.expert_parallel"),
    ("expert_tensor_parallel", "layout.expert_tensor_parallel"),
    ("micro_batch_size", "batch.micro_batch_size"),
    ("max_tokens", "batch.max_tokens_per_gpu"),
    ("zero_stage", "layout.zero_stage"),
)


def estimate(document: Document, catalog: Catalog | None = None) -> Plan:
    """Cost the one layout that a fully pinned scenario describes, whether it fits or not.

    Raises InputError when something is left open, or when the layout breaks a rule of its engine.
    """
    return estimate_question(question_of(document, catalog))


def estimate_question(question: Question) -> Plan:
    """Cost the one layout of a pinned problem; see `estimate`."""
    document = question.document
    space = build_space(question)
    layouts = space.layouts
    if not len(layouts):
        broken = [r for r in space.removed if r.rule != "gpus_divide"] or list(space.removed)
        raise InputError(
            [
                Mistake(
                    f"the pinned layout breaks the rule {r.rule}",
                    document.place(("layout",)),
                    r.text,
                    "change the pins of layout: or cluster:",
                )
                for r in broken
            ]
        )
    loose = list(open_settings([variant.settings for variant in question.problems]))
    loose += [
        f"{path} ({', '.join(map(str, sorted(set(getattr(layouts, name).tolist()))[:8]))})"
        for name, path in OPEN_COLUMNS
        if len(set(getattr(layouts, name).tolist())) > 1
    ]
    if len(question.wishes) > 1:
        granted = sorted({name for wish in question.wishes for name in wish.given_up})
        loose += [f"the wish {name} (give one value instead of want and allow)" for name in granted]
    spec = question.scenario.layout.layers_per_stage
    divides = bool((question.architecture.num_hidden_layers % layouts.pipeline_parallel == 0).all())
    if spec == "free" or (is_free(question.first) and not divides):
        loose.append(f"layout.layers_per_stage ({spec})")
    if space.rollouts is not None and len(space.rollouts) > 1:
        loose.append("rl.rollout.tensor_parallel, gpu_memory_utilization, max_concurrency and num_gpus")
    layers = tuple(int(n) for n in even_layers(question.first, layouts, int(layouts.pipeline_parallel.max()))[0])
    levels = recompute_levels(question.first, max(layers), int(layouts.virtual_pipeline[0]))
    if len(levels) != 1 and not loose:
        loose.append(f"layout.recomputed_layers (0 to {max(layers)})")
    if loose or len(layouts) > 1:
        raise InputError(
            Mistake(
                "estimate needs one layout, and the scenario leaves several open",
                document.place(("layout",)),
                "open: " + "; ".join(loose),
                f"pin them with --set, or let the planner choose: planner solve {document.name} --format json "
                "--out plan.json; every command takes plan.json in its place",
            )
        )
    if space.rollouts is not None and not len(space.rollouts):
        raise InputError(
            Mistake(
                "the pinned rollout engine cannot hold its weights and one request",
                document.place(("rl",)),
                "; ".join(r.text for r in space.removed),
                "a larger rl.rollout.gpu_memory_utilization or rl.rollout.tensor_parallel",
            )
        )
    recomputed = tuple(min(levels[0], n) for n in layers)
    choice = 0 if space.rollouts is not None else None
    found = make_plan(question, layouts, 0, layers, recomputed, space.rollouts, choice)
    refuse_unlaunchable(found)
    return found
