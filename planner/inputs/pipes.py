"""Pipes that a person names where a file is read, such as bash's `<(...)`: their content comes once.

Whoever reads a pipe again while nothing new comes gets what came before; one that nobody writes into is not waited for
without end.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable

from planner import clock

SAID_AFTER_S, SILENCE_S = 2.0, 60.0
"""A pipe that says nothing is spoken of after so long, and is given up after so long. [s]"""
LEAST_KEPT_BYTES = 1 << 26
"""A pipe is read this far, whatever its first reader takes: the next one may take more."""
_STEP_MS, _CHUNK_BYTES = 200, 1 << 16
_kept: dict[tuple[int, int], bytes] = {}
"""(device, inode): what came."""


def _silent(_: str) -> None:
    pass


tell: Callable[[str], None] = _silent
"""Is told in one line what is waited for."""


def is_pipe(name: str) -> bool:
    """Whether a file of this name is a pipe. False where there is none, or none that can be asked about."""
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def read_pipe(name: str, most_bytes: int) -> bytes:
    """The first `most_bytes` of what is written into a pipe until its last writer closes it.

    Raises OSError where it cannot be read, or where nobody writes into it.
    """
    handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        known = os.fstat(handle)
        kept = _kept.get((known.st_dev, known.st_ino))
        fresh = _read(handle, name, max(most_bytes, LEAST_KEPT_BYTES), wait=kept is None)
        if kept is None or fresh:
            kept = _kept[known.st_dev, known.st_ino] = fresh
        return kept[:most_bytes]
    finally:
        os.close(handle)


def _read(handle: int, name: str, most_bytes: int, *, wait: bool) -> bytes:
    """Until the end, or b"" where nothing stands there and `wait` is off. Raises OSError where nothing ever comes."""
    poll, found = select.poll(), bytearray()
    poll.register(handle, select.POLLIN)
    if wait:
        _await(poll, name)
    while len(found) < most_bytes:
        try:
            chunk = os.read(handle, min(_CHUNK_BYTES, most_bytes - len(found)))
        except BlockingIOError:
            if not wait and not found:
                break
            poll.poll(_STEP_MS)
            continue
        if not chunk:
            break
        found += chunk
    return bytes(found)


def _await(poll: select.poll, name: str) -> None:
    """Until something comes, or the one who would have written it closes the pipe. Raises OSError after SILENCE_S."""
    started, said = clock.now(), False
    while not poll.poll(_STEP_MS):
        silent_s = clock.now() - started
        if silent_s >= SILENCE_S:
            raise OSError(errno.ETIMEDOUT, f"it is a pipe that nobody wrote into for {SILENCE_S:g} s")
        if silent_s >= SAID_AFTER_S and not said:
            tell(f"waiting for {name}, a pipe that nothing was written into yet")
            said = True
