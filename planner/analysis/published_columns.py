"""A scenario's `compare:` block worked out: its columns by our accounting, the plan beside them, each change alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.analysis.published_arithmetic import contradictions
from planner.errors import InputError, Mistake
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override
from planner.schema.scenario import Published
from planner.search.estimate import estimate
from planner.search.plan import WISHES, Plan, verdict
from planner.search.search import Outcome

PLAN = "the plan"


@dataclass(frozen=True)
class ColumnCase:
    """One configuration: its plan by our accounting, and what was published about it."""

    name: str
    plan: Plan
    published: Published | None
    verdict: str
    relative_samples: float | None
    """Trained samples (sequences) a second over the baseline's."""
    relative_tokens: float | None
    changed_wishes: tuple[str, ...]
    """Wishes whose value is not the wanted one: throughput is then of other work."""


@dataclass(frozen=True)
class Priced:
    """What one change does, alone."""

    name: str
    peak_gib: float
    """Difference. [GiB]"""
    headroom_gib: float
    training_gib: float
    """Difference of the training phases' peak. [GiB]"""
    relative_samples: float
    relative_tokens: float


@dataclass(frozen=True)
class PublishedColumns:
    """Everything that is printed beside a plan."""

    cases: tuple[ColumnCase, ...]
    baseline: ColumnCase | None
    found: ColumnCase | None
    start: Plan | None
    """The configuration that each change is applied to, alone."""
    start_name: str | None
    changes: tuple[Priced, ...]
    own_changes: tuple[Priced, ...]
    """What the plan itself does differently from `start`, each alone."""
    contradictions: tuple[str, ...]
    remarks: tuple[str, ...]
    left_out: tuple[str, ...]
    """Columns that an override makes impossible, with the reason."""


def training_peak_gib(plan: Plan) -> float:
    """Largest memory while the trainer works, whatever the rollout engine needs. [GiB]"""
    return max(phase.total_gib for phase in plan.memory if phase.stage is not None)


def compare_columns(outcome: Outcome, catalog: Catalog) -> PublishedColumns | None:
    """Work out the `compare:` block; None where the scenario has none.

    Raises InputError where a column does not pin its layout or is refused. With overrides it is left out instead.
    """
    question = outcome.question
    spec, document = question.scenario.compare, question.document
    if not spec.columns:
        return None
    plans: dict[str, Plan] = {}
    left_out = []
    for column in spec.columns:
        try:
            plans[column.name] = estimate(override(document, column.set), catalog)
        except InputError as error:
            if not document.overrides:
                raise
            left_out.append(f'"{column.name}" is left out: {_reason(error)}')
    columns = [column for column in spec.columns if column.name in plans]
    base = next((plans[column.name] for column in columns if column.baseline), None)

    def case(name: str, plan: Plan, published: Published | None) -> ColumnCase:
        return ColumnCase(
            name=name,
            plan=plan,
            published=published,
            verdict=verdict(plan, question.first.headroom_gib),
            relative_samples=plan.samples_per_second / base.samples_per_second if base is not None else None,
            relative_tokens=plan.tokens_per_second / base.tokens_per_second if base is not None else None,
            changed_wishes=_changed(plan, outcome),
        )

    cases = tuple(case(column.name, plans[column.name], column.published) for column in columns)
    start: Plan | None = None
    changes: tuple[Priced, ...] = ()
    own: tuple[Priced, ...] = ()
    try:
        start, changes, own = _priced_changes(outcome, catalog)
    except InputError as error:
        if not document.overrides:
            raise
        left_out.append(f"the changes alone are left out: {_reason(error)}")
    return PublishedColumns(
        cases=cases,
        baseline=next((c for c, column in zip(cases, columns, strict=True) if column.baseline), None),
        found=case(PLAN, outcome.plan, None) if outcome.plan is not None else None,
        start=start,
        start_name=spec.changes_from if start is not None else None,
        changes=changes,
        own_changes=own,
        contradictions=contradictions([(c.name, c.plan, c.published) for c in cases if c.published is not None]),
        remarks=tuple(" ".join(remark.split()) for remark in spec.remarks),
        left_out=tuple(left_out),
    )


def _reason(error: InputError) -> str:
    first = error.problems[0]
    return first.what + (f" ({first.because})" if first.because else "")


def _changed(plan: Plan, outcome: Outcome) -> tuple[str, ...]:
    """Wishes of the scenario that a plan does not grant, by name."""
    wanted = outcome.question.wishes[0]
    names = [name for name in WISHES if name != "optimizer" and getattr(plan.wish, name) != getattr(wanted, name)]
    if outcome.question.is_rl and "response_length" in names:
        names.remove("sequence_length")
    optimizer = outcome.question.optimizers[wanted.optimizer].id
    if plan.problem.optimizers[plan.wish.optimizer].id != optimizer:
        names.append("optimizer")
    return tuple(names)


def _priced_changes(outcome: Outcome, catalog: Catalog) -> tuple[Plan | None, tuple[Priced, ...], tuple[Priced, ...]]:
    """(start, published changes, the plan's own changes), each change alone on top of the start."""
    question = outcome.question
    spec, document = question.scenario.compare, question.document
    if spec.changes_from is None:
        return None, (), ()
    known = {column.name: column.set for column in spec.columns}
    if spec.changes_from not in known:
        raise InputError(
            Mistake(
                f"compare.changes_from names no column: {spec.changes_from!r}",
                document.place(("compare", "changes_from")),
                f"the columns are {', '.join(known)}",
            )
        )
    begun = override(document, {**known[spec.changes_from], **spec.changes_set})
    start = estimate(begun, catalog)
    changes = tuple(_priced(change.name, change.set, begun, start, catalog) for change in spec.changes)
    own = []
    if outcome.plan is not None:
        for name, changed in _own_changes(start, outcome.plan):
            try:
                own.append(_priced(name, changed, begun, start, catalog))
            except InputError:
                continue  # alone it breaks a rule; together with the others it does not
    return start, changes, tuple(own)


def _priced(name: str, changed: Mapping[str, Any], begun: Document, start: Plan, catalog: Catalog) -> Priced:
    plan = estimate(override(begun, changed), catalog)
    return Priced(
        name=name,
        peak_gib=plan.peak_gib - start.peak_gib,
        headroom_gib=plan.headroom_gib - start.headroom_gib,
        training_gib=training_peak_gib(plan) - training_peak_gib(start),
        relative_samples=plan.samples_per_second / start.samples_per_second,
        relative_tokens=plan.tokens_per_second / start.tokens_per_second,
    )


def _own_changes(start: Plan, plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    """The plan's decisions that differ from the start, grouped so that each group is legal alone."""
    changes: list[tuple[str, dict[str, Any]]] = []
    before, after = start.layout, plan.layout
    names = ("tensor_parallel", "pipeline_parallel", "data_parallel", "context_parallel", "micro_batch_size")
    if any(before[name] != after[name] for name in ("num_gpus", *names)):
        wanted: dict[str, Any] = {
            f"{'batch' if name == 'micro_batch_size' else 'layout'}.{name}": after[name] for name in names
        }
        text = ", ".join(
            f"{short} {before[name]} to {after[name]}"
            for short, name in zip(("TP", "PP", "DP", "CP", "micro-batch"), names, strict=True)
            if before[name] != after[name]
        )
        changes.append((text or "GPUs", {"cluster.num_gpus": after["num_gpus"], **wanted}))
    if len(set(plan.recomputed)) == 1 and len(set(start.recomputed)) == 1 and plan.recomputed[0] != start.recomputed[0]:
        text = f"recomputed layers a stage {start.recomputed[0]} to {plan.recomputed[0]}"
        changes.append((text, {"layout.recomputed_layers": plan.recomputed[0]}))
    if plan.rollout is not None and start.rollout is not None:
        old, new = start.rollout, plan.rollout
        if old.tensor_parallel != new.tensor_parallel:
            text = f"rollout engine TP {old.tensor_parallel} to {new.tensor_parallel}"
            changes.append((text, {"rl.rollout.tensor_parallel": new.tensor_parallel}))
        if old.gpu_memory_utilization != new.gpu_memory_utilization:
            text = f"rollout memory fraction {old.gpu_memory_utilization:g} to {new.gpu_memory_utilization:g}"
            changes.append((text, {"rl.rollout.gpu_memory_utilization": new.gpu_memory_utilization}))
    return changes
