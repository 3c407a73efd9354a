"""Published measurements run through the planner once, for all tests that look at them."""

from __future__ import annotations

from functools import cache

from planner.validation.memory.run import run_memory
from planner.validation.memory.score import MemoryResult


@cache
def memory_result() -> MemoryResult:
    """All rows of validation/data."""
    return run_memory()[0]
