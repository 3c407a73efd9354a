"""Promises about whole RL steps, their phases, and what GPUs of their own gain; and what was reached."""

from __future__ import annotations

from statistics import median

from planner.validation.rl.left_out import left_out
from planner.validation.rl.phases import StepResult
from planner.validation.rl.placement import MORE, SEPARATE, PlacementResult
from planner.validation.throughput.score import SpeedBar

LEFT_OUT = {"rollout": 0.20, "log_probs": 0.20, "train": 0.20, "weight_sync": 0.30, "step": 0.25}
"""Largest median error with constants that have not seen the row."""
NAMES = {
    "rollout": "generation",
    "log_probs": "log-probabilities",
    "train": "training",
    "weight_sync": "weight sync",
    "step": "step",
}
IN_SAMPLE = 0.15
"""Largest median error of a step, constants as shipped."""
GAIN = 0.25
"""Largest median error of how many times as long a step takes where GPUs are shared, as many or fewer."""


def step_bars(result: StepResult) -> list[SpeedBar]:
    """Of steps and phases whose mean length is printed."""
    errors = [abs(score.error("step")) for score in result.of("step")]
    middle = median(errors) if errors else float("nan")
    out = [_bar("RL: step, printed lengths, median", IN_SAMPLE, middle, len(errors))]
    for phase, apart in left_out(result).items():
        name = f"RL: {NAMES[phase]}, left out, median"
        out.append(_bar(name, LEFT_OUT[phase], apart.middle, len(apart.errors)))
    return out


def gain_bars(result: PlacementResult) -> list[SpeedBar]:
    """Of pairs whose lengths are printed; the others are reported beside them."""
    out = []
    for kind in (SEPARATE, MORE):
        errors = [abs(s.ratio_error) for s in result.pairs(kind, printed=True) if s.ratio_error is not None]
        middle = median(errors) if errors else float("nan")
        out.append(_bar(f"RL: gain of {kind}, printed lengths, median", GAIN, middle, len(errors)))
    return out


def _bar(name: str, limit: float, value: float, rows: int) -> SpeedBar:
    return SpeedBar(name, f"<= {limit:.0%}".replace("%", " %"), value, value <= limit, rows)
