"""Lengths of generated responses: a log-normal given by its mean and 99th percentile, cut at the largest response.

Some responses never end by themselves (they repeat, or reason on): a share runs to the largest response.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Z99 = 2.3263478740408408
"""99th percentile of the standard normal."""
QUANTILES = 2048
"""Equal shares of the law from which its second moment is taken."""


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


@dataclass(frozen=True)
class LengthLaw:
    """Lengths of samples: a prompt and a log-normal response, cut at the largest one."""

    prompt: int
    """[tokens]"""
    mean: float
    """Of responses that end by themselves, before the cut. [tokens]"""
    p99: float
    maximum: int
    """Largest response. [tokens]"""
    at_cap: float = 0.0
    """Share of responses that never end by themselves and run to the maximum."""

    def alive(self, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of responses still being generated after so many tokens; 0 from the maximum on."""
        share = survival(tokens=tokens, mean=self.mean, p99=self.p99, maximum=self.maximum)
        return np.where(tokens >= self.maximum, 0.0, self.at_cap + (1 - self.at_cap) * share)

    @cached_property
    def mean_tokens(self) -> float:
        """Mean length of a sample. [tokens]"""
        ending = truncated_mean_tokens(mean=self.mean, p99=self.p99, maximum=self.maximum)
        return self.prompt + self.at_cap * self.maximum + (1 - self.at_cap) * ending

    @cached_property
    def attention_tokens(self) -> float:
        """Length whose square times the number of samples is the sum of squares: sets the work of attention. [tokens]

        The second moment over the mean of the limited log-normal, from quantiles.
        """
        drawn = draw_lengths(self, QUANTILES, 0)
        return float((drawn**2).mean() / drawn.mean())


@lru_cache(maxsize=256)
def draw_lengths(law: LengthLaw, count: int, seed: int) -> NDArray[np.float64]:
    """So many lengths of samples, one from each of as many equal shares of the law, in drawn order. [tokens]

    The array is shared and cannot be written.
    """
    mu, sigma = lognormal_parameters(mean=law.mean, p99=law.p99)
    normal = NormalDist()
    shares = (np.arange(count) + 0.5) / count
    ending = np.minimum(shares / max(1e-12, 1 - law.at_cap), 1.0 - 1e-12)
    response = np.exp(mu + sigma * np.array([normal.inv_cdf(share) for share in ending.tolist()]))
    response = np.where(shares > 1 - law.at_cap, law.maximum, np.clip(np.round(response), 1, law.maximum))
    drawn = np.random.default_rng(seed).permutation(law.prompt + response)
    drawn.flags.writeable = False
    return drawn
