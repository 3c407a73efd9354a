"""What left-out speeds say, as blocks and as data: errors by class beside the in-sample ones, and every refit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.report.blocks import Block, Grid, Heading, Text
from planner.validation.throughput.cases import CLASSES
from planner.validation.throughput.express import Estimate
from planner.validation.throughput.left_out import LeftOutSpeeds
from planner.validation.throughput.score import Accuracy, accuracy

NOT_REFITTED = (
    "CAST_BYTES of planner/costs/time/kernels.py (fp8 rows of H100) and TRITON_SHARE of planner/formulas/attention.py "
    "(llm-foundry) stand in the code and are not refitted; what was chosen among mechanisms was chosen with all rows "
    "in view."
)


def percent(value: float, sign: bool = False) -> str:
    """A share with one digit; a dash where there is none."""
    return "-" if value != value else f"{value:+.1%}" if sign else f"{value:.1%}"


def by_class(estimates: Sequence[Estimate], left: LeftOutSpeeds) -> list[tuple[str, Accuracy, Accuracy, int]]:
    """(class, error as shipped, error left out, rows still in-sample) of every class with rows."""
    out = []
    for name in CLASSES:
        now = [e for e in estimates if e.speed.accuracy == name]
        apart = [e for e in left.estimates if e.speed.accuracy == name]
        if now:
            out.append((name, accuracy(name, now), accuracy(name, apart), left.in_sample(apart)))
    return out


def left_out_blocks(estimates: Sequence[Estimate], left: LeftOutSpeeds) -> list[Block]:
    """Both errors of each class, and the constants without each group."""
    classes = tuple(
        (
            name,
            str(now.rows),
            *(percent(value) for value in (now.median, apart.median, now.p90, apart.p90)),
            percent(apart.bias, True),
            "all" if inside == now.rows else str(inside),
        )
        for name, now, apart, inside in by_class(estimates, left)
    )
    refits = tuple(
        (
            refit.fitted.name,
            f"{refit.shipped:g}",
            refit.fitted.data,
            refit.group,
            "in-sample" if refit.value is None else f"{refit.value:.4g}",
            str(refit.rows),
        )
        for refit in left.refits
    )
    return [
        Heading(f"Error of tokens/s, constants fitted without the row's {left.by}"),
        Grid(
            ("class", "rows", "median", "left out", "p90", "left out", "bias, left out", "in-sample"),
            classes,
            left=frozenset({0}),
        ),
        Text(
            f"In-sample: rows that rest on a constant which rows of that {left.by} alone set. Rows without any fitted "
            f"constant are the same in both. {NOT_REFITTED}"
        ),
        Grid(
            ("constant", "shipped", "fitted on", f"without {left.by}", "fitted again", "rows that rest on it"),
            refits,
            left=frozenset({0, 2, 3}),
        ),
    ]


def left_out_document(estimates: Sequence[Estimate], left: LeftOutSpeeds) -> dict[str, Any]:
    """The same for programs."""
    return {
        "by": left.by,
        "classes": [
            {
                "class": name,
                "rows": apart.rows,
                "median": apart.median,
                "p90": apart.p90,
                "bias": apart.bias,
                "in_sample_rows": inside,
            }
            for name, _, apart, inside in by_class(estimates, left)
        ],
        "refits": [
            {
                "constant": refit.fitted.name,
                "shipped": refit.shipped,
                "without": refit.group,
                "value": refit.value,
                "rows": refit.rows,
            }
            for refit in left.refits
        ],
    }
