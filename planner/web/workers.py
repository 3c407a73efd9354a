"""A few processes that solve, a queue before them, and what was answered already.

Equal questions are solved once. A question that nobody waits for any more is cancelled: its process is ended and
another one started, since a search cannot be interrupted from outside.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING

from planner.web.limits import ServerLimits
from planner.web.worker import serve_questions

if TYPE_CHECKING:
    from planner.web.asked import Answer, Asked

START_SECONDS = 60.0


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
    process: SpawnProcess
    pipe: Connection
    ready: bool = False

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


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
        self._free: asyncio.Queue[_Worker] = asyncio.Queue()
        self._all: list[_Worker] = []
        self._running: dict[str, _Running] = {}
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    def start(self) -> None:
        """Start the processes, where they do not run yet."""
        while len(self._all) < self.limits.workers:
            self._begin()

    def stop(self) -> None:
        """End all of them."""
        for worker in self._all:
            worker.end()
        self._all.clear()

    @property
    def processes(self) -> list[int]:
        """Process ids, for tests and `/metrics`."""
        return [worker.process.pid or 0 for worker in self._all]

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
            running = self._running[key] = _Running(asyncio.create_task(self._solve(text.encode())))
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

    async def _solve(self, question: bytes) -> bytes:
        worker = await self._free.get()
        done = False
        try:
            limit = self.limits.solve_seconds + self.limits.grace_seconds
            if not worker.ready:
                await asyncio.wait_for(_message(worker.pipe), START_SECONDS)
                worker.ready = True
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
        worker.end()
        if worker in self._all:
            self._all.remove(worker)
            self._begin()

    def _begin(self) -> None:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve_questions, args=(theirs, self.limits.worker_bytes), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._all.append(worker)
        self._free.put_nowait(worker)


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
