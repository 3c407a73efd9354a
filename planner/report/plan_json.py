"""An outcome as JSON: every figure, its source, and what is needed to make the same plan again. No times, no dates."""

from __future__ import annotations

from planner.analysis.infeasible.nearest import Nearest
from planner.analysis.other_methods import Method
from planner.analysis.published_columns import ColumnCase, Priced, PublishedColumns
from planner.analysis.uniform import Uniform
from planner.formulas.model_flop import CONVENTION
from planner.problem.problem import Question
from planner.report.envelope import enveloped
from planner.report.gpu_order_rows import placement_document
from planner.report.json_text import JsonObject
from planner.report.json_text import dumps as dumps
from planner.report.near_ties import near_ties_document
from planner.report.schedule import schedule_document
from planner.search.decisions import layout_document
from planner.search.dies_in import dies_in, missing_gib
from planner.search.plan import Entry, Plan, host_total_gib, verdict
from planner.search.search import Outcome, Proof


def outcome_document(
    outcome: Outcome,
    comparison: PublishedColumns | None = None,
    nearest: Nearest | None = None,
    uniform: Uniform | None = None,
    methods: tuple[Method, ...] = (),
) -> JsonObject:
    """The answer of `planner solve`."""
    plan = outcome.plan
    document: JsonObject = {
        "scenario": outcome.question.name,
        "asked": _asked(outcome.question, outcome.usual_headroom_gib),
        "plan": plan_document(plan) if plan is not None else None,
        "proof": _proof(outcome.proof),
        "near_ties": near_ties_document(outcome.near_ties),
    }
    if nearest is not None:
        document["nearest"] = _nearest(nearest)
    if methods:
        document["other_methods"] = methods_document(methods)
    if uniform is not None:
        document["uniform_stages"] = {
            "changes": uniform.changes,
            "plan": plan_document(uniform.plan) if uniform.plan is not None else None,
            "gain": _round(uniform.gain),
        }
    if comparison is not None:
        document["comparison"] = _comparison(comparison)
    columns = comparison.cases if comparison is not None else ()
    document["known_error"] = list(outcome.question.known_error_texts)
    catalog = {*outcome.question.provenance, *(pair for case in columns for pair in case.plan.problem.provenance)}
    return enveloped("solve", outcome.status, document, asked=[outcome.question], catalog=catalog)


def methods_document(methods: tuple[Method, ...]) -> list[JsonObject]:
    """Other ways to train that fit, with the change that asks for each."""
    return [
        {
            "name": each.name,
            "set": list(each.arguments),
            "peak_gib": _round(each.plan.peak_gib),
            "headroom_gib": _round(each.plan.headroom_gib),
            "step_seconds": _round(each.plan.step_seconds),
        }
        for each in methods
    ]


def _asked(question: Question, usual_headroom_gib: float | None) -> JsonObject:
    """What feeds the answer back: the scenario with its overrides, and how much headroom was given up for a plan."""
    kept = max(p.machines.headroom_gib for one in question.problems for p in (one, one.generating, one.later or one))
    return {
        "scenario": question.document.data,
        "kept_headroom_gib": kept if usual_headroom_gib is not None else None,
        "usual_headroom_gib": usual_headroom_gib,
        "reserve_counted": question.first.reserve_counted,
    }


def estimate_document(plan: Plan) -> JsonObject:
    """The answer of `planner estimate`: the same keys, and no proof because nothing was searched."""
    question = plan.problem.alone
    document: JsonObject = {
        "scenario": question.name,
        "asked": _asked(question, None),
        "plan": plan_document(plan),
        "proof": None,
        "known_error": list(question.known_error_texts),
    }
    return enveloped("estimate", "estimate", document, asked=[question], catalog=question.provenance)


def _attention(plan: Plan) -> JsonObject:
    """Fused attention that the trainer does not take by itself, where the plan counts it."""
    named = plan.problem.named_attention
    return {} if named is None else {"attention_kernel": {"named": named.kernel, "where": named.where}}


def plan_document(plan: Plan) -> JsonObject:
    """Layout, memory, time and host ledgers of one plan."""
    needed, available = host_total_gib(plan)
    wanted = plan.problem.wishes[0]
    ids = [o.id for o in plan.problem.optimizers]
    changes = {
        name: {
            "wanted": ids[wanted.optimizer] if name == "optimizer" else getattr(wanted, name),
            "granted": ids[plan.wish.optimizer] if name == "optimizer" else getattr(plan.wish, name),
        }
        for name in plan.wish.given_up
    }
    binding = plan.binding
    interval, fits, kept = plan.interval_gib, plan.fit_probability, plan.keep_probability
    starts = plan.start_probability
    return {
        "verdict": verdict(plan),
        "critical": plan.critical,
        "wishes_given_up": changes,
        "layout": layout_document(plan),
        "placement": placement_document(plan),
        **_attention(plan),
        "memory": {
            "peak_gib": _round(plan.peak_gib),
            "usable_gib": _round(plan.usable_gib),
            "headroom_gib": _round(plan.headroom_gib),
            "headroom_demanded_gib": _round(plan.demanded_gib),
            "interval_90_percent_gib": [_round(bound) for bound in interval] if interval is not None else None,
            "fit_probability": round(fits, 4) if fits is not None else None,
            "keep_probability": round(kept, 4) if kept is not None else None,
            "start_probability": round(starts, 4) if starts is not None else None,
            "live_room_gib": _round(plan.live_room_gib),
            "given_back_gib": _round(plan.given_back_gib),
            "binding_stage": binding.stage,
            "binding_phase": binding.phase,
            "dies_in": _dies_in(plan),
            "stages": [
                {
                    "stage": phase.stage,
                    "phase": phase.phase,
                    "total_gib": _round(phase.total_gib),
                    "items": [_entry(item, "gib") for item in phase.items],
                }
                for phase in plan.memory
            ],
        },
        "time": {
            "step_seconds": _round(plan.step_seconds),
            **_time_intervals(plan),
            **schedule_document(plan),
            "tokens_per_second": _round(plan.tokens_per_second),
            "tokens_per_second_per_gpu": _round(plan.tokens_per_second / plan.num_gpus),
            "samples_per_second": _round(plan.samples_per_second),
            "mfu": _round(plan.mfu),
            "mfu_convention": CONVENTION,
            "model_tflops_per_gpu": _round(plan.model_tflops_per_gpu),
            "peak_tflops_per_gpu": _round(plan.peak_tflops_per_gpu),
            "items": [_entry(item, "seconds") for item in plan.time],
            "phases": [{"name": name, "seconds": _round(seconds)} for name, seconds in plan.phases],
            **_stated(plan),
        },
        "host": {
            "needed_gib": _round(needed),
            "available_gib": available,
            "items": [_entry(item, "gib") for item in plan.host],
        },
    }


def _time_intervals(plan: Plan) -> JsonObject:
    """Bounds of the step and of its tokens a second; null where no published step of such a run was scored."""
    bounds, tokens = plan.step_interval_seconds, plan.tokens_per_second * plan.step_seconds
    return {
        "step_interval_90_percent_seconds": None if bounds is None else [_round(bound) for bound in bounds],
        "tokens_per_second_interval_90_percent": None
        if bounds is None
        else [_round(tokens / bound) for bound in reversed(bounds)],
    }


def _stated(plan: Plan) -> JsonObject:
    """Goodput and calibration, where the scenario states them."""
    good, known = plan.goodput, plan.problem.calibration
    out: JsonObject = {}
    if good is not None:
        out["goodput"] = {
            "share": _round(good.share),
            "failure_minutes": _round(good.failure_minutes),
            "checkpoint_interval_minutes": _round(good.interval_minutes),
            "tokens_per_second": _round(plan.tokens_per_second * good.share),
        }
    if known is not None:
        out["calibration"] = {name: _round(factor.factor) for name, factor in known.phases.items()}
    return out


def _proof(proof: Proof) -> JsonObject:
    return {
        "status": proof.status,
        "bound": _round(proof.bound_seconds),
        "gap": _round(proof.gap),
        "throughput_proved": proof.throughput_proved,
        "candidates": proof.candidates,
        "points": proof.points,
        "removed": [{"rule": r.rule, "count": r.count, "text": r.text} for r in proof.removed],
        "solver_rows": proof.solver_rows,
        "rounding_only": proof.rounding_only,
        "decided_by_rounding": proof.decided_by_rounding,
        "enumerated": proof.enumerated,
        "held": [{"path": one.path, "at": one.at, "opened": one.opened} for one in proof.held],
    }


def _nearest(nearest: Nearest) -> JsonObject:
    return {
        "text": list(nearest.sentences),
        "largest_headroom_gib": nearest.feasible_headroom_gib,
        "plan": plan_document(nearest.plan) if nearest.plan is not None else None,
    }


def _comparison(comparison: PublishedColumns) -> JsonObject:
    return {
        "baseline": comparison.baseline.name if comparison.baseline is not None else None,
        "columns": [_case(case) for case in comparison.cases],
        "plan": _case(comparison.found) if comparison.found is not None else None,
        "changes_from": comparison.start_name,
        "changes": [_priced(change) for change in comparison.changes],
        "own_changes": [_priced(change) for change in comparison.own_changes],
        "contradictions": list(comparison.contradictions),
        "remarks": list(comparison.remarks),
        "left_out": list(comparison.left_out),
    }


def _case(case: ColumnCase) -> JsonObject:
    plan, published = case.plan, case.published
    return {
        "name": case.name,
        "num_gpus": plan.num_gpus,
        "verdict": case.verdict,
        "peak_gib": _round(plan.peak_gib),
        "headroom_gib": _round(plan.headroom_gib),
        "binding_phase": plan.binding.phase,
        "step_seconds": _round(plan.step_seconds),
        "relative_samples_per_second": _round(case.relative_samples),
        "relative_tokens_per_second": _round(case.relative_tokens),
        "sequence_length": plan.layout["sequence_length"],
        "changed_wishes": list(case.changed_wishes),
        "layout": layout_document(plan),
        "published": published.model_dump(mode="json") if published is not None else None,
    }


def _priced(change: Priced) -> JsonObject:
    return {
        "name": change.name,
        "peak_gib": _round(change.peak_gib),
        "headroom_gib": _round(change.headroom_gib),
        "training_peak_gib": _round(change.training_gib),
        "relative_samples_per_second": _round(change.relative_samples),
        "relative_tokens_per_second": _round(change.relative_tokens),
    }


def _dies_in(plan: Plan) -> JsonObject | None:
    first = dies_in(plan)
    if first is None:
        return None
    return {"stage": first.stage, "phase": first.phase, "missing_gib": _round(missing_gib(plan, first))}


def _entry(entry: Entry, unit: str) -> JsonObject:
    return {"name": entry.name, unit: _round(entry.amount), "source": entry.source}


def _round(value: float | None) -> float | None:
    """Nine decimals: far below anything that is known, and no noise of the last bit."""
    return None if value is None else round(float(value), 9)
