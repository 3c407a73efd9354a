"""The process that workers are forked from: everything is imported once, and catalogs are read while it waits.

A worker then begins within milliseconds, with whatever has been read so far; one that is ended costs no more than that.
Orders arrive on a socket, eight bytes each: BEGIN with one end of a pipe, or the process id of a worker to end.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe

ORDER = struct.Struct("!q")
BEGIN = 0


class Nursery:
    """Our side of the process that workers are forked from."""

    def __init__(self, worker_bytes: int) -> None:
        self.orders, theirs = socket.socketpair()
        # One thread each: the processes share the cores, and only a process of one thread is forked safely.
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        env |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        env["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # looking for some opens every installed package
        command = [sys.executable, "-P", "-m", "planner.web.nursery", str(theirs.fileno()), str(worker_bytes)]
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env, stdin=subprocess.DEVNULL)
        theirs.close()

    def begin(self) -> Connection:
        """A pipe to a new worker, whose first message is its process id. Raises OSError where the nursery is gone."""
        ours, theirs = Pipe()
        with theirs:
            socket.send_fds(self.orders, [ORDER.pack(BEGIN)], [theirs.fileno()])
        return ours

    def end(self, worker: int) -> None:
        """End the worker of that process id, before any order that follows."""
        self.orders.sendall(ORDER.pack(worker))

    def close(self) -> None:
        """End the nursery, which ends its workers first."""
        self.orders.close()
        self.process.wait()


def main(orders: socket.socket, worker_bytes: int) -> None:
    """Follow orders until their sender is gone; then end every worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # nothing of what is imported goes away again
    _load()
    steps, reading, children = _in_waiting(), True, set[int]()
    try:
        while True:
            if reading and not select.select([orders], [], [], 0)[0]:
                reading = next(steps, None) is not None
                continue
            message, pipes, _, _ = socket.recv_fds(orders, ORDER.size, 1)
            if len(message) < ORDER.size:
                return
            for child in [child for child in children if os.waitpid(child, os.WNOHANG)[0]]:
                children.discard(child)  # it ended by itself
            order = ORDER.unpack(message)[0]
            if order == BEGIN:
                children.add(_begin(orders, pipes[0], worker_bytes))
            elif order in children:
                children.discard(order)
                _end(order)
    finally:
        for child in children:
            _end(child)


def _begin(orders: socket.socket, pipe: int, worker_bytes: int) -> int:
    """Process id of a new worker that answers on a pipe."""
    from planner.web.worker import serve_questions

    gc.freeze()  # what is shared stays shared: the collector of a worker does not touch it
    child = os.fork()
    if child == 0:
        try:
            gc.enable()
            orders.close()
            serve_questions(Connection(pipe), worker_bytes)
        finally:
            os._exit(0)
    os.close(pipe)
    return child


def _end(child: int) -> None:
    """Only a child that was not waited for is ended, so that its id can have no other owner."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _load() -> None:
    """Import what the first answer needs."""
    from planner.report import plan_figures, solve, timeline, topology  # noqa: F401
    from planner.search.solver.loaded import solver_module
    from planner.web import asked  # noqa: F401

    solver_module()


def _in_waiting() -> Iterator[str]:
    """Read one catalog entry after the other, those of most questions first, then import what other questions need."""
    from importlib import import_module

    from planner.errors import PlannerError
    from planner.web.closed_catalog import closed_catalog

    catalog = closed_catalog()
    for kind in ("engines", "precisions", "optimizers", "nodes", "gpus", "models", "rollouts"):
        for name in catalog.ids(kind):
            with suppress(PlannerError):  # whoever asks for it is told
                catalog.find(kind, name)
            yield name
    for name in ("analysis.near", "analysis.pins", "report.answers", "report.explain", "launch.registry",
                 "analysis.budget.budget", "report.budget_json"):  # fmt: skip
        import_module(f"planner.{name}")
        yield name


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
