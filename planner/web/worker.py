"""One process that answers questions, one at a time, with everything heavy imported before the first."""

from __future__ import annotations

import json
import signal
import sys
from multiprocessing.connection import Connection


def serve_questions(pipe: Connection, memory_bytes: int) -> None:
    """Answer until the pipe closes. A question is (kind, asked, seconds); an answer is JSON text in UTF-8."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_memory(memory_bytes)
    from planner.search.solver.solve import solve  # noqa: F401  warm: the first question does not wait for the import
    from planner.web.asked import answer

    pipe.send_bytes(b"ready")
    while True:
        try:
            kind, asked, seconds = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):  # whoever asks is gone
            sys.exit(0)
        try:
            found = answer(kind, asked, seconds)
        except Exception as error:  # our bug: said to whoever asked, and the worker goes on
            what = f"{type(error).__name__}: {error}"
            found = {"problems": [{"what": what, "where": None, "path": None, "because": None, "try": None}]}
            found["exit_code"] = 4
        pipe.send_bytes(json.dumps(found, allow_nan=False).encode())


def _limit_memory(most_bytes: int) -> None:
    """No question takes the machine's memory: an allocation beyond this is an error inside the worker."""
    try:
        import resource
    except ImportError:  # no such limit on this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
