"""Pydantic's findings in the words of the file: one message a mistake, with its line and the nearest right word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from planner.errors import Mistake, Place
from planner.inputs.yaml_values import PathKey
from planner.schema.docstrings import field_docstrings

BECAUSE_WIDTH, LONGEST_WORD = 69, 200
"""Characters of one line of 80 behind `because:`; of a word that others are compared with."""
PlaceOf = Callable[[tuple[PathKey, ...]], Place]

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "model_attributes": "a mapping",
    "mapping": "a mapping",
    "none_required": "nothing",
    "finite_number": "a finite number",
    "date": "a date (YYYY-MM-DD)",
    "path": "a path",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_NUMERAL = re.compile(r"\s*[-+]?[0-9_]*\.?[0-9_]+(?:[eE][-+]?[0-9]+)?\s*\Z")


def nearest(word: str, choices: Sequence[str]) -> str | None:
    """The choice a mistyped word most likely meant, or None."""
    lowered = {choice.lower(): choice for choice in reversed(choices)}
    found = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def did_you_mean(word: str, choices: Sequence[str]) -> str | None:
    """The sentence for `try:`, or None when nothing is close. `gpus` is rather `num_gpus` than `gpu`."""
    longer = [choice for choice in choices if choice.endswith(f"_{word}")]
    if 0 < len(longer) <= 3:
        return f"did you mean {' or '.join(f'`{choice}`' for choice in sorted(longer))}?"
    match = nearest(word, choices)
    return None if match is None else f"did you mean `{match}`?"


def nearest_few(
    word: str, choices: Sequence[str], whole: str = "the keys here are", counted: str = "keys are known here"
) -> str:
    """All choices where one line holds them; else how many there are, and as many of those most like the word."""
    everything = f"{whole} {', '.join(sorted(choices))}"
    if len(everything) <= BECAUSE_WIDTH:
        return everything
    word = word[:LONGEST_WORD].lower()

    def likeness(choice: str) -> float:
        names = (choice.lower(), choice.lower().partition("-")[0])
        return max(difflib.SequenceMatcher(None, word, name).ratio() for name in names)

    first, *others = sorted(choices, key=lambda choice: (-likeness(choice), choice))
    text = f"{len(choices)} {counted}, nearest: {first}"
    for choice in others:
        text += f", {choice}" if len(text) + len(choice) + 2 <= BECAUSE_WIDTH else ""
    return text


def some_of(choices: Sequence[str], most: int = 12) -> str:
    """Choices for a message, cut after the first few."""
    return ", ".join(choices[:most]) + (f" and {len(choices) - most} more" if len(choices) > most else "")


@dataclass
class _Finding:
    """One pydantic error, its location split into keys of the data and labels of union branches."""

    kind: str
    message: str
    value: Any
    context: dict[str, Any]
    trace: list[tuple[bool, PathKey]]
    """(is a label, step)."""
    options: list[str] = field(default_factory=list)
    """Allowed words, for a literal or an enum."""
    expected: list[str] = field(default_factory=list)
    """What the value may be, once the branches of a union are joined."""

    @property
    def path(self) -> tuple[PathKey, ...]:
        return tuple(step for label, step in self.trace if not label)

    @property
    def labels(self) -> set[PathKey]:
        return {step for label, step in self.trace if label}


def explain(error: ValidationError, data: Any, model: type[BaseModel], place: PlaceOf) -> list[Mistake]:
    """All mistakes that a ValidationError stands for, one Problem each."""
    found = [_finding(raw, data) for raw in error.errors(include_url=False)]
    found = _choose(found, 0)
    unknown: dict[tuple[PathKey, ...], list[str]] = {}
    for item in found:
        if item.kind == "extra_forbidden":
            unknown.setdefault(item.path[:-1], []).append(str(item.path[-1]))
    problems = []
    for item in found:
        parent = unknown.get(item.path[:-1], []) if item.path else []
        if item.kind == "missing" and any(nearest(key, [str(item.path[-1])]) for key in parent):
            continue  # the mistyped key is reported; the missing one is the same mistake
        problems.append(_problem(item, model, place))
    return problems


def coerced_scalars(data: Any, record: Any, place: PlaceOf) -> list[Mistake]:
    """Numbers that the file does not write as numbers: pydantic takes true as 1 and "16" as 16, hiding the slip."""
    problems: list[Mistake] = []
    stack: list[tuple[tuple[PathKey, ...], object, object]] = [((), {0: data}, {0: record})]
    while stack:
        path, raw, value = stack.pop()
        for key, old, new in _pairs(raw, value):
            if isinstance(old, dict | list):
                stack.append(((*path, key), old, new))
            elif isinstance(old, bool | str) and _is_coerced(old, new):
                where = place((*path, key)[1:])
                attempt = None if isinstance(old, bool) else f"{old.replace('_', '').strip()}, without quotes"
                problems.append(Mistake(f"{where.path}: expected a number, got {_show(old)}", where, attempt=attempt))
    return problems


def _pairs(raw: object, value: object) -> Iterable[tuple[PathKey, object, object]]:
    """(key, as the file has it, as the record has it) of what a mapping or a list holds, where both are alike."""
    if isinstance(raw, list) and isinstance(value, list | tuple) and len(raw) == len(value):
        return zip(range(len(raw)), raw, value, strict=True)
    if isinstance(raw, dict) and isinstance(value, BaseModel):
        fields = type(value).model_fields
        return [(name, old, getattr(value, name)) for name, old in raw.items() if name in fields]
    if isinstance(raw, dict) and isinstance(value, dict) and len(raw) == len(value):
        return zip(raw, raw.values(), value.values(), strict=True)
    return ()


def _is_coerced(raw: bool | str, value: object) -> bool:
    """Pydantic made a number of what is none in the file."""
    if not isinstance(value, int | float) or isinstance(value, bool | Enum):
        return False
    return isinstance(raw, bool) or _NUMERAL.match(raw) is not None


def _finding(raw: Any, data: Any) -> _Finding:
    trace: list[tuple[bool, PathKey]] = []
    current, steps = data, list(raw["loc"])
    for number, step in enumerate(steps):
        last = number == len(steps) - 1
        known = (isinstance(current, dict) and step in current) or (
            isinstance(current, list) and isinstance(step, int) and step < len(current)
        )
        if known:
            current = current[step]
        trace.append((not known and not (last and raw["type"] == "missing"), step))
    context = dict(raw.get("ctx", {}))
    item = _Finding(raw["type"], raw["msg"], raw["input"], context, trace)
    if item.kind in ("literal_error", "enum"):
        item.options = _words(context.get("expected", ""))
    elif item.kind == "union_tag_invalid":
        item.options = _words(context.get("expected_tags", ""))
        item.trace.append((False, context["discriminator"].strip("'")))
        item.value = context["tag"]
    return item


def _words(text: str) -> list[str]:
    quoted = re.findall(r"'([^']*)'", text)
    return quoted or [part for part in re.split(r", | or ", text) if part]


def _choose(found: list[_Finding], at: int) -> list[_Finding]:
    """Keep one branch of every union: the one that the file most plausibly means."""
    kept: list[_Finding] = []
    groups: dict[tuple[bool, PathKey], list[_Finding]] = {}
    for item in found:
        if len(item.trace) <= at:
            kept.append(item)
        else:
            groups.setdefault(item.trace[at], []).append(item)
    branches = [group for (label, _), group in groups.items() if label]
    for (label, _), group in groups.items():
        if not label:
            kept += _choose(group, at + 1)
    if len(branches) == 1:
        kept += _choose(branches[0], at + 1)
    elif branches:
        best = min(branches, key=lambda group: _strangeness(group, at))
        if all(_foreign(item, at) for group in branches for item in group):
            kept.append(_joined([group[0] for group in branches], at))
        else:
            kept += _choose(best, at + 1)
    return kept


def _foreign(item: _Finding, at: int) -> bool:
    """The value is not of this branch's type at all, or not one of its words."""
    return len(item.trace) == at + 1 and (bool(item.options) or _expectation(item) is not None)


def _strangeness(group: list[_Finding], at: int) -> tuple[int, int, int]:
    """How unlikely it is that a branch was meant; the smallest wins."""
    foreign = sum(_foreign(item, at) for item in group)
    wrong_tag = sum(item.kind == "literal_error" and len(item.trace) == at + 2 for item in group)
    return foreign, wrong_tag, len(group)


def _joined(items: list[_Finding], at: int) -> _Finding:
    first = items[0]
    both = _Finding("union", first.message, first.value, {}, first.trace[:at])
    for item in items:
        both.options += item.options
        expectation = _expectation(item)
        if expectation and expectation not in both.expected:
            both.expected.append(expectation)
    return both


def _expectation(item: _Finding) -> str | None:
    for ending in ("_type", "_parsing", "_from_float", "_parsing_size"):
        if item.kind.endswith(ending):
            return _EXPECTED.get(item.kind.removesuffix(ending))
    return _EXPECTED.get(item.kind)


def _problem(item: _Finding, model: type[BaseModel], place: PlaceOf) -> Mistake:
    path = item.path
    where = place(path)
    name = where.path or where.file
    if item.kind == "extra_forbidden":
        names = _field_names(model, path[:-1], item.labels)
        parent = place(path[:-1]).path
        return Mistake(
            f"unknown key `{path[-1]}`" + (f" in {parent}" if parent else ""),
            where,
            because=nearest_few(str(path[-1]), names) if names else None,
            attempt=did_you_mean(str(path[-1]), names) or _elsewhere(model, str(path[-1])),
        )
    if item.kind in ("missing", "union_tag_not_found"):
        if item.kind == "union_tag_not_found":
            path = (*path, item.context["discriminator"].strip("'"))
            name = place(path).path or name
        allowed = _words_of(model, path, item.labels)
        attempt = f"{path[-1]}: {allowed[0]} (or {', '.join(allowed[1:])})" if len(allowed) > 1 else None
        return Mistake(f"{name} is missing", place(path), _description(model, path, item.labels), attempt)
    if item.options or item.expected:
        wanted = [*item.expected, *([f"one of {some_of(item.options, 30)}"] if item.options else [])]
        attempt = did_you_mean(item.value, item.options) if isinstance(item.value, str) else None
        return Mistake(f"{name}: expected {' or '.join(wanted)}, got {_show(item.value)}", where, attempt=attempt)
    if (True, "[key]") in item.trace:
        return Mistake(f"{name}: the key must be {_expectation(item) or 'of another kind'}", where)
    description = _description(model, path, item.labels)
    expectation = _expectation(item)
    if expectation is not None:
        alone = expectation == "a list" and isinstance(item.value, str | int | float)
        attempt = f"[{item.value}]" if alone else None
        return Mistake(f"{name}: expected {expectation}, got {_show(item.value)}", where, description, attempt)
    if item.kind in _BOUNDS:
        key, words = _BOUNDS[item.kind]
        what = f"{name} must be {words} {item.context[key]:g}, got {_show(item.value)}"
        return Mistake(what, where, because=description)
    if item.kind in ("too_short", "too_long"):
        least = item.context.get("min_length", item.context.get("max_length"))
        words = "at least" if item.kind == "too_short" else "at most"
        return Mistake(f"{name} must hold {words} {least} items, got {item.context['actual_length']}", where)
    if item.kind in ("value_error", "assertion_error"):
        return Mistake(f"{name}: {item.context.get('error', item.message)}", where)
    text = item.message.replace("Input should", "it should").replace("String should", "it should")
    return Mistake(f"{name}: {text[:1].lower()}{text[1:]}, got {_show(item.value)}", where, because=description)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Literal:
        return []
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _models_at(model: type[BaseModel], path: tuple[PathKey, ...], labels: set[PathKey]) -> list[type[BaseModel]]:
    """The record types that may stand at path; labels of a union narrow them."""
    models = [model]
    for step in path:
        annotations = [
            m.model_fields[step].annotation for m in models if isinstance(step, str) and step in m.model_fields
        ]
        if annotations:
            models = [inner for annotation in annotations for inner in _models_in(annotation)]
    named = [m for m in models if m.__name__ in labels or _tags(m) & labels]
    return named or models


def _elsewhere(model: type[BaseModel], key: str) -> str | None:
    """A key that stands in another place of the record: `headroom_gib` is `limits.headroom_gib`."""
    found = paths_to(model, key)
    return f"did you mean `{'` or `'.join(found[:3])}`?" if found else None


def paths_to(model: type[BaseModel], key: str, before: str = "", depth: int = 3) -> list[str]:
    """Dotted paths of a record, lists left out, that end with this key; the shortest first."""
    found = [f"{before}{key}"] if key in model.model_fields else []
    if depth:
        for name, info in model.model_fields.items():
            if get_origin(info.annotation) not in (list, tuple):
                for inner in _models_in(info.annotation):
                    found += paths_to(inner, key, f"{before}{name}.", depth - 1)
    return sorted(dict.fromkeys(found), key=lambda path: (path.count("."), path))


def _tags(model: type[BaseModel]) -> set[PathKey]:
    return {
        word
        for info in model.model_fields.values()
        if get_origin(info.annotation) is Literal
        for word in get_args(info.annotation)
    }


def _field_names(model: type[BaseModel], path: tuple[PathKey, ...], labels: set[PathKey]) -> list[str]:
    return list(dict.fromkeys(name for m in _models_at(model, path, labels) for name in m.model_fields))


def _words_of(model: type[BaseModel], path: tuple[PathKey, ...], labels: set[PathKey]) -> list[str]:
    """The words that a field takes, where it takes nothing else."""
    fields = (m.model_fields.get(str(path[-1])) for m in _models_at(model, path[:-1], labels))
    field = next((each for each in fields if each is not None), None)
    literal = field is not None and get_origin(field.annotation) is Literal
    return [str(word) for word in get_args(field.annotation)] if field is not None and literal else []


def _description(model: type[BaseModel], path: tuple[PathKey, ...], labels: set[PathKey]) -> str | None:
    """First sentence of the docstring under the field at path."""
    if not path or not isinstance(path[-1], str):
        return None
    for owner in _models_at(model, path[:-1], labels):
        said = field_docstrings(owner).get(path[-1])
        if said:
            return said.split("\n\n")[0].replace("\n", " ")
    return None
