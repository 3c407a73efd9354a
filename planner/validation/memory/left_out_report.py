"""What left-out errors say, as tables and as data: both developments beside them, refits, and what intervals hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from planner.inputs.memory_spread import TOY_GIB
from planner.report.json_text import JsonObject
from planner.validation.memory.cases import STACKS
from planner.validation.memory.coverage import BAR, BARRED_ROWS, Coverage, coverage
from planner.validation.memory.intervals import ErrorPool, ErrorRow, pool_of
from planner.validation.memory.left_out import LeftOutRows, left_out_errors, scored_left_out
from planner.validation.memory.reliability import reliability_data, reliability_table
from planner.validation.memory.score import LATER_BARS, MemoryResult, Score
from planner.validation.refit import By

Table = tuple[str, list[str], list[list[str]]]
"""Title, header, rows."""
_LOOKED_AT = (2, 3, 4, 5, 6)
"""Developments whose rows were scored before anyone had seen them."""


def percent(value: float, sign: bool = False) -> str:
    """A share with one digit."""
    return f"{value:+.1%}" if sign else f"{value:.1%}"


@dataclass(frozen=True)
class LeftOutReport:
    """Left-out errors, and the intervals that are made of them."""

    errors: LeftOutRows
    scored: MemoryResult
    """The result with left-out predictions in place of the shipped ones."""
    pool: ErrorPool
    coverages: tuple[Coverage, ...]
    """Each row's network and date left out of its interval."""
    without_source: tuple[Coverage, ...]
    """The same with its whole source left out."""
    first_look: dict[tuple[str, int], Score]
    """Errors on development rows 2 to 6 before anyone had seen them, by stack and development."""

    @property
    def ok(self) -> bool:
        """Every engine's interval holds enough of its rows."""
        return all(one.ok for one in self.coverages)


def left_out_of(result: MemoryResult, folder: Path, by: By = "source") -> LeftOutReport:
    """Refit, score and make intervals."""
    errors = left_out_errors(result, by)
    pool = pool_of(errors, folder)
    sources: Callable[[ErrorRow], object] = lambda row: row.case.source  # noqa: E731
    return LeftOutReport(
        errors=errors,
        scored=scored_left_out(result, errors),
        pool=pool,
        coverages=tuple(coverage(pool)),
        without_source=tuple(coverage(pool, sources)),
        first_look=result.first_look(folder),
    )


def developments(result: MemoryResult, left: LeftOutReport | None) -> Table:
    """Rows in view from the start, those kept aside, those read on 22 and 23 November (3 to 6), and all left out."""
    header = ["", "dev-1 rows", "median", "p90", "dev-2 rows", "median", "p90", "bar", "reached"]
    header += ["dev-3 rows", "median", "p90", "dev-4 rows", "median", "p90"]
    header += ["dev-5 rows", "median", "p90", "dev-6 rows", "median", "p90"]
    if left is not None:
        header += [f"dev-{number} before seen" for number in _LOOKED_AT]
        header += ["left out: rows", "median", "p90", "in-sample"]
    reached, rows = result.later_ok, []
    for stack in result.stacks():
        name = stack.name
        row = [STACKS[name], *_cells(stack.first), *_cells(stack.second)]
        bar = " / ".join(f"{part:.0%}" for part in LATER_BARS[name] if part is not None) if name in LATER_BARS else ""
        row += [bar, {True: "yes", False: "NO", None: ""}[reached.get(name)]]
        row += [*_cells(stack.third), *_cells(stack.fourth), *_cells(stack.fifth), *_cells(stack.sixth)]
        if left is not None:
            row += [" / ".join(_cells(left.first_look.get((name, number)))[1:]).strip(" /") for number in _LOOKED_AT]
            row += _left_cells(left, name)
        rows.append(row)
    by = f", and left out by {left.errors.by}" if left is not None else ""
    return f"Development rows 1 (of {TOY_GIB:g} GiB and more), 2 to 6 side by side{by}, every metric", header, rows


def _cells(score: Score | None) -> list[str]:
    return ["0", "", ""] if score is None else [str(score.rows), percent(score.median()), percent(score.p90())]


def _left_cells(left: LeftOutReport, stack: str) -> list[str]:
    score = left.scored.whole_stack(stack)
    if score is None:
        return ["0", "", "", ""]
    inside = sum(left.errors.standing[p.case.id] == "in-sample" for p in score.predictions)
    return [*_cells(score), "all" if inside == score.rows else str(inside)]


def coverages(left: LeftOutReport) -> Table:
    """How many rows lie in their engine's 90 % interval."""
    header = ["engine", "rows", "inside", "bar", "reached", "groups", "inside by group", "chance at 90 %"]
    header += ["below it", "like none", "inside of the others", "upper/lower end", "inside, whole source left out"]
    header += ["the same, as first said"]
    other = {one.name: one for one in left.without_source}
    rows = []
    for one in left.coverages:
        bar = f"{BAR[0]:.0%} to {BAR[1]:.0%}" if one.barred else ""
        row = [one.name, str(one.rows), percent(one.share), bar, one.said, str(len(one.by_group))]
        row += [percent(one.of_groups), percent(one.chance), str(one.below), str(one.unlike)]
        row += ["" if one.of_like is None else percent(one.of_like)]
        rows.append([*row, f"{one.width:.2f}", percent(other[one.name].share), percent(other[one.name].as_first_said)])
    title = f"Rows in the 90 % interval made without their network and date (bar from {BARRED_ROWS} rows)"
    return title, header, rows


def reliabilities(result: MemoryResult, left: LeftOutReport) -> Table:
    """The chance to fit that is printed, and what happened."""
    fit = result.fit()
    return reliability_table(fit, left.pool) if fit is not None else ("", [], [])


def refits(left: LeftOutReport) -> Table:
    """Every fitted number without each group."""
    header = [
        "fitted number",
        "shipped",
        f"without {left.errors.by}",
        "fitted again",
        "rows that rest on it",
        "assumed",
    ]
    rows = [
        [
            refit.number.name,
            f"{refit.number.value:g}",
            refit.group,
            "in-sample" if refit.value is None else f"{refit.value:.4g}",
            str(refit.rows),
            "yes" if refit.number.assumed else "",
        ]
        for refit in left.errors.refits
    ]
    return f"Fitted numbers, each fitted again without one {left.errors.by}", header, rows


def left_out_data(result: MemoryResult, left: LeftOutReport) -> JsonObject:
    """The same as plain data."""
    stacks = [(stack.name, left.scored.whole_stack(stack.name)) for stack in result.stacks()]
    fit = result.fit()
    return {
        "by": left.errors.by,
        "stacks": [
            {
                "stack": name,
                "rows": score.rows,
                "median": score.median(),
                "p90": score.p90(),
                "in_sample_rows": sum(left.errors.standing[p.case.id] == "in-sample" for p in score.predictions),
            }
            for name, score in stacks
            if score is not None
        ],
        "refits": [
            {
                "number": refit.number.name,
                "shipped": refit.number.value,
                "without": refit.group,
                "value": refit.value,
                "rows": refit.rows,
                "assumed": refit.number.assumed,
            }
            for refit in left.errors.refits
        ],
        "reliability": [] if fit is None else reliability_data(fit, left.pool),
        "coverage": [
            {
                "engine": one.engine,
                "under_5_gib": one.small,
                "rows": one.rows,
                "inside": one.share,
                "below": one.below,
                "like_none": one.unlike,
                "width": one.width,
                "inside_of_others": one.of_like,
                "groups": len(one.by_group),
                "inside_by_group": one.of_groups,
                "chance_at_90_percent": one.chance,
                "reached": one.ok,
            }
            for one in left.coverages
        ],
    }
