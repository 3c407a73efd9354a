"""What a YAML text is made of, whoever reads it: values, marks of where they stand, limits, refusals.

Scalars follow the YAML 1.2 core schema.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NoReturn

from planner.errors import InputError, Mistake, Place

PathKey = str | int

MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_DIGITS = 40

FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Control characters and lone surrogates."""
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED_INT = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a node starts, what it weighs, and the same for what it holds."""

    line: int
    column: int
    nodes: int = 1
    height: int = 0
    children: dict[PathKey, Mark] | None = None


class Odd(Exception):
    """A text that is not read here: what is wrong with it, and why."""

    def __init__(self, what: str = "", because: str | None = None) -> None:
        self.what, self.because = what, because


def plain(text: str) -> object:
    """A plain scalar by the YAML 1.2 core schema. Raises Odd for a number that cannot be planned with."""
    if text in _NULL:
        return None
    if text[0] not in "-+.0123456789":
        return _BOOL.get(text, text)
    if _NOT_FINITE.match(text):
        raise Odd(f"{text} is not a number that can be planned with", "numbers are finite")
    if len(text) > MAX_DIGITS and (_FLOAT.match(text) or _BASED_INT.match(text)):
        raise Odd(f"a number has more than {MAX_DIGITS} digits")
    if _INT.match(text):
        return int(text)
    if _BASED_INT.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        number = float(text)
        if math.isinf(number):
            raise Odd(f"the number {text} is out of range", "it is too large for a 64-bit float")
        return number
    return text


def refuse(
    name: str,
    what: str,
    at: tuple[int | None, int | None] = (None, None),
    because: str | None = None,
    attempt: str | None = None,
) -> NoReturn:
    """Raise an InputError with one Problem."""
    raise InputError(Mistake(what, Place(name, *at), because=because, attempt=attempt)) from None
