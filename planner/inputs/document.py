"""YAML 1.2 text to plain data that remembers its lines, and from there to a checked pydantic record.

Scalars follow the YAML 1.2 core schema: 1e-6 is a number; on, no and yes are strings.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from planner.errors import InputError, Mistake, Place
from planner.inputs.another_kind import another_kind, refuse_shell
from planner.inputs.examples import absent, file_of, missing
from planner.inputs.files import STANDARD_INPUT, read_bytes
from planner.inputs.messages import coerced_scalars, explain
from planner.inputs.yaml_builder import build
from planner.inputs.yaml_values import FORBIDDEN, MAX_DEPTH, Mark, PathKey, refuse

Model = TypeVar("Model", bound=BaseModel)

MAX_BYTES = 256 * 1024

_STEP = re.compile(r'(?:(?:^|\.)(?:"([^"]+)"|([^.\[\]"=]+)))|\[([0-9]{1,6})\]')


@dataclass(frozen=True)
class Document:
    """One YAML file as plain data; every value still knows its line."""

    name: str
    data: Any
    sha256: str
    """Of the bytes as read, before any override."""
    overrides: tuple[str, ...] = ()
    """The --set arguments applied, in order."""
    _marks: Mark | Callable[[], Mark] | None = field(default=Mark(1, 1), repr=False, compare=False)
    """None for data that never were text and have no lines; a function where they are looked up when one is needed."""
    _overridden: tuple[tuple[tuple[PathKey, ...], str], ...] = field(default=(), repr=False, compare=False)

    def place(self, path: tuple[PathKey, ...]) -> Place:
        """Line and column of the value at path, or of its nearest parent that has one."""
        dotted = dotted_path(path)
        for changed, argument in reversed(self._overridden):
            if path[: len(changed)] == changed:
                return Place(f"--set {argument}", path=dotted)
        if self._marks is None:
            return Place(self.name, path=dotted)
        mark = self._marks() if callable(self._marks) else self._marks
        for step in path:
            child = mark.children.get(step) if mark.children else None
            if child is None:
                break
            mark = child
        return Place(self.name, mark.line, mark.column, dotted)


def dotted_path(path: tuple[PathKey, ...]) -> str | None:
    """`("a", "b", 2)` as `a.b[2]`; None for the whole document."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (f'"{step}"' if "." in step else step)
    return text or None


def read_document(path: str | Path, where: Place | None = None) -> Document:
    """Read one YAML file; `-` reads standard input, `example:NAME` a shipped scenario. `where` is what names it, for a
    file that cannot be read.

    Raises InputError with file and line.
    """
    name = STANDARD_INPUT if str(path) == "-" else str(path)
    file = file_of(name)
    if str(path) != "-" and absent(file):
        raise InputError(missing(name, where or Place(name)))
    raw = read_bytes(path if str(path) == "-" else file, where, most_bytes=MAX_BYTES)
    refuse_shell(raw, name)
    return _parse(raw, name)


@contextmanager
def named_in(folder: Path, path: Path, where: Place | None = None) -> Iterator[None]:
    """While a file is read that a file of `folder` names, at `where`: from outside that folder no message repeats its
    content."""
    try:
        yield
    except InputError as error:
        if path.resolve().is_relative_to(folder.resolve()):
            raise
        raise InputError([_unquoted(problem, where) for problem in error.problems]) from None


def _unquoted(problem: Mistake, naming: Place | None) -> Mistake:
    """A mistake without a word of the file that it is in; what is said of the place that names it stays."""
    where = problem.where
    if where is None or where.line is None or where == naming:
        return problem
    place = Place(where.file, where.line, where.column)
    because = "it stands outside the folder of the file that names it, so that its content is not repeated"
    return Mistake(f"{where.file} is not the file that is expected here", place, because)


def parse_document(text: str, name: str, *, any_key: bool = False) -> Document:
    """Parse YAML text that is already in memory; name stands for the file in messages. `any_key` takes keys that are
    no text, which files of other programs have."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise InputError(Mistake(f"{name} holds characters that are not text", Place(name))) from None
    return _parse(raw, name, any_key=any_key)


def document_of(data: Mapping[str, object], name: str = "<dict>") -> Document:
    """Plain data that a program made, as if it had been read; the hash is that of its JSON text.

    Raises InputError for a value that is no text, number, truth value, list or mapping.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        because = str(error) or type(error).__name__
        attempt = "plain text, numbers, lists and dicts"
        raise InputError(Mistake(f"{name} is not plain data", Place(name), because, attempt)) from None
    return replace(parse_document(text, name), _marks=None)


def with_overrides(document: Document, arguments: Sequence[str]) -> Document:
    """Apply `a.b=c` and `list[2]=x` arguments; each value is YAML, and errors name the argument as their place."""
    for argument in arguments:
        place = Place(f"--set {argument}")
        target, sign, text = argument.partition("=")
        path = _parse_path(target.strip())
        if not sign or path is None:
            raise InputError(
                Mistake(
                    f"--set {argument}: expected path=value",
                    place,
                    because="a path is keys joined by dots, with [n] for the n-th item of a list",
                    attempt="--set cluster.num_gpus=4  or  --set 'targets[0]=q_proj'",
                )
            )
        value = parse_document(text, place.file).data if text.strip() else None
        document = replace(
            document,
            data=_assign(document.data, path, value, argument, 0),
            overrides=(*document.overrides, argument),
            _overridden=(*document._overridden, (path, argument)),
        )
    return document


def value_at(document: Document, target: str) -> Any:
    """What stands at a dotted path such as `cluster.pools[0].num_gpus`; the path must exist."""
    value = document.data
    for step in _parse_path(target.strip()) or ():
        value = value[step]
    return value


def validate(document: Document, model: type[Model], *, path: tuple[PathKey, ...] = ()) -> Model:
    """The part of a document at path as a checked record; every mistake in it is reported, not only the first."""
    data = document.data
    for step in path:
        data = data[step]
    if not path and (another := another_kind(data, model, document.name)) is not None:
        raise InputError(another)
    problems: list[Mistake]
    try:
        record = model.model_validate(data)
    except ValidationError as error:
        problems = explain(error, data, model, lambda tail: document.place(path + tail))
    else:
        problems = coerced_scalars(data, record, lambda tail: document.place(path + tail))
        if not problems:
            return record
    raise InputError(sorted(problems, key=lambda p: (p.where.line or 0, p.where.column or 0) if p.where else (0, 0)))


def _parse_path(text: str) -> tuple[PathKey, ...] | None:
    path: list[PathKey] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            return None
        quoted, bare, index = match.groups()
        path.append(int(index) if index is not None else (quoted or bare.strip()))
        position = match.end()
    if not path or isinstance(path[0], int) or "" in path or len(path) > MAX_DEPTH:
        return None
    return tuple(path)


def _assign(data: Any, path: tuple[PathKey, ...], value: Any, argument: str, depth: int) -> Any:
    """A copy of data with the value at path replaced; untouched branches are shared."""
    if depth == len(path):
        return value
    step = path[depth]
    here = dotted_path(path[:depth]) or "the document"
    if isinstance(step, str) and (data is None or isinstance(data, dict)):
        old = data or {}
        return {**old, step: _assign(old.get(step), path, value, argument, depth + 1)}
    if isinstance(step, int) and (data is None or isinstance(data, list)):
        items = list(data or [])
        if step > len(items):
            _refuse_override(argument, f"{here} has {len(items)} items, so the next index is {len(items)}")
        items[step : step + 1] = [_assign(items[step] if step < len(items) else None, path, value, argument, depth + 1)]
        return items
    kind = "a mapping" if isinstance(data, dict) else "a list" if isinstance(data, list) else f"the value {data!r}"
    because = f"{here} is {kind}, which has no {'item' if isinstance(step, int) else 'key'} {step!r}"
    attempt = None
    if isinstance(data, list) and isinstance(step, str):
        right = dotted_path((*path[:depth], int(step) if step.isdecimal() else 0, *path[depth + step.isdecimal() :]))
        attempt = f"--set '{right}={argument.partition('=')[2]}'"
    _refuse_override(argument, because, attempt)


def _refuse_override(argument: str, because: str, attempt: str | None = None) -> NoReturn:
    place = Place(f"--set {argument}")
    raise InputError(Mistake(f"--set {argument} cannot be applied", place, because=because, attempt=attempt))


@lru_cache(maxsize=2048)
def _parse(raw: bytes, name: str, *, any_key: bool = False) -> Document:
    """The document of these bytes: a process that asks several questions reads each catalog entry once.

    Data of documents are never changed, so that they can be shared.
    """
    if len(raw) > MAX_BYTES:
        refuse(
            name, f"{name} is larger than {MAX_BYTES // 1024} KiB", because="no scenario or catalog entry needs more"
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        refuse(name, f"{name} is not UTF-8 text", (line, None), because=f"byte 0x{raw[error.start]:02x} is not UTF-8")
    bad = FORBIDDEN.search(text)
    if bad is not None:
        line = text.count("\n", 0, bad.start()) + 1
        column = bad.start() - text.rfind("\n", 0, bad.start())
        refuse(name, f"{name} holds the control character U+{ord(bad.group()):04X}", (line, column))
    data, mark = build(text, name, any_key=any_key)
    return Document(name=name, data=data, sha256=hashlib.sha256(raw).hexdigest(), _marks=mark)


def load(path: str, overrides: Sequence[str] = ()) -> Document:
    """Read a scenario file and apply `--set` overrides.

    Raises InputError for a file that cannot be read or an override that has no place.
    """
    return with_overrides(read_document(path), overrides)


def override(document: Document, changes: Mapping[str, object]) -> Document:
    """The same scenario with other values at these dotted paths."""
    return with_overrides(document, [f"{path}={json_value(path, value)}" for path, value in changes.items()])


def json_value(path: str, value: object) -> str:
    """A value as it would be typed after `--set path=`. Raises InputError for one that is not plain data."""
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        because = str(error) or type(error).__name__
        attempt = "plain text, numbers, lists and dicts"
        raise InputError(Mistake(f"the value of {path} is not plain data", Place(path), because, attempt)) from None
