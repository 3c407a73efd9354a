"""Two plans side by side, and the differences of their ledgers: scenarios, overrides of one, or saved plans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from planner.analysis.restored import changed_facts, restored
from planner.errors import InputError, Mistake, NoLayoutFits, NoVerdict, Place
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, validate
from planner.inputs.json_document import read_json
from planner.inputs.saved import load, looks_like_json, saved_answer
from planner.problem.problem import Question
from planner.schema.base import Gib, OneLine, Seconds, SomeGib
from planner.search.decisions import layout_document
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.search.search import plan, why_nothing_fits
from planner.search.shown import Shown

Amount = Annotated[float, Field(ge=-(2**24), le=2**24)]
"""A difference of memory. [GiB]"""
Rate = Annotated[float, Field(ge=1e-6, le=1e15)]
"""[tokens/s]"""
Decision = bool | int | float | OneLine | list[int] | list[str] | None


class _Saved(BaseModel):
    """Part of a saved plan; what this version does not know is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SavedAmount(_Saved):
    """One item of a saved memory ledger."""

    name: OneLine
    gib: Amount


class SavedSeconds(_Saved):
    """One item of a saved time ledger."""

    name: OneLine
    seconds: Seconds


class SavedPhase(_Saved):
    """One stage in one phase."""

    stage: int | None = None
    phase: OneLine
    total_gib: Amount
    items: list[SavedAmount]


class SavedMemory(_Saved):
    """Memory of a saved plan."""

    peak_gib: Gib
    usable_gib: SomeGib
    headroom_gib: Amount
    given_back_gib: Amount = 0.0
    """Older answers do not say it."""
    binding_stage: int | None
    binding_phase: OneLine
    stages: list[SavedPhase] = Field(min_length=1)


class SavedTime(_Saved):
    """Time of a saved plan."""

    step_seconds: float = Field(ge=1e-6, le=1e9)
    tokens_per_second: Rate
    tokens_per_second_per_gpu: Rate
    mfu: float = Field(ge=0, le=10)
    model_tflops_per_gpu: float | None = Field(default=None, ge=0, le=1e6)
    """Older answers do not say it."""
    items: list[SavedSeconds] = Field(min_length=1)


class SavedPlan(_Saved):
    """The plan of a saved answer."""

    layout: dict[OneLine, Decision]
    memory: SavedMemory
    time: SavedTime


class SavedAnswer(_Saved):
    """What `planner solve --format json` writes, as far as a comparison reads it."""

    status: OneLine
    plan: SavedPlan | None


DOES_NOT_FIT = "does not fit"
"""Status of a pinned layout that leaves less free than is demanded."""


@dataclass(frozen=True)
class Side:
    """One of the two plans."""

    name: str
    status: str
    """optimal, feasible, or what an estimate of a pinned layout says: fits, does not fit."""
    layout: dict[str, Any]
    usable_gib: float
    peak_gib: float
    headroom_gib: float
    stage: int | None
    """Stage that binds; None for the rollout engine."""
    phase: str
    """Phase that binds."""
    memory: tuple[tuple[str, float], ...]
    """Items of the binding phase. [GiB]"""
    time: tuple[tuple[str, float], ...]
    """[s]"""
    step_seconds: float
    tokens_per_second: float
    tokens_per_second_per_gpu: float
    mfu: float
    model_tflops_per_gpu: float | None
    """None for a saved plan of before it was stated."""
    document: Document
    """The scenario, or the saved plan."""
    scenario: str | None = None
    """File to solve again; None for a saved plan."""
    question: Question | None = None
    """None for a saved plan."""
    provenance: tuple[tuple[str, str], ...] = ()
    known_errors: tuple[str, ...] = ()
    given_back_gib: float = 0.0
    """Of its allocator's estimated reserve, what finds no room: it starts only if so much is given back. [GiB]"""
    """What is known of the error of these figures; a saved plan's stand in its own file."""
    remark: str | None = None
    """Where the side comes from, for a file that is no scenario."""

    @property
    def overrides(self) -> tuple[str, ...]:
        """The --set arguments of the scenario."""
        return self.document.overrides


@dataclass(frozen=True)
class Difference:
    """One item on both sides."""

    name: str
    a: float
    b: float

    @property
    def change(self) -> float:
        """B less A."""
        return self.b - self.a


@dataclass(frozen=True)
class Differences(Shown):
    """Two sides and the differences of their ledgers, largest first."""

    a: Side
    b: Side
    layout: tuple[tuple[str, Any, Any], ...]
    """(decision, A, B) of every decision, in a fixed order."""
    memory: tuple[Difference, ...]
    """Items of each side's binding phase. [GiB]"""
    time: tuple[Difference, ...]
    """[s]"""


def differences(a: Iterable[tuple[str, float]], b: Iterable[tuple[str, float]]) -> tuple[Difference, ...]:
    """Items of both ledgers by name, largest difference first; an item that one side lacks is zero there."""
    left, right = _by_name(a), _by_name(b)
    rows = [Difference(name, left.get(name, 0.0), right.get(name, 0.0)) for name in {**left, **right}]
    return tuple(sorted(rows, key=lambda row: (-abs(row.change), -max(row.a, row.b), row.name)))


def compare(a: Side, b: Side) -> Differences:
    """Every decision and every item of two plans."""
    names = dict.fromkeys([*a.layout, *b.layout])
    rows = tuple((name, a.layout.get(name), b.layout.get(name)) for name in names)
    return Differences(a, b, rows, differences(a.memory, b.memory), differences(a.time, b.time))


def read_side(
    path: str, overrides: tuple[str, ...] = (), catalog: Catalog | None = None, *, check_points: int = 0
) -> Side:
    """A scenario (solved; estimated where it pins all and does not fit) or a saved plan as one side.

    A saved plan is not searched again; with overrides its scenario is. Where its facts have changed since, or it is not
    legal any more, it stands with the figures that were saved; the side's remark says which.
    """
    catalog = catalog or default_catalog()
    if path == "-" or not looks_like_json(path):
        return side_of(load(path, overrides), catalog, check_points=check_points)
    if not overrides:
        return _restored_side(path, catalog)
    document = load(path, overrides)
    return replace(side_of(document, catalog, check_points=check_points), remark=asked_again(path, document))


def asked_again(path: str, document: Document) -> str | None:
    """That the scenario of a saved plan was solved with other values; None for a scenario that was named itself."""
    if path in ("-", document.name):
        return None
    return f"{path}: its scenario {document.name} is solved again with {' '.join(document.overrides)}"


def _restored_side(path: str, catalog: Catalog) -> Side:
    """A saved plan as it is today where that is what was saved, else with the figures in the file."""
    side, answer = saved_side(path), saved_answer(path)
    if answer is None or answer.data.get("command") != "solve":
        return replace(side, remark=f"{path}: figures as they were saved")
    try:
        outcome = restored(answer, catalog)
    except InputError as error:
        return replace(side, remark=f"{path}: figures as they were saved; {error.problems[0].because}")
    changed = changed_facts(answer, outcome)
    if changed or outcome.plan is None:
        return replace(side, remark=f"{path}: figures as they were saved; {', '.join(changed[:3])} changed since")
    document = outcome.question.document
    remark = f"{path}: the saved plan of {document.name}, not searched again"
    name = " ".join([document.name, *document.overrides])
    return replace(plan_side(name, outcome.status, outcome.plan), remark=remark)


def side_of(document: Document, catalog: Catalog, *, check_points: int = 0) -> Side:
    """Solve a scenario. Raises NoLayoutFits where nothing fits, unless the scenario pins the whole layout."""
    outcome = plan(document, catalog, check_points=check_points)
    name = " ".join([document.name, *document.overrides])
    if outcome.plan is not None:
        return plan_side(name, outcome.status, outcome.plan)
    if outcome.status == "unknown":
        raise NoVerdict(f"no verdict on {name} within search.time_limit_s")
    try:
        pinned = estimate(document, catalog)
    except InputError:
        raise NoLayoutFits(f"no layout fits {name}: {why_nothing_fits(outcome)}") from None
    return plan_side(name, DOES_NOT_FIT, pinned)


def plan_side(name: str, status: str, found: Plan) -> Side:
    """A plan as one side."""
    return Side(
        name=name,
        status=status,
        layout=layout_document(found),
        usable_gib=found.usable_gib,
        peak_gib=found.peak_gib,
        headroom_gib=found.headroom_gib,
        stage=found.binding.stage,
        phase=found.binding.phase,
        memory=tuple((item.name, item.amount) for item in found.binding.items),
        time=tuple((entry.name, entry.amount) for entry in found.time),
        step_seconds=found.step_seconds,
        tokens_per_second=found.tokens_per_second,
        tokens_per_second_per_gpu=found.tokens_per_second / found.num_gpus,
        mfu=found.mfu,
        model_tflops_per_gpu=found.model_tflops_per_gpu,
        document=found.problem.document,
        scenario="-" if found.problem.document.name == "<stdin>" else found.problem.document.name,
        question=found.problem.alone,
        provenance=found.problem.provenance,
        known_errors=found.problem.alone.known_error_texts,
        given_back_gib=found.given_back_gib,
    )


def saved_side(path: str) -> Side:
    """A plan written by `planner solve --format json`. Raises InputError for anything else."""
    document = read_json(path)
    answer = validate(document, SavedAnswer)
    if answer.plan is None:
        raise InputError(Mistake(f"{path} holds no plan", Place(path), f"its status is {answer.status}"))
    memory, time = answer.plan.memory, answer.plan.time
    binding = [s for s in memory.stages if (s.stage, s.phase) == (memory.binding_stage, memory.binding_phase)]
    if not binding:
        raise InputError(
            Mistake(
                f"{path} does not hold the ledger of the phase that it calls binding",
                Place(path, path="plan.memory.stages"),
                f"stage {memory.binding_stage}, {memory.binding_phase} is not among them",
            )
        )
    return Side(
        name=path,
        status=answer.status,
        layout=dict(answer.plan.layout),
        usable_gib=memory.usable_gib,
        peak_gib=memory.peak_gib,
        headroom_gib=memory.headroom_gib,
        given_back_gib=memory.given_back_gib,
        stage=memory.binding_stage,
        phase=memory.binding_phase,
        memory=tuple((item.name, item.gib) for item in binding[0].items),
        time=tuple((item.name, item.seconds) for item in time.items),
        step_seconds=time.step_seconds,
        tokens_per_second=time.tokens_per_second,
        tokens_per_second_per_gpu=time.tokens_per_second_per_gpu,
        mfu=time.mfu,
        model_tflops_per_gpu=time.model_tflops_per_gpu,
        document=document,
    )


def _by_name(items: Iterable[tuple[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, amount in items:
        total[name] = total.get(name, 0.0) + amount
    return total
