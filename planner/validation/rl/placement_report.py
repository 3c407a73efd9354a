"""The table on placements of the throughput report: measured steps of RL with shared and with separate GPUs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from planner.report.blocks import Block, Grid, Heading, Text
from planner.validation.rl.placement import MORE, PRECISION, SEPARATE, PlacementResult, PlacementScore

COMPARED = {SEPARATE: "that shares as many GPUs", MORE: "that shares fewer GPUs", PRECISION: "in bf16"}
"""What the ratio of each kind of pair is taken to."""
COLUMNS = (
    "row",
    "GPUs",
    "step s",
    "measured",
    "error",
    "rollout s",
    "training s",
    "of peak",
    "sync s",
    "ratio",
    "error",
)


def placement_blocks(result: PlacementResult) -> list[Block]:
    """Every row, the medians, what systematically differs, and what was left out."""
    reasons = Counter(reason for _, reason in result.left_out)
    return [
        Heading("RL steps: trainer and rollout engine on shared and on separate GPUs, not calibrated"),
        Grid(COLUMNS, tuple(_row(score) for score in result.scores), left=frozenset({0, 1})),
        Text(
            f"Median error of the step: {_middle([s.step_error for s in result.scores])}. Ratio: the step of another "
            "row of the same work over this one; in brackets what was measured. Of peak: what the published update "
            f"asks of its GPUs at these lengths, recomputation counted; {_refuted(result)}. Lengths are printed by "
            "NeMo-RL only (means); "
            "those of verl are assumed, and rollouts that go on across weight syncs have no tail."
        ),
        Grid(
            ("ratio to a row", "lengths", "pairs", "median error", "bias", "worst", "faster one named"),
            tuple(_pairs(result, kind, printed) for kind in COMPARED for printed in (True, False)),
            left=frozenset({0, 1}),
        ),
        Grid(("RL placements not scored", "rows"), tuple((reason, str(n)) for reason, n in sorted(reasons.items()))),
    ]


def _pairs(result: PlacementResult, kind: str, printed: bool) -> tuple[str, ...]:
    pairs = result.pairs(kind, printed=printed)
    errors = [s.ratio_error for s in pairs if s.ratio_error is not None]
    named = (COMPARED[kind], "printed" if printed else "assumed", str(len(pairs)))
    if not errors:
        return (*named, "-", "-", "-", "-")
    middle, worst = median(abs(e) for e in errors), max(errors, key=abs)
    figures = (f"{middle:.0%}", f"{median(errors):+.0%}", f"{worst:+.0%}")
    return (*named, *figures, str(sum(s.ranked for s in pairs)))


def _row(score: PlacementScore) -> tuple[str, ...]:
    row, versus, off = score.row, score.versus, score.ratio_error
    ratio = ("-", "-") if versus is None or off is None else (f"{versus[0]:.2f} ({versus[1]:.2f})", f"{off:+.0%}")
    return (
        row.id,
        row.gpus,
        f"{score.step_seconds:.0f}",
        f"{row.step_seconds:.0f}",
        f"{score.step_error:+.0%}",
        f"{score.rollout_seconds:.0f}",
        f"{score.train_seconds:.0f}" + ("" if row.train_seconds is None else f" ({row.train_seconds:.0f})"),
        "-" if score.asked_of_peak is None else f"{score.asked_of_peak:.0%}",
        f"{score.switch_seconds:.0f}",
        *ratio,
    )


def _refuted(result: PlacementResult) -> str:
    """Rows whose assumed lengths cannot be: the update would run faster than its GPUs do."""
    names = [s.row.id for s in result.scores if s.asked_of_peak is not None and s.asked_of_peak > 1]
    return (
        f"more than all in {', '.join(names)}: these did less work than assumed" if names else "nowhere more than all"
    )


def _middle(errors: Sequence[float]) -> str:
    """Median of the absolute errors and of the signed ones."""
    if not errors:
        return "-"
    return f"{median(abs(e) for e in errors):.0%} (bias {median(errors):+.0%}, {len(errors)} rows)"


def placement_document(result: PlacementResult) -> dict[str, Any]:
    """The same for programs."""
    return {
        "scores": [
            {
                "id": score.row.id,
                "series": score.row.series,
                "placement": score.row.cells["mode"],
                "gpus": score.row.gpus,
                "step_seconds": score.step_seconds,
                "measured_step_seconds": score.row.step_seconds,
                "rollout_seconds": score.rollout_seconds,
                "train_seconds": score.train_seconds,
                "measured_train_seconds": score.row.train_seconds,
                "asked_of_peak": score.asked_of_peak,
                "sync_seconds": score.switch_seconds,
                "versus": score.row.versus or None,
                "pair": score.kind or None,
                "ratio": None if score.versus is None else score.versus[0],
                "measured_ratio": None if score.versus is None else score.versus[1],
                "source": score.row.cells["source"],
                "assumed": score.row.cells["assumed"],
            }
            for score in result.scores
        ],
        "not_scored": [{"id": name, "reason": reason} for name, reason in result.left_out],
    }
