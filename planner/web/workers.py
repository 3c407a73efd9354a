"""A few processes that solve, a queue before them, and what was answered already.

Equal questions are solved once. A question that nobody waits for any more is cancelled: its process is ended and
another one forked from the nursery, since a search cannot be interrupted from outside.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, TypeVar

from planner.web.limits import ServerLimits
from planner.web.nursery import Nursery

if TYPE_CHECKING:
    from planner.web.answers import Answer, Asked

START_SECONDS = 60.0
ONE_SEARCH = frozenset({"solve", "estimate", "launch"})
"""Questions that take one search; the others take many."""
T = TypeVar("T")


class Busy(Exception):
    """More questions wait than the server lets wait."""


class Overdue(Exception):
    """A question took longer than the server grants."""


@dataclass
class Counts:
    """What `/metrics` prints."""

    asked: int = 0
    solved: int = 0
    remembered: int = 0
    cancelled: int = 0
    overdue: int = 0
    refused: int = 0


@dataclass
class _Worker:
    pipe: Connection
    process: int | None = None
    """Its id, once it has begun."""


@dataclass
class _Running:
    """One question on its way, and how many wait for it."""

    task: asyncio.Task[bytes]
    wanted: int = 0


class Workers:
    """Answers questions in other processes. `start` before the first, `stop` after the last."""

    def __init__(self, limits: ServerLimits) -> None:
        self.limits = limits
        self.counts = Counts()
        self._nursery: Nursery | None = None
        self._free: asyncio.Queue[_Worker] = asyncio.Queue()
        self._all: list[_Worker] = []
        self._running: dict[str, _Running] = {}
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    def start(self) -> None:
        """Start the nursery, where it does not run yet; workers begin when they are first needed."""
        if self._nursery is None:
            self._nursery = Nursery(self.limits.worker_bytes)

    def stop(self) -> None:
        """End all processes."""
        for worker in self._all:
            worker.pipe.close()
        self._all.clear()
        self._free = asyncio.Queue()
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    @property
    def processes(self) -> list[int]:
        """Process ids of the workers that have begun, for tests and `/metrics`."""
        return [worker.process for worker in self._all if worker.process is not None]

    async def ask(self, kind: str, asked: Asked) -> Answer:
        """The answer; cancelling the caller cancels the question, unless another caller waits for the same.

        Raises Busy where too many questions wait, Overdue where this one takes too long.
        """
        self.counts.asked += 1
        text = json.dumps([kind, asked, self.limits.solve_seconds], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        if key in self._kept:
            self.counts.remembered += 1
            self._kept.move_to_end(key)
            return _plain(self._kept[key])
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= self.limits.waiting + self.limits.workers:
                self.counts.refused += 1
                raise Busy
            running = self._running[key] = _Running(asyncio.create_task(self._solve(kind, text.encode())))
            running.task.add_done_callback(lambda task: self._ended(key, task))
        running.wanted += 1
        try:
            return _plain(await asyncio.shield(running.task))
        finally:
            running.wanted -= 1
            if running.wanted == 0 and not running.task.done():
                self._running.pop(key, None)
                running.task.cancel()

    def _ended(self, key: str, task: asyncio.Task[bytes]) -> None:
        if self._running.get(key) is not None and self._running[key].task is task:
            del self._running[key]
        if task.cancelled() or task.exception() is not None:
            return
        answer = task.result()
        self._kept[key] = answer
        self._kept_bytes += len(answer)
        while len(self._kept) > self.limits.kept_answers or self._kept_bytes > self.limits.kept_bytes:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    async def _solve(self, kind: str, question: bytes) -> bytes:
        if self._free.empty() and len(self._all) < self.limits.workers:
            self._begin()
        worker = await self._free.get()
        done = False
        try:
            seconds = self.limits.solve_seconds if kind in ONE_SEARCH else self.limits.long_seconds
            limit = seconds + self.limits.grace_seconds
            if worker.process is None:
                worker.process = int(await asyncio.wait_for(_message(worker.pipe), START_SECONDS))
            worker.pipe.send_bytes(question)
            answer = await asyncio.wait_for(_message(worker.pipe), limit)
            done = True
            self.counts.solved += 1
            return answer
        except TimeoutError:
            self.counts.overdue += 1
            raise Overdue from None
        except (EOFError, OSError):
            raise Overdue from None  # the process died: out of the memory it was granted
        except asyncio.CancelledError:
            self.counts.cancelled += 1
            raise
        finally:
            if done:
                self._free.put_nowait(worker)
            else:
                self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        """End a worker; one that has not begun ends by itself when its pipe is closed."""
        worker.pipe.close()
        if worker in self._all:
            self._all.remove(worker)
            if worker.process is not None:
                self._order(lambda nursery: nursery.end(worker.process or 0))
            self._begin()

    def _begin(self) -> None:
        worker = _Worker(self._order(Nursery.begin))
        self._all.append(worker)
        self._free.put_nowait(worker)

    def _order(self, order: Callable[[Nursery], T]) -> T:
        """What the nursery gives; a new one where the old one died, and with it whatever was asked of it."""
        if self._nursery is None:
            self._nursery = Nursery(self.limits.worker_bytes)
        try:
            return order(self._nursery)
        except OSError:
            self.stop()
            self._nursery = Nursery(self.limits.worker_bytes)
            return order(self._nursery)


async def _message(pipe: Connection) -> bytes:
    """The next message of a pipe, without blocking the loop until its first byte. Raises EOFError where it closed."""
    loop = asyncio.get_running_loop()
    come: asyncio.Future[None] = loop.create_future()

    def readable() -> None:
        if not come.done():
            come.set_result(None)

    loop.add_reader(pipe.fileno(), readable)
    try:
        await come
    finally:
        loop.remove_reader(pipe.fileno())
    return pipe.recv_bytes()


def _plain(answer: bytes) -> Answer:
    found: Answer = json.loads(answer)
    return found
