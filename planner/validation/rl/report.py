"""The section on RL steps of the throughput report."""

from __future__ import annotations

from collections import Counter
from typing import Any

from planner.report.blocks import Block, Grid, Heading, Text
from planner.validation.rl.steps import RlResult, RlScore
from planner.validation.throughput.score import Bar

NAMES = {"rollout": "rollout", "log_probs": "log-probs", "train": "train"}


def rl_bar(result: RlResult) -> Bar:
    """Share of rows whose phase shares are all within 10 points."""
    within, rows = result.bar
    value = within / rows if rows else float("nan")
    return Bar("RL: rows with every phase share within 10 points", "100 %", value, within == rows, rows)


def rl_blocks(result: RlResult) -> list[Block]:
    """Every row calibrated on the middle row of its series, the worst over other choices, and what was left out."""
    usual = [score for score in result.scores if score.usual]
    rows = tuple(
        (
            score.row.series,
            score.row.id,
            str(score.row.run.num_gpus),
            score.base.id,
            "  ".join(
                f"{NAMES[name]} {share:.0%} ({score.row.shares[name]:.0%})" for name, share in score.shares.items()
            ),
            f"{score.worst[1] * 100:+.1f}",
            f"{_other(result, score) * 100:+.1f}",
            f"{score.step_seconds:.0f}",
            f"{score.row.facts['step_time_s']:.0f}",
            f"{score.step_error:+.0%}",
        )
        for score in usual
    )
    reasons = Counter(reason for _, reason in result.left_out)
    return [
        Heading("RL steps: shares of the phases after calibration on one row of the series"),
        Grid(
            (
                "series",
                "row",
                "GPUs",
                "calibrated on",
                "shares, predicted (measured)",
                "worst, points",
                "worst, other row",
                "step s",
                "measured",
                "error",
            ),
            rows,
            left=frozenset({0, 1, 3, 4}),
        ),
        Text(
            "Lengths of responses are not published; assumed in rl_series.yaml. Series are calibrated on their middle "
            "row by GPUs; the column beside shows the worst when calibrated on another. Asynchronous rows print the "
            "wait left of generation: it is carried over, only training is predicted."
        ),
        Grid(("RL steps not scored", "rows"), tuple((reason, str(n)) for reason, n in sorted(reasons.items()))),
    ]


def _other(result: RlResult, score: RlScore) -> float:
    """The largest difference of this row when another row is calibrated on."""
    others = [s.worst[1] for s in result.scores if s.row.id == score.row.id and not s.usual]
    return max(others, key=abs, default=float("nan"))


def rl_document(result: RlResult) -> dict[str, Any]:
    """The same for programs."""
    return {
        "scores": [
            {
                "id": score.row.id,
                "series": score.row.series,
                "calibrated_on": score.base.id,
                "counts_for_bar": score.usual,
                "shares": dict(score.shares),
                "measured_shares": score.row.shares,
                "step_seconds": score.step_seconds,
                "measured_step_seconds": score.row.facts["step_time_s"],
            }
            for score in result.scores
        ],
        "not_scored": [{"id": name, "reason": reason} for name, reason in result.left_out],
    }
