"""Lengths of responses that a log states, beside those that the scenario expects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.analysis.calibrate.rl_log import Log, Reading
from planner.formulas.lengths import survival
from planner.search.plan import Plan

JUST_BEFORE = 1e-6
"""Tokens before the maximum at which a response that runs to it is still generated."""


@dataclass(frozen=True)
class LoggedLengths:
    """Mean of responses and the share of them at the maximum: as the log states them and as the scenario expects."""

    mean: Reading | None
    """[tokens]"""
    expected_mean: float
    """[tokens]"""
    at_maximum: Reading | None
    expected_at_maximum: float
    maximum: int
    """[tokens]"""
    at_cap: float | None
    """The share of responses that never end by themselves with which the scenario would expect the log's share at the
    maximum; 0 where the cut alone is expected to reach more. None where the log states no share."""


def logged_lengths(log: Log, plan: Plan) -> LoggedLengths | None:
    """None where the log states no lengths, or the plan has none.

    Of responses that end by themselves a share s is cut; with the share c that never end, s + (1 - s) c = stated.
    """
    law, mean, stated = plan.wish.law, log.lengths.get("mean"), log.lengths.get("at the maximum")
    if law is None or (mean is None and stated is None):
        return None
    last = np.array([law.maximum - JUST_BEFORE])
    cut = float(survival(tokens=last, mean=law.mean, p99=law.p99, maximum=law.maximum)[0])
    return LoggedLengths(
        mean=mean,
        expected_mean=law.mean_tokens - law.prompt,
        at_maximum=stated,
        expected_at_maximum=float(law.alive(last)[0]),
        maximum=law.maximum,
        at_cap=None if stated is None or stated.value > 1 else max(0.0, (stated.value - cut) / (1 - cut)),
    )
