"""Decisions beyond the degrees, as rows of a report: machines, placement, schedule, offload, modules recomputed."""

from __future__ import annotations

from planner.problem.option_sets import chosen_options
from planner.problem.problem import ASYNCHRONOUS
from planner.report.blocks import Block, Text
from planner.search.plan import Plan
from planner.units import format_seconds

OPEN = "chosen by the search"


def decision_rows(plan: Plan) -> list[tuple[str, str]]:
    """What is not as usual, and what the search chose though it could have been otherwise."""
    spec, chosen = plan.problem.scenario.layout, dict(plan.problem.settings)
    rows = [
        ("schedule", "layout.schedule", str(spec.schedule or ""), spec.schedule is not None),
        (
            "recomputed modules",
            "layout.recompute_modules",
            ", ".join(spec.recompute_modules),
            bool(spec.recompute_modules),
        ),
        ("activations", "layout.activation_offload", "wait on the host", bool(spec.activation_offload)),
    ]
    out = []
    for name, path, text, unusual in rows:
        if unusual or path in chosen:
            said = text if unusual else {"schedule": "1f1b", "activations": "on the GPU"}.get(name, "none")
            out.append((name, f"{said} ({OPEN})" if path in chosen else said))
    return [*out, *_options(plan)]


def _options(plan: Plan) -> list[tuple[str, str]]:
    """Options of the engine that are on."""
    chosen = chosen_options(plan.problem.settings)
    named = [f"{name} ({OPEN})" if name in chosen else name for name in plan.named.engine_options]
    return [("engine options", ", ".join(named))] if named else []


def overlap_blocks(plan: Plan) -> list[Block]:
    """How generation and training overlap, where they do, and what is known of the choice where it was open."""
    chosen, rl = [], plan.problem.known_errors.rl
    if rl is not None and any(path == "rl.placement" for path, _ in plan.problem.settings):
        text = (
            f"Placement was chosen: {rl.gains}. All three: planner whatif with "
            "--set rl.placement=colocated,disaggregated,asynchronous"
        )
        chosen.append(Text(text))
    return [*chosen, *_overlap(plan)]


def _overlap(plan: Plan) -> list[Block]:
    if plan.rollout is None or plan.problem.placement != ASYNCHRONOUS:
        return []
    trained = sum(seconds for name, seconds in plan.phases if name in ("training", "log-probabilities", "update"))
    return [
        Text(
            f"Generation takes {format_seconds(plan.rollout.seconds)} beside {format_seconds(trained)} of training; "
            "the longer one sets the step, and weights are synchronised after it."
        )
    ]
