"""YAML 1.2 text to plain data, event by event.

Depth, size, tags and aliases are checked while a parser runs and before anything is built, with a stack of our own, so
that no input can exhaust Python's. Scalars follow the YAML 1.2 core schema. Events are libyaml's (PyYAML), ten times as
fast as those of ruamel.yaml's pure parser, which reads what libyaml may read otherwise and words every mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from planner.errors import InputError
from planner.inputs.yaml_values import FORBIDDEN, MAX_DEPTH, MAX_NODES, Mark, Odd, PathKey, plain, refuse

if TYPE_CHECKING:
    from ruamel.yaml.error import MarkedYAMLError

Found = tuple[Any, Mark]
"""Data, and where each value of it stands."""
_OTHERWISE = re.compile("[\t\r\x85\u2028\u2029\ufeff]|^(?:---|\\.\\.\\.|%)|\\n(?:---|\\.\\.\\.|%)|[|>][-+0-9]*#")
"""What YAML 1.1, which libyaml reads, has otherwise: tabs, other ends of lines, marks of documents,
directives, a comment right behind the sign of a block of text."""
_HINTS = (
    ("cannot start any token", "a tab cannot indent; use spaces, and quote a value that starts with @, ` or %"),
    ("mapping values are not allowed", "check the indentation, and quote a value that contains ': '"),
    ("expected <block end>", "lines of one block start in the same column"),
    ("could not find expected ':'", "write `key: value`, with a space after the colon"),
    ("found undefined alias", "an alias (*name) needs its anchor (&name) further up; quote a value that starts with *"),
    ("while scanning a quoted scalar", "close the quotation mark"),
    ("expected ',' or", "close the bracket, or put a comma between the items"),
)


def build(text: str, name: str, *, any_key: bool = False) -> Found:
    """The only document of a YAML text as dict, list, str, int, float, bool and None, with a mark for every value.

    `any_key` takes keys that are numbers or truth values as the text that they were written as, and merges under `<<`.
    """
    found = quick(text, name, any_key=any_key)
    return whole(text, name, any_key=any_key) if found is None else found


def quick(text: str, name: str, *, any_key: bool = False) -> Found | None:
    """The same by libyaml, or None for a text that is wrong or may be read otherwise by it."""
    try:
        from yaml import CSafeLoader, YAMLError, parse
    except ImportError:  # PyYAML was built without libyaml
        return None
    if _OTHERWISE.search(text):
        return None
    builder = _Builder(name, any_key)
    try:
        found = builder.build(parse(text, Loader=CSafeLoader))
    except (YAMLError, InputError):
        return None
    return None if builder.anchors else found  # their names end otherwise


def whole(text: str, name: str, *, any_key: bool = False) -> Found:
    """The same by the grammar of YAML 1.2. Raises InputError for a text that is wrong."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError

    parser = YAML(typ="safe", pure=True)
    try:
        return _Builder(name, any_key).build(parser.parse(text))
    except InputError:
        raise
    except MarkedYAMLError as error:
        _refuse_syntax(name, error)
    except Exception as error:  # the parser lets a few builtin errors out on malformed escapes and directives
        refuse(name, f"{name} is not valid YAML", because=str(error).splitlines()[0] if str(error) else None)


class _Open:
    """A list or mapping whose end has not come yet."""

    __slots__ = ("anchor", "children", "height", "key", "key_mark", "mark", "merged", "nodes", "value")

    def __init__(self, value: Any, mark: Any, anchor: str | None) -> None:
        self.value = value
        self.mark = mark
        self.anchor = anchor
        self.children: dict[PathKey, Mark] = {}
        self.key: str | None = None
        self.key_mark: Any = None
        self.nodes = 1
        self.height = 0
        self.merged: set[str] = set()
        """Keys of mappings under `<<`, which its own take the place of."""


class _Builder:
    """Builds plain data from parser events with a stack of its own, so that no input can exhaust Python's."""

    def __init__(self, name: str, any_key: bool) -> None:
        self.name, self.any_key = name, any_key
        self.stack: list[_Open] = []
        self.anchors: dict[str, Found | None] = {}
        self.result: Found | None = None
        self.nodes = 0
        self.documents = 0

    def build(self, events: Iterable[Any]) -> Found:
        for event in events:
            kind = type(event).__name__
            if kind == "ScalarEvent":
                self.scalar(event)
            elif kind in ("MappingStartEvent", "SequenceStartEvent"):
                self.open(event, {} if kind == "MappingStartEvent" else [])
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                self.close()
            elif kind == "AliasEvent":
                self.alias(event)
            elif kind == "DocumentStartEvent":
                self.documents += 1
                if self.documents > 1:
                    self.refuse(
                        f"{self.name} holds more than one document",
                        event,
                        because="`---` starts a second one; keep one a file",
                    )
        if self.result is None or (self.result[0] is None and self.result[1].column == 0):
            refuse(self.name, f"{self.name} is empty")
        return self.result

    def scalar(self, event: Any) -> None:
        self.check_tag(event)
        text: str = event.value
        style: str | None = event.style
        if style == '"' and (bad := FORBIDDEN.search(text)):
            self.refuse(f"the text holds the control character U+{ord(bad.group()):04X}", event)
        start = event.start_mark
        line, column = start.line + 1, start.column + 1
        top = self.stack[-1] if self.stack else None
        if top is not None and type(top.value) is dict and top.key is None:
            value = text if style else self.resolve(text, event)
            if self.any_key and text:
                value = text
            if not isinstance(value, str):
                self.refuse(f"the key {text or 'null'!r} is not text", event, attempt=f'put it in quotes: "{text}"')
            self.set_key(top, value, event)
            if event.anchor:
                self.anchors[event.anchor] = (value, Mark(line, column))
            return
        value = text if style else self.resolve(text, event)
        if top is None and value is None and not text:
            column = 0
        self.weigh(1, event)
        self.add(value, Mark(line, column), event.anchor)

    def open(self, event: Any, value: Any) -> None:
        self.check_tag(event)
        if len(self.stack) >= MAX_DEPTH:
            self.refuse(f"{self.name} is nested deeper than {MAX_DEPTH} levels", event)
        top = self.stack[-1] if self.stack else None
        if top is not None and type(top.value) is dict and top.key is None:
            self.refuse("a list or mapping stands as a key", event, because="keys are text")
        self.weigh(1, event)
        if event.anchor:
            self.anchors[event.anchor] = None
        self.stack.append(_Open(value, event.start_mark, event.anchor))

    def close(self) -> None:
        done = self.stack.pop()
        mark = Mark(done.mark.line + 1, done.mark.column + 1, done.nodes, done.height + 1, done.children)
        self.add(done.value, mark, done.anchor)

    def alias(self, event: Any) -> None:
        if event.anchor not in self.anchors:
            self.refuse(f"the alias *{event.anchor} has no anchor", event, because="an anchor (&name) comes before it")
        target = self.anchors[event.anchor]
        if target is None:
            self.refuse(f"the alias *{event.anchor} contains itself", event)
        value, mark = target
        top = self.stack[-1]
        if type(top.value) is dict and top.key is None:
            if not isinstance(value, str):
                self.refuse(f"the alias *{event.anchor} is used as a key but is not text", event)
            self.set_key(top, value, event)
            return
        self.weigh(mark.nodes, event)
        if len(self.stack) + mark.height > MAX_DEPTH:
            self.refuse(f"{self.name} is nested deeper than {MAX_DEPTH} levels", event)
        start = event.start_mark
        self.add(value, replace(mark, line=start.line + 1, column=start.column + 1), None)

    def set_key(self, top: _Open, key: str, event: Any) -> None:
        if key in top.merged:
            top.merged.remove(key)
            del top.value[key], top.children[key]
        if key in top.value:
            before = top.children[key].line
            self.refuse(f"the key `{key}` stands twice", event, because=f"it is already set on line {before}")
        if key == "<<" and not getattr(event, "style", None) and not self.any_key:
            self.refuse("merge keys (<<) are not part of YAML 1.2", event, attempt="write the keys out")
        self.weigh(1, event)
        top.nodes += 1
        top.key, top.key_mark = key, event.start_mark

    def add(self, value: Any, mark: Mark, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = (value, mark)
        if not self.stack:
            self.result = (value, mark)
            return
        top = self.stack[-1]
        top.nodes += mark.nodes
        top.height = max(top.height, mark.height)
        if top.key is None:
            top.children[len(top.value)] = mark
            top.value.append(value)
        elif top.key == "<<" and self.any_key:
            self.merge(top, value)
        else:
            start = top.key_mark
            top.value[top.key] = value
            top.children[top.key] = Mark(start.line + 1, start.column + 1, mark.nodes, mark.height, mark.children)
            top.key = None

    def merge(self, top: _Open, value: Any) -> None:
        """The keys of a mapping, or of several, that are not there yet: YAML 1.1's `<<`, which PyYAML reads."""
        start = top.key_mark
        for part in value if isinstance(value, list) else [value]:
            if type(part) is not dict:
                what = f"{self.name} merges what is no mapping"
                refuse(self.name, what, (start.line + 1, start.column + 1), "`<<` takes mappings")
            for key in [key for key in part if key not in top.value]:
                top.value[key] = part[key]
                top.children[key] = Mark(start.line + 1, start.column + 1)
                top.merged.add(key)
        top.key = None

    def weigh(self, nodes: int, event: Any) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self.refuse(
                f"{self.name} holds more than {MAX_NODES:,} values",
                event,
                because="aliases count as often as they are used",
            )

    def check_tag(self, event: Any) -> None:
        tag = event.tag
        if tag is not None and str(tag) not in ("", "None"):
            self.refuse(
                f"the tag {tag} is not allowed",
                event,
                because="a file is plain data",
                attempt="leave the tag out",
            )

    def resolve(self, text: str, event: Any) -> Any:
        """A plain scalar, refused at its place."""
        try:
            return plain(text)
        except Odd as odd:
            self.refuse(odd.what, event, odd.because)

    def refuse(self, what: str, event: Any, because: str | None = None, attempt: str | None = None) -> NoReturn:
        start = event.start_mark
        refuse(self.name, what, (start.line + 1, start.column + 1), because, attempt)


def _refuse_syntax(name: str, error: MarkedYAMLError) -> NoReturn:
    mark = error.problem_mark or error.context_mark
    at = (None, None) if mark is None else (mark.line + 1, mark.column + 1)
    because = ", ".join(part for part in (error.context, error.problem) if part)
    attempt = next((hint for sign, hint in _HINTS if sign in because), None)
    refuse(name, f"{name} is not valid YAML", at, because or None, attempt)
