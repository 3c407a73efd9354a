"""All published memory rows through the planner, once a worker."""

from __future__ import annotations

import pytest

from planner.validation.memory.run import run_memory
from planner.validation.memory.score import MemoryResult


@pytest.fixture(scope="session")
def result() -> MemoryResult:
    return run_memory()[0]
