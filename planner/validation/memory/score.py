"""Scores of predictions: relative and absolute errors by class, source and engine; fit or out of memory; the bars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from planner.inputs.memory_spread import TOY_GIB
from planner.validation.memory.cases import CLASSES, KEPT_ASIDE, STACKS, Case, first_look
from planner.validation.memory.express import Prediction, Unexpressed


@dataclass(frozen=True)
class MemoryBar:
    """What a class must reach."""

    name: str
    unit: Literal["relative", "MiB"]
    median: float
    p90: float
    others: str
    """What public tools reach on such rows."""


BARS: tuple[MemoryBar, ...] = (
    MemoryBar(
        "megatron-dense",
        "relative",
        0.015,
        0.03,
        "0.3 % SimuMax (its own rows), 4.2 % Megatron-LM, 10-15 % llm-analysis",
    ),
    MemoryBar("megatron-toy", "MiB", 64, 192, "none"),
    MemoryBar("megatron-moe", "relative", 0.03, 0.08, "about 1 % SimuMax (its own rows)"),
    MemoryBar(
        "nanotron", "relative", 0.06, 0.18, "10.4 % / 34 % for a 20-line closed form, 18 % mean for a careful one"
    ),
    MemoryBar("fsdp", "relative", 0.06, 0.18, "none published"),
    MemoryBar("single-allocated", "relative", 0.05, 0.15, "none published"),
    MemoryBar("single-reserved", "relative", 0.10, 0.25, "none"),
    MemoryBar("prime-rl", "relative", 0.10, 0.25, "none"),
)
LATER_BARS: dict[str, tuple[float, float | None]] = {
    "fsdp1-adapters": (0.05, 0.12),
    "one-gpu": (0.03, 0.12),
    "megatron-adapters": (0.03, 0.09),
    "torchtitan": (0.08, 0.20),
    "litgpt": (0.10, 0.22),
    "torchtune": (0.20, None),
    "torchtune-doubtful": (0.20, None),
}
"""Median and 90th percentile that a stack must reach on development rows 2, all of them."""
HARD_ACCURACY = 0.92
"""Least share of hard fit/OOM rows called right."""
OOM_AMONG_SAFE = 0.01
"""Largest share of runs that ran out of memory among those called safe."""
SAFE_SUCCESSES = 0.95
"""Least share of real successes that are called safe."""


@dataclass(frozen=True)
class Score:
    """Errors of some predictions."""

    name: str
    """Class, source or engine."""
    metric: str
    predictions: tuple[Prediction, ...]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.predictions)

    def _errors(self, unit: str) -> np.ndarray:
        return np.array([p.error_mib if unit == "MiB" else p.error for p in self.predictions])

    def median(self, unit: str = "relative") -> float:
        """Median absolute error, a share or MiB."""
        return float(np.median(np.abs(self._errors(unit))))

    def p90(self, unit: str = "relative") -> float:
        """90th percentile of the absolute error, a share or MiB."""
        return float(np.quantile(np.abs(self._errors(unit)), 0.9))

    def bias(self, unit: str = "relative") -> float:
        """Median signed error, a share or MiB; positive where the planner says more than was measured."""
        return float(np.median(self._errors(unit)))

    @property
    def worst(self) -> Prediction:
        """The largest relative error."""
        return max(self.predictions, key=lambda p: abs(p.error))


@dataclass(frozen=True)
class Reached:
    """A bar beside the score."""

    bar: MemoryBar
    score: Score

    @property
    def ok(self) -> bool:
        """Both the median and the 90th percentile."""
        return self.score.median(self.bar.unit) <= self.bar.median and self.score.p90(self.bar.unit) <= self.bar.p90


@dataclass(frozen=True)
class Fit:
    """Fit or out of memory: what was called, what happened."""

    predictions: tuple[Prediction, ...]

    def _share(self, of: Iterable[Prediction], that: Callable[[Prediction], bool]) -> float:
        picked = list(of)
        return sum(map(that, picked)) / len(picked) if picked else 1.0

    @property
    def hard(self) -> tuple[Prediction, ...]:
        """Rows that the frozen reference formula puts near the limit."""
        return tuple(p for p in self.predictions if p.case.hard)

    @property
    def accuracy(self) -> float:
        """Share of all rows called right."""
        return self._share(self.predictions, _right)

    @property
    def hard_accuracy(self) -> float:
        """Share of hard rows called right."""
        return self._share(self.hard, _right)

    @property
    def oom_among_safe(self) -> float:
        """Share that ran out of memory among those called safe."""
        safe = [p for p in self.predictions if is_safe(p)]
        return self._share(safe, lambda p: p.case.outcome == "oom") if safe else 0.0

    @property
    def safe_successes(self) -> float:
        """Share of successes that are called safe."""
        return self._share((p for p in self.predictions if p.case.outcome == "fit"), is_safe)

    @property
    def ok(self) -> bool:
        """All three bars."""
        safe = self.oom_among_safe <= OOM_AMONG_SAFE and self.safe_successes >= SAFE_SUCCESSES
        return safe and self.hard_accuracy >= HARD_ACCURACY


def fits(p: Prediction) -> bool:
    """More likely than not: the predicted peak of the fullest card leaves the share that the engine calls critical."""
    return p.peak_gib <= p.usable_gib * (1 - p.group.problem.engine.critical_headroom_fraction)


def is_safe(p: Prediction) -> bool:
    """The planner would offer the layout: the peak leaves the headroom that it demands by default."""
    return p.peak_gib <= p.usable_gib - p.group.problem.headroom_gib


def _right(p: Prediction) -> bool:
    return fits(p) == (p.case.outcome == "fit")


@dataclass(frozen=True)
class StackScores:
    """A training stack on the rows of each development, all metrics together; None where it has none."""

    name: str
    first: Score | None
    """In view from the start; runs under 5 GiB left out."""
    second: Score | None
    """Kept aside until November 2026."""
    third: Score | None
    """Read and committed on 2026-11-22 before they were costed."""
    fourth: Score | None
    """The next such rows, in view since they were looked at."""
    fifth: Score | None
    """Those after them."""
    sixth: Score | None
    """Those of the day after."""

    @property
    def scores(self) -> tuple[Score | None, ...]:
        """In that order."""
        return self.first, self.second, self.third, self.fourth, self.fifth, self.sixth


@dataclass(frozen=True)
class MemoryResult:
    """Everything a report prints."""

    predictions: tuple[Prediction, ...]
    """Every case that could be expressed, scored or not."""
    unexpressed: tuple[Unexpressed, ...]

    @property
    def scored(self) -> tuple[Prediction, ...]:
        """Those that count: a value, and no defect of the data."""
        return tuple(p for p in self.predictions if p.case.memory_gib is not None and p.case.excluded is None)

    @property
    def excluded(self) -> tuple[Case, ...]:
        """Cases with a known defect, expressed or not."""
        cases = [p.case for p in self.predictions] + [u.case for u in self.unexpressed]
        return tuple(sorted((c for c in cases if c.excluded), key=lambda c: (c.source, c.id)))

    def classes(self) -> list[Score]:
        """One score a class and metric, in the order of CLASSES."""
        return self._by(lambda p: p.case.scored_in, list(CLASSES))

    def sources(self) -> list[Score]:
        """One score a source, engine and metric."""
        return self._by(lambda p: f"{p.case.source} / {p.group.problem.engine.id}")

    def stacks(self) -> list[StackScores]:
        """Every stack with rows, in STACKS' order."""
        out = []
        for name in STACKS:
            parts: dict[int, list[Prediction]] = {number: [] for number in range(1, KEPT_ASIDE)}
            for p in (p for p in self.scored if p.case.stack == name):
                if p.case.development > 1 or (p.case.memory_gib or 0) >= TOY_GIB:
                    parts[p.case.development].append(p)
            if any(parts.values()):
                scores = (Score(name, "all", tuple(rows)) if rows else None for rows in parts.values())
                out.append(StackScores(name, *scores))
        return out

    def whole_stack(self, name: str) -> Score | None:
        """All developments of a stack together, toys left out."""
        own = next((stack for stack in self.stacks() if stack.name == name), None)
        rows = tuple(p for score in own.scores if score is not None for p in score.predictions) if own else ()
        return Score(name, "all", rows) if rows else None

    def first_look(self, folder: Path) -> dict[tuple[str, int], Score]:
        """Scores of rows as they were predicted before anyone had seen them, by stack and development."""
        told = first_look(folder)
        found: dict[tuple[str, int], list[Prediction]] = {}
        for p in self.scored:
            if p.case.id in told:
                key = p.case.stack, p.case.development
                found.setdefault(key, []).append(replace(p, gib=told[p.case.id]))
        return {key: Score(key[0], "all", tuple(rows)) for key, rows in found.items()}

    @property
    def later_ok(self) -> dict[str, bool]:
        """Which bars on development rows 2 are reached, of those that have rows."""
        reached = {}
        for stack in self.stacks():
            score = stack.second
            if score is not None and stack.name in LATER_BARS:
                median, p90 = LATER_BARS[stack.name]
                reached[stack.name] = score.median() <= median and (p90 is None or score.p90() <= p90)
        return reached

    def _by(self, key: Callable[[Prediction], str], order: Sequence[str] = ()) -> list[Score]:
        found: dict[tuple[str, str], list[Prediction]] = {}
        for p in self.scored:
            found.setdefault((key(p), p.case.metric), []).append(p)
        rank = {name: index for index, name in enumerate(order)}
        keys = sorted(found, key=lambda k: (rank.get(k[0], 0), k))
        return [Score(name, metric, tuple(found[name, metric])) for name, metric in keys]

    def bars(self) -> list[Reached]:
        """Every bar whose class has rows."""
        out = []
        for bar in BARS:
            rows = tuple(p for p in self.scored if p.case.scored_in == bar.name)
            if rows:
                out.append(Reached(bar, Score(bar.name, "/".join(sorted({p.case.metric for p in rows})), rows)))
        return out

    def fit(self) -> Fit | None:
        """Fit or out of memory, where such rows are among the cases."""
        rows = tuple(p for p in self.predictions if p.case.metric == "fit_oom")
        return Fit(rows) if rows else None

    @property
    def ok(self) -> bool:
        """Every bar that has rows is reached."""
        fit = self.fit()
        return all(r.ok for r in self.bars()) and all(self.later_ok.values()) and (fit is None or fit.ok)
