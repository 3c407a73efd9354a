"""The three standard streams as they may be: closed, full, a reader that went away, and a person who interrupts."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO, TypeVar

from planner import clock
from planner.errors import InputError, Mistake, Place
from planner.inputs import pipes

STANDARD_OUTPUT = Place("standard output")
INTERRUPTED = 130
NO_VERDICT = 3
GRACE_S = {signal.SIGINT: 0.6, signal.SIGALRM: 5.0}
"""So long a command may take to end after an interrupt or its deadline; then the process ends where it stands. [s]"""
AGAIN_S = 2.5
"""A deadline rings again after so long: Python swallows what is raised while it collects garbage. [s]"""
_left = {"at": -math.inf}
"""When a deadline was last left, in time or not. [s]"""


class DeadlinePassed(BaseException):
    """The command's time is up. No `Exception`, so that nothing on the way takes it for a fault of a file."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no verdict within {seconds:g} s\n  try:     --time-limit {10 * seconds:g}, or fewer open decisions"
        )


class _Closed(io.TextIOBase):
    """What stands for a stream that the shell closed: writing to it fails like a full disk does."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed")


def prepare() -> None:
    """Make the standard streams safe to write to: closed ones refuse, characters they cannot hold are escaped."""
    if sys.stdout is None:
        sys.stdout = _Closed()
    if sys.stderr is None:
        sys.stderr = _Closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
    pipes.tell = note


def answer(text: str) -> None:
    """Write a result to standard output. Raises InputError where it is closed or full, BrokenPipeError where nobody
    reads it any more.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(_unwritten(error)) from None


def _unwritten(error: OSError | ValueError) -> Mistake:
    reason = getattr(error, "strerror", None) or str(error)
    return Mistake("cannot write the answer", STANDARD_OUTPUT, reason, "--out FILE")


def note(text: str) -> None:
    """A remark on standard error: never part of the result, and never a reason to fail."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr)


def finish() -> None:
    """Write out what click printed. Raises like `answer`."""
    answer("")


def abandon() -> None:
    """Let go of a stream that cannot be written, so that the interpreter's last flush does not fail a second time."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _discard(stream)


def _discard(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = stream.fileno()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise DeadlinePassed where what stands inside takes longer; a deadline inside another ends with the earlier one.

    Only the main thread of a process keeps deadlines, for only it is told of signals.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_: int, __: object) -> None:
        raise DeadlinePassed(seconds)

    left, started, wall_s = signal.getitimer(signal.ITIMER_REAL)[0], time.monotonic(), clock.wall_s(seconds)
    if 0 < left <= wall_s:
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, wall_s, AGAIN_S)
    try:
        yield
    finally:
        rest_s = max(1e-3, left - (time.monotonic() - started)) if left else 0.0
        signal.setitimer(signal.ITIMER_REAL, rest_s, AGAIN_S if left else 0.0)
        signal.signal(signal.SIGALRM, before)
        _left["at"] = time.monotonic()


def seconds_left() -> float:
    """Until the deadline that this process keeps; endless without one. [s]"""
    left = signal.getitimer(signal.ITIMER_REAL)[0] if os.name == "posix" else 0.0
    return left or math.inf


_Answer = TypeVar("_Answer")


def within(seconds: float, ask: Callable[[], _Answer]) -> _Answer | None:
    """What is asked; None, and the command goes on, where so many seconds do not suffice or are not there."""
    if seconds <= 0:
        return None
    if seconds == math.inf:
        return ask()
    try:
        with deadline(seconds):
            return ask()
    except DeadlinePassed:
        return None


def end_when_interrupted() -> None:
    """From now on an interrupt ends the process within a second, and a deadline soon after it, whatever it computes:
    Python sees a signal only between two of its own steps, and a solver's step may take long.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read_end,), daemon=True, name="interrupts").start()


def _watch(read_end: int) -> None:
    first = last = -math.inf
    while number := os.read(read_end, 1):
        if number[0] == signal.SIGINT:
            after = threading.Timer(GRACE_S[signal.SIGINT], _end, (INTERRUPTED, "interrupted"))
            after.daemon = True
            after.start()
        elif number[0] == signal.SIGALRM:
            before, last = last, time.monotonic()
            if last - before > 2 * AGAIN_S or _left["at"] >= first:
                first = last
            elif last - first > GRACE_S[signal.SIGALRM] - AGAIN_S / 2:
                _end(NO_VERDICT, "Error: no verdict within the time limit")


def _end(code: int, why: str) -> None:
    """End the process where it stands."""
    note(why)
    os._exit(code)
