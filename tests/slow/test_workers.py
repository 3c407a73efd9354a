"""Real processes behind the page: they answer, they are cancelled, and none outlives what it was for."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

pytest.importorskip("fastapi")

from web.conftest import SMALL

from planner.web.limits import ServerLimits
from planner.web.workers import Busy, Overdue, Workers

T = TypeVar("T")
QUICK = {"text": json.dumps(SMALL), "name": "x"}
MANY = {"node": "hgx-h100-8", "max_gpus": 4096}
LONG = {"text": json.dumps({**SMALL, "cluster": MANY, "model": "deepseek-v3", "layout": {}}), "name": "x"}


def run(workers: Workers, what: Coroutine[Any, Any, T]) -> T:
    async def whole() -> T:
        workers.start()
        try:
            return await what
        finally:
            workers.stop()

    return asyncio.run(whole())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_equal_questions_are_solved_once_and_remembered() -> None:
    workers = Workers(ServerLimits(workers=1))

    async def ask() -> None:
        many = await asyncio.gather(*(workers.ask("solve", QUICK) for _ in range(5)))
        assert all(one == many[0] for one in many)
        assert await workers.ask("solve", QUICK) == many[0]

    run(workers, ask())
    assert (workers.counts.solved, workers.counts.remembered) == (1, 1)


def test_answers_are_not_mixed_up() -> None:
    workers = Workers(ServerLimits(workers=2))

    async def ask() -> None:
        counts = [2, 4, 8, 16]
        asked = [{**QUICK, "overrides": [f"cluster.num_gpus={n}", "limits.headroom_gib=0"]} for n in counts]
        found = await asyncio.gather(*(workers.ask("solve", one) for one in asked * 3))
        for n, one in zip(counts * 3, found, strict=True):
            assert one["document"]["provenance"]["inputs"][0]["overrides"][0] == f"cluster.num_gpus={n}"

    run(workers, ask())


def test_a_cancelled_question_leaves_no_process() -> None:
    workers = Workers(ServerLimits(workers=1))

    async def ask() -> tuple[list[int], list[int]]:
        await workers.ask("solve", QUICK)
        before = workers.processes
        task = asyncio.create_task(workers.ask("solve", LONG))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        again = await workers.ask("solve", {**QUICK, "overrides": ["cluster.num_gpus=4"]})
        assert again["document"]["status"] == "optimal"
        return before, workers.processes

    before, after = run(workers, ask())
    assert workers.counts.cancelled == 1
    assert before != after
    assert not any(is_alive(pid) for pid in (*before, *after))


def test_what_takes_too_long_is_ended() -> None:
    workers = Workers(ServerLimits(workers=1, solve_seconds=0.2, grace_seconds=0.0))

    async def ask() -> None:
        with pytest.raises(Overdue):
            await workers.ask("solve", LONG)

    run(workers, ask())
    assert workers.counts.overdue == 1


def test_too_many_are_refused() -> None:
    workers = Workers(ServerLimits(workers=1, waiting=2))

    async def ask() -> None:
        tasks = [asyncio.create_task(workers.ask("solve", {**QUICK, "overrides": [f"name=n{n}"]})) for n in range(6)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(one, Busy) for one in found)
        assert any(isinstance(one, dict) for one in found)

    run(workers, ask())
