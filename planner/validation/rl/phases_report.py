"""The section on phases of RL steps of the throughput report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import median

from planner.report.blocks import Block, Grid, Heading, Text
from planner.validation.rl.left_out import LeftOutErrors, left_out
from planner.validation.rl.phases import PHASES, StepResult, StepScore

NAMES = {"rollout": "generation", "log_probs": "log-probs", "train": "training", "weight_sync": "sync", "step": "step"}


def step_blocks(result: StepResult) -> list[Block]:
    """Every row phase by phase, the medians, and what was left out."""
    reasons, apart = Counter(reason for _, reason in result.left_out), left_out(result)
    return [
        Heading("RL steps phase by phase, not calibrated: seconds predicted (measured) and error"),
        Grid(
            ("row", "framework", *NAMES.values()),
            tuple(_row(score) for score in result.scores),
            left=frozenset({0, 1, 2, 3, 4, 5, 6}),
        ),
        Grid(
            ("phase", "rows", "median error", "bias", "worst", "left out", "in-sample", "constants fitted"),
            tuple(_summary(result, phase, apart) for phase in PHASES if result.of(phase)),
        ),
        Text(
            "Generation, passes, training and step: rows that print the mean length of responses. The 99th percentile "
            "is printed nowhere and taken as five means before the cut. Left out: median error with the constants of "
            "generation refitted without the row's framework and those of weight sync without its model; the factor on "
            "passes is published elsewhere and fitted to none of these rows."
        ),
        Grid(("RL steps not scored", "rows"), tuple((reason, str(n)) for reason, n in sorted(reasons.items()))),
    ]


def _row(score: StepScore) -> tuple[str, ...]:
    cells = [
        f"{score.predicted[phase]:.1f} ({score.row.measured[phase]:.1f}) {score.error(phase):+.0%}"
        if phase in score.predicted
        else "-"
        for phase in PHASES
    ]
    return (score.row.id, score.row.framework, *cells)


def _summary(result: StepResult, phase: str, apart: Mapping[str, LeftOutErrors]) -> tuple[str, ...]:
    errors = [score.error(phase) for score in result.of(phase)]
    worst = max(errors, key=abs)
    middle = median(abs(error) for error in errors)
    other = apart[phase]
    figures = (f"{middle:.1%}", f"{median(errors):+.1%}", f"{worst:+.0%}", f"{other.middle:.1%}")
    return (NAMES[phase], str(len(errors)), *figures, str(len(other.in_sample)), str(other.constants))


def step_document(result: StepResult) -> dict[str, object]:
    """The same for programs."""
    return {
        "scores": [
            {
                "id": score.row.id,
                "framework": score.row.framework,
                "source": score.row.cells["source"],
                "seconds": dict(score.predicted),
                "measured_seconds": {phase: score.row.measured[phase] for phase in score.predicted},
            }
            for score in result.scores
        ],
        "left_out": {
            phase: {
                "median": apart.middle,
                "constants": apart.constants,
                "errors": dict(apart.errors),
                "in_sample": sorted(apart.in_sample),
            }
            for phase, apart in left_out(result).items()
        },
        "not_scored": [{"id": name, "reason": reason} for name, reason in result.left_out],
    }
