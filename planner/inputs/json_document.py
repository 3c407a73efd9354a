"""JSON files as documents: bounded, finite numbers only, and every mistake in them with its line."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from bisect import bisect_right
from functools import lru_cache
from typing import NoReturn

from planner.errors import InputError, Mistake, Place
from planner.inputs.document import Document, Model, validate
from planner.inputs.files import read_bytes
from planner.inputs.yaml_values import Mark, PathKey

MOST_BYTES = 16 * 1024 * 1024
_TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+)')


def read_json(path: str | os.PathLike[str], where: Place | None = None, *, most_bytes: int = MOST_BYTES) -> Document:
    """A JSON object of a file. Raises InputError with file and line for anything else, and for numbers out of range."""
    return json_document(read_bytes(path, where, most_bytes=most_bytes), os.fspath(path))


def read_json_record(path: str | os.PathLike[str], model: type[Model], *, most_bytes: int = MOST_BYTES) -> Model:
    """A JSON file as a checked record. Raises InputError with every mistake, each with its line."""
    return validate(read_json(path, most_bytes=most_bytes), model)


def json_document(raw: bytes, name: str) -> Document:
    """JSON text as a document; `name` stands for the file in messages. Raises InputError like `read_json`, and where an
    object has a key twice."""
    try:
        text = raw.decode("utf-8-sig")
        data = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        _refuse(f"{name} is not UTF-8 text", Place(name, line), f"byte 0x{raw[error.start]:02x} is not UTF-8")
    except json.JSONDecodeError as error:
        _refuse(f"{name} is not JSON", Place(name, error.lineno, error.colno), error.msg)
    except _Twice as error:
        _refuse(f"the key {error} stands twice", _second(text, name), "a key stands once in an object")
    except _NotFinite as error:
        _refuse(f"{error} is not a number that can be planned with", _first(text, str(error), name), "it is not finite")
    except RecursionError:
        _refuse(f"{name} is nested too deep", Place(name, 1))
    except ValueError as error:  # a whole number of thousands of digits
        _refuse(f"{name} is not JSON", Place(name, 1), str(error).partition(";")[0])
    if not isinstance(data, dict):
        _refuse(f"{name} holds no JSON object", Place(name, 1, 1))
    digest = hashlib.sha256(raw).hexdigest()
    return Document(name=name, data=data, sha256=digest, _marks=lambda: marks_of(text))


@lru_cache(maxsize=4)
def marks_of(text: str) -> Mark:
    """Where every value of a JSON text stands; the text is known to be JSON."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def at(place: int) -> tuple[int, int]:
        line = bisect_right(starts, place)
        return line, place - starts[line - 1] + 1

    root: dict[PathKey, Mark] = {}
    stack: list[tuple[dict[PathKey, Mark], bool]] = [(root, False)]
    key: PathKey | None = 0
    for match in _TOKEN.finditer(text):
        token, place = match.group(1), match.start(1)
        inside, is_object = stack[-1]
        if token in "]}":
            stack.pop()
            key = None
        elif token == ",":
            key = None if is_object else len(inside)
        elif token == ":":
            continue
        elif is_object and key is None:
            key = str(json.loads(token))
        else:
            key = len(inside) if key is None else key
            children: dict[PathKey, Mark] = {}
            inside[key] = Mark(*at(place), children=children)
            if token in "[{":
                stack.append((children, token == "{"))
            key = None
    return root.get(0, Mark(1, 1))


class _NotFinite(Exception):
    """A number that no file of ours holds."""


class _Twice(Exception):
    """A key that an object has already."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(json.dumps(next(key for key in keys if keys.count(key) > 1)))
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise _NotFinite(text)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _NotFinite(text)
    return value


def _second(text: str, name: str) -> Place:
    """Where a key first stands that its object has already."""
    seen: list[set[str]] = []
    last: re.Match[str] | None = None
    for match in _TOKEN.finditer(text):
        token = match.group(1)
        if token in "[{":
            seen.append(set())
        elif token in "]}":
            seen.pop()
        elif token == ":" and last is not None:
            key = json.loads(last.group(1))
            if key in seen[-1]:
                return _at(text, last.start(1), name)
            seen[-1].add(key)
        last = match
    return Place(name, 1)


def _first(text: str, part: str, name: str) -> Place:
    """Where a literal first stands."""
    return _at(text, max(0, text.find(part)), name)


def _at(text: str, place: int, name: str) -> Place:
    return Place(name, text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place))


def _refuse(what: str, where: Place, because: str | None = None) -> NoReturn:
    raise InputError(Mistake(what, where, because)) from None
