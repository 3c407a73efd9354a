"""One process that answers questions, one at a time; forked from the nursery, which has imported everything."""

from __future__ import annotations

import json
import os
from multiprocessing.connection import Connection


def serve_questions(pipe: Connection, memory_bytes: int) -> None:
    """Answer until the pipe closes, its own process id first.

    A question is (kind, asked, seconds); an answer is JSON text in UTF-8.
    """
    _limit_memory(memory_bytes)
    from planner.web.asked import answer

    message = str(os.getpid()).encode()
    while True:
        try:
            pipe.send_bytes(message)
            kind, asked, seconds = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):  # whoever asks is gone
            return
        try:
            found = answer(kind, asked, seconds)
        except Exception as error:  # our bug: said to whoever asked, and the worker goes on
            what = f"{type(error).__name__}: {error}"
            found = {"problems": [{"what": what, "where": None, "path": None, "because": None, "try": None}]}
            found["exit_code"] = 4
        message = json.dumps(found, allow_nan=False).encode()


def _limit_memory(most_bytes: int) -> None:
    """No question takes the machine's memory: an allocation beyond this is an error inside the worker."""
    try:
        import resource
    except ImportError:  # no such limit on this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
