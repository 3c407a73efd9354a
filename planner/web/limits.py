"""What one server grants to whoever asks it: every limit that a refusal names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerLimits:
    """Bounds of one server; a request beyond one is refused with 413, 408 or 503 and the bound in its text."""

    solve_seconds: float = 20.0
    """Longest search of one question; the plan in hand is shown then. [s]"""
    long_seconds: float = 120.0
    """Instead for questions of many searches: fronts, near ties, explanations, comparisons, budgets. [s]"""
    grace_seconds: float = 20.0
    """After which a worker that has not answered on top of that is ended. [s]"""
    read_seconds: float = 10.0
    """Longest time in which a request's body must arrive. [s]"""
    body_bytes: int = 1024 * 1024
    """Longest body of a request."""
    url_bytes: int = 16 * 1024
    """Longest address, the state of a view included."""
    workers: int = 2
    """Processes that solve, each one question at a time."""
    worker_bytes: int = 4 * 1024**3
    """Address space of one of them."""
    waiting: int = 64
    """Questions that may wait for a worker."""
    kept_answers: int = 256
    """Answers that are remembered."""
    kept_bytes: int = 64 * 1024 * 1024
    """Memory that remembered answers may take."""
