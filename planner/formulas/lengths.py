"""Lengths of generated responses: a log-normal given by its mean and 99th percentile, cut at the largest response."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Z99 = 2.3263478740408408
"""99th percentile of the standard normal."""


def lognormal_parameters(*, mean: float, p99: float) -> tuple[float, float]:
    """Log-normal mu and sigma with this mean and 99th percentile.

        ln(p99 / mean) = z sigma - sigma^2 / 2,  mu = ln(mean) - sigma^2 / 2,  z = 2.326

    The smaller root; it exists while p99 / mean < exp(z^2 / 2) = 14.97. Equation: definition of the log-normal.
    """
    ratio = math.log(p99 / mean)
    sigma = Z99 - math.sqrt(max(0.0, Z99 * Z99 - 2 * ratio))
    return math.log(mean) - sigma * sigma / 2, sigma


def survival(*, tokens: NDArray[np.float64], mean: float, p99: float, maximum: float) -> NDArray[np.float64]:
    """Share of responses still being generated after so many tokens; 0 from `maximum` on."""
    mu, sigma = lognormal_parameters(mean=mean, p99=p99)
    erf = np.vectorize(math.erf, otypes=[float])
    share = 0.5 * (1 - erf((np.log(np.maximum(tokens, 1e-9)) - mu) / (max(sigma, 1e-9) * math.sqrt(2))))
    return np.where(tokens >= maximum, 0.0, np.where(tokens <= 0, 1.0, share))


def truncated_mean_tokens(*, mean: float, p99: float, maximum: float) -> float:
    """Mean of min(length, maximum). [tokens]

        E[min(X, c)] = mean * Phi((ln c - mu - sigma^2) / sigma) + c * (1 - Phi((ln c - mu) / sigma))

    Source: limited expected value of the log-normal (any actuarial table).
    """
    mu, sigma = lognormal_parameters(mean=mean, p99=p99)
    sigma = max(sigma, 1e-9)

    def phi(x: float) -> float:
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    cut = math.log(maximum)
    return mean * phi((cut - mu - sigma * sigma) / sigma) + maximum * (1 - phi((cut - mu) / sigma))


def uncut_mean_tokens(*, mean: float, p99_over_mean: float, maximum: float) -> int:
    """Mean of a log-normal that has this mean once it is cut at the maximum. [tokens]"""
    low, high = mean, 100.0 * maximum
    for _ in range(60):
        middle = (low + high) / 2
        cut = truncated_mean_tokens(mean=middle, p99=p99_over_mean * middle, maximum=maximum)
        low, high = (middle, high) if cut < mean else (low, middle)
    return round(high)
