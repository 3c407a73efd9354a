"""The text of an out-of-memory message, from a command line, a file or standard input."""

from __future__ import annotations

from planner.errors import InputError, Mistake, Place
from planner.inputs.files import read_bytes

MOST_BYTES = 16 * 1024 * 1024


def given_text(scenario: str, log: str | None, message: str | None, file: str | None) -> str:
    """The message itself, or that of a file or standard input (`-`). Raises InputError unless exactly one is given."""
    given = [value for value in (log, message, file) if value is not None]
    if len(given) != 1 or (log is not None and log != "-"):
        raise InputError(
            Mistake(
                "diagnose needs one message",
                Place("the command line"),
                "give --message TEXT, --file FILE or - for standard input, one of them",
                f"planner diagnose {scenario} --message 'Tried to allocate 58.15 GiB'",
            )
        )
    if message is not None:
        return message
    if scenario == "-" and given[0] == "-":
        raise InputError(
            Mistake("standard input cannot be both the scenario and the message", Place("the command line"))
        )
    return read_bytes(given[0], most_bytes=MOST_BYTES).decode("utf-8", errors="replace")
