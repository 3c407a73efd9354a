"""The YAML that catalogs and scenarios are written in, read line by line, twenty times as fast as by the whole grammar.

Block mappings and lists, flow ones on one line, plain and quoted words on one line, folded text: no anchor, no tag, no
escape, no second document. `read` gives None for any text that holds something else, also for every text that is wrong:
`yaml_builder.build` then reads it by the whole grammar and words the mistake. Where it gives an answer it is that of
`build`, value for value and mark for mark.
"""

from __future__ import annotations

import re

from planner.inputs.yaml_values import MAX_DEPTH, MAX_NODES, Mark, Odd, PathKey, plain

_STRANGE = re.compile("[\t\r\x85\u2028\u2029\ufeff]|^(?:---|\\.\\.\\.|%)|\\n(?:---|\\.\\.\\.|%)")
"""Tabs, other ends of lines, marks of documents, directives."""
_COMMENT = re.compile(r" *(?:#.*)?\Z")
_KEY = re.compile(r'(?:(-{0,2}[A-Za-z_][A-Za-z0-9_./-]*)|"([^"\\]+)"):(?: +|\Z)')
_QUOTED = re.compile(r"""(?:"((?:[^"\\]|\\["\\])*)"|'((?:[^']|'')*)')""")
_ESCAPED = re.compile(r"\\(.)")
_PLAIN = re.compile(r"(?:[A-Za-z0-9_./+~<($=^;]|-{1,2}(?=[A-Za-z0-9.]))(?:(?!: | #|:\Z).)*")
_IN_FLOW = re.compile(r"(?:[A-Za-z0-9_./+~<($=^;]|-{1,2}(?=[A-Za-z0-9.]))[^,\[\]{}:#?]*")
_TEXT = re.compile(r"([>|])(-?)\Z")

_Line = tuple[int, int, str]
"""(number, indent, what follows it)."""
_Node = tuple[object, Mark]


def read(text: str) -> _Node | None:
    """The only document of a text with a mark for every value, or None where it takes the whole grammar."""
    if _STRANGE.search(text):
        return None
    try:
        return _PlainText(text).document()
    except Odd:
        return None


class _PlainText:
    """The lines of a text and how far they are read. Every method raises Odd for what is not plain enough."""

    def __init__(self, text: str) -> None:
        self.raw = text.split("\n")
        self.lines: list[_Line] = []
        for number, line in enumerate(self.raw, 1):
            rest = line.lstrip(" ")
            if rest and rest[0] != "#":
                self.lines.append((number, len(line) - len(rest), rest))
        self.at = 0

    def document(self) -> _Node:
        if not self.lines:
            raise Odd
        number, indent, rest = self.lines[0]
        if rest.startswith("- ") or _KEY.match(rest):
            found = self.block(indent)
        elif indent:
            raise Odd
        else:
            self.at = 1
            found = self.value(number, 0, rest, -1)
        if self.at < len(self.lines) or found[0] is None:
            raise Odd
        if found[1].nodes > MAX_NODES or found[1].height >= MAX_DEPTH:
            raise Odd
        return found

    def indent(self) -> int:
        """Of the next line; -1 at the end."""
        return self.lines[self.at][1] if self.at < len(self.lines) else -1

    def block(self, indent: int) -> _Node:
        """The mapping or the list whose first line is the next one."""
        return self.items(indent) if self.lines[self.at][2].startswith("- ") else self.mapping(indent)

    def mapping(self, indent: int) -> _Node:
        data: dict[str, object] = {}
        children: dict[PathKey, Mark] = {}
        nodes, height, begun = 1, 0, self.lines[self.at][0]
        while self.indent() == indent:
            number, _, rest = self.lines[self.at]
            match = _KEY.match(rest)
            if match is None:
                break
            key = _key(match)
            if key in data:
                raise Odd
            self.at += 1
            value, mark = self.entry(number, indent, rest, match.end())
            data[key] = value
            children[key] = Mark(number, indent + 1, mark.nodes, mark.height, mark.children)
            nodes += 1 + mark.nodes
            height = max(height, mark.height)
        if not data or self.indent() > indent:
            raise Odd
        return data, Mark(begun, indent + 1, nodes, height + 1, children)

    def entry(self, number: int, indent: int, rest: str, start: int) -> _Node:
        """What a key is followed by: on its line, or in the block below."""
        if start < len(rest) and rest[start] != "#":
            return self.value(number, indent + start, rest[start:], indent)
        below = self.indent()
        if below > indent:
            return self.block(below)
        if below == indent and self.lines[self.at][2].startswith("- "):
            return self.items(indent)
        raise Odd

    def items(self, indent: int) -> _Node:
        data: list[object] = []
        children: dict[PathKey, Mark] = {}
        nodes, height, begun = 1, 0, self.lines[self.at][0]
        while self.indent() == indent:
            number, _, rest = self.lines[self.at]
            if not rest.startswith("- "):
                break
            inner = rest[2:]
            if inner[:1] in ("", " ", "#", "-") or inner == "-":
                raise Odd
            if _KEY.match(inner):
                self.lines[self.at] = (number, indent + 2, inner)
                value, mark = self.mapping(indent + 2)
            else:
                self.at += 1
                value, mark = self.value(number, indent + 2, inner, indent)
            children[len(data)] = mark
            data.append(value)
            nodes += mark.nodes
            height = max(height, mark.height)
        if self.indent() > indent:
            raise Odd
        return data, Mark(begun, indent + 1, nodes, height + 1, children)

    def value(self, number: int, column: int, text: str, indent: int) -> _Node:
        """What stands in the rest of a line, in a block of that indent; the column counts from 0."""
        first = text[0]
        if first in "[{":
            found, end = _flow(number, column, text, 0, 0)
        elif first in "\"'":
            match = _QUOTED.match(text)
            if match is None:
                raise Odd
            found, end = (_unquoted(match), Mark(number, column + 1)), match.end()
        elif first in ">|":
            return self.text(number, column, text, indent)
        else:
            match = _PLAIN.match(text)
            if match is None:
                raise Odd
            word = match.group().rstrip(" ")
            found, end = (plain(word), Mark(number, column + 1)), len(word)
        if _COMMENT.match(text, end) is None or (end < len(text) and text[end] == "#") or self.indent() > indent:
            raise Odd
        return found

    def text(self, number: int, column: int, head: str, indent: int) -> _Node:
        """Lines of one indent that are folded, or kept as they are."""
        style = _TEXT.match(head)
        if style is None or indent < 0:
            raise Odd
        last = number
        while last < len(self.raw) and self.raw[last].startswith(" " * (indent + 1)) and self.raw[last].strip(" "):
            last += 1
        lines = self.raw[number:last]
        inner = len(lines[0]) - len(lines[0].lstrip(" ")) if lines else 0
        if not lines or any(line[inner : inner + 1] in ("", " ") or line[:inner].strip(" ") for line in lines):
            raise Odd
        after = next((line for line in self.raw[last:] if line), "")
        if last == len(self.raw) or (after and not after[: indent + 1].strip(" ")):
            raise Odd  # no end of line, or the text goes on below an empty one
        while self.at < len(self.lines) and self.lines[self.at][0] <= last:
            self.at += 1
        said = (" " if style[1] == ">" else "\n").join(line[inner:] for line in lines)
        return said + ("" if style[2] else "\n"), Mark(number, column + 1)


def _key(match: re.Match[str]) -> str:
    word, quoted = match.groups()
    if word is not None and not isinstance(plain(word), str):
        raise Odd
    return word or quoted


def _unquoted(match: re.Match[str]) -> str:
    double, single = match.groups()
    return _ESCAPED.sub(r"\1", double) if double is not None else single.replace("''", "'")


def _flow(number: int, column: int, text: str, at: int, depth: int) -> tuple[_Node, int]:
    """(the flow list or mapping that begins there, where it ends). Raises Odd."""
    if depth >= MAX_DEPTH:
        raise Odd
    is_list, begun = text[at] == "[", at
    close = "]" if is_list else "}"
    values: list[object] = []
    children: dict[PathKey, Mark] = {}
    nodes, height = 1, 0
    at = _blank(text, at + 1)
    while text[at : at + 1] != close:
        key: PathKey = len(children)
        place = at
        if not is_list:
            match = _KEY.match(text, at)
            if match is None or match.end() >= len(text) or _key(match) in children:
                raise Odd
            key, at = _key(match), match.end()
            nodes += 1
        (value, mark), at = _flow_value(number, column, text, at, depth)
        values.append(value)
        children[key] = mark if is_list else Mark(number, column + place + 1, mark.nodes, mark.height, mark.children)
        nodes += mark.nodes
        height = max(height, mark.height)
        at = _blank(text, at)
        if text[at : at + 1] == ",":
            at = _blank(text, at + 1)
            if text[at : at + 1] == close:
                raise Odd
        elif text[at : at + 1] != close:
            raise Odd
    data = values if is_list else dict(zip(children, values, strict=True))
    return (data, Mark(number, column + begun + 1, nodes, height + 1, children)), at + 1


def _flow_value(number: int, column: int, text: str, at: int, depth: int) -> tuple[_Node, int]:
    """(a value inside a flow list or mapping, where it ends). Raises Odd."""
    first = text[at : at + 1]
    if first in ("[", "{"):
        return _flow(number, column, text, at, depth + 1)
    mark = Mark(number, column + at + 1)
    if first in ('"', "'"):
        match = _QUOTED.match(text, at)
        if match is None:
            raise Odd
        return (_unquoted(match), mark), match.end()
    match = _IN_FLOW.match(text, at)
    if match is None:
        raise Odd
    return (plain(match.group().rstrip(" ")), mark), match.end()


def _blank(text: str, at: int) -> int:
    """The next place that holds no space."""
    while text[at : at + 1] == " ":
        at += 1
    return at
