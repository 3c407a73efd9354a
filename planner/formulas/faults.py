"""Share of the time that is really trained, with checkpoints, failures, restarts and a slow rank: stated by the user.

Sources: J. W. Young, A first order approximation to the optimum checkpoint interval, CACM 17 (1974) 530; J. T. Daly,
A higher order estimate of the optimum checkpoint interval for restart dumps, FGCS 22 (2006) 303, equations 20 and 37.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def mean_minutes_between_failures(*, hours_per_gpu: float, num_gpus: int) -> float:
    """Mean time between failures of a job that any of its GPUs stops: independent, exponential. [min]"""
    return hours_per_gpu * 60 / num_gpus


def young_interval_minutes(*, checkpoint_minutes: float, failure_minutes: float) -> float:
    """Training between two checkpoints: sqrt(2 d M). [min]  Source: Young 1974."""
    return math.sqrt(2 * checkpoint_minutes * failure_minutes)


def daly_interval_minutes(*, checkpoint_minutes: float, failure_minutes: float) -> float:
    """Training between two checkpoints. [min]

        sqrt(2 d M) (1 + sqrt(d / 2M) / 3 + (d / 2M) / 9) - d    for d < 2 M, else M

    Source: Daly 2006, equation 37.
    """
    ratio = checkpoint_minutes / (2 * failure_minutes)
    if ratio >= 1:
        return failure_minutes
    young = young_interval_minutes(checkpoint_minutes=checkpoint_minutes, failure_minutes=failure_minutes)
    return young * (1 + math.sqrt(ratio) / 3 + ratio / 9) - checkpoint_minutes


def goodput_share(
    *, checkpoint_minutes: float, interval_minutes: float, restart_minutes: float, failure_minutes: float
) -> float:
    """Time without checkpoints and failures over expected time, between 0 and 1.

        t / (M exp(R / M) (exp((t + d) / M) - 1))

    t trains between checkpoints, d is a checkpoint, R a restart, M the mean time between failures (which may strike
    during checkpoints and restarts too). Source: Daly 2006, equation 20.
    """
    exponent = (interval_minutes + checkpoint_minutes) / failure_minutes
    restart = restart_minutes / failure_minutes
    if exponent + restart > 700:
        return 0.0
    return interval_minutes / (failure_minutes * math.exp(restart) * math.expm1(exponent))


def simumax_straggler_factor(num_nodes: int) -> float:
    """1 + n / (n + 1) * 0.09 sqrt(n): how much longer the slowest of n nodes makes a step, by SimuMax's fit.

    Unverified for NVIDIA clusters, so nothing applies it by itself; a user may state it as `faults.straggler_factor`.
    Source: MooreThreads/SimuMax @4dcaae51.
    """
    return 1 + num_nodes / (num_nodes + 1) * 0.09 * math.sqrt(num_nodes)


LARGEST_USUAL = 512
"""GPUs up to which published steps show no trend beside what is predicted."""


def factor_at_scale(num_gpus: NDArray[np.int64], *, per_doubling: float) -> NDArray[np.float64]:
    """Times as long as on few GPUs that steps of so many take: 1 + per_doubling log2(n / 512), 1 up to 512.

    Source: `slower_per_doubling` of the engine's timing says which runs.
    """
    return 1.0 + per_doubling * np.log2(np.maximum(num_gpus, LARGEST_USUAL) / LARGEST_USUAL)
