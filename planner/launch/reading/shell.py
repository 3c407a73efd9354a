"""Bash scripts read without running them: variables, arrays, continuations, sourced files, and the commands they make.

Source of the grammar: tree-sitter-bash. A value that only a running shell would know is marked, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import InputError, Mistake, Place
from planner.inputs.files import read_lenient

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_BYTES = 2_000_000
MAX_SOURCED = 20
MAX_ENDS = 6
"""Ends of a sourced path that are looked for beside the script: what stands before them is another machine's."""
BLOCKS = frozenset(
    ("program", "list", "if_statement", "elif_clause", "else_clause", "case_statement", "case_item", "for_statement",
     "c_style_for_statement", "while_statement", "do_group", "subshell", "compound_statement", "pipeline",
     "redirected_statement", "function_definition", "negated_command")
)  # fmt: skip


@dataclass(frozen=True)
class Word:
    """One word of a command."""

    text: str
    file: str
    line: int
    known: bool = True
    """False where a part of it is only known to a running shell."""


@dataclass
class Bash:
    """What a script has set so far, and the commands that it would run."""

    variables: dict[str, Word] = field(default_factory=dict)
    arrays: dict[str, tuple[Word, ...]] = field(default_factory=dict)
    commands: list[tuple[Word, ...]] = field(default_factory=list)
    exports: dict[str, Word] = field(default_factory=dict)
    unread: list[tuple[Word, str]] = field(default_factory=list)
    """(place, why) of what could not be read."""
    sourced: int = 0


def read_script(path: Path, text: str, name: str) -> Bash:
    """The commands and variables of a script. Raises InputError for text that is too long."""
    shell = Bash()
    _read(shell, path, text, name)
    return shell


def _read(shell: Bash, path: Path, text: str, name: str) -> None:
    raw = text.encode()
    if len(raw) > MAX_BYTES:
        raise InputError(Mistake(f"{name} has more than {MAX_BYTES:,} bytes", Place(name)))
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_bash.language())).parse(raw)
    _Walk(shell, path, name).block(tree.root_node)


@dataclass
class _Alone:
    """One node as the only child of a block."""

    node: Node

    @property
    def named_children(self) -> list[Node]:
        return [self.node]


@dataclass
class _Walk:
    shell: Bash
    path: Path
    name: str

    def block(self, node: Node | _Alone) -> None:
        for child in node.named_children:
            if child.type in ("if_statement", "case_statement"):
                self.branches(child)
            elif child.type in BLOCKS:
                self.block(child)
            elif child.type == "variable_assignment":
                self.assign(child, exported=False)
            elif child.type == "declaration_command":
                for part in child.named_children:
                    if part.type == "variable_assignment":
                        self.assign(part, exported=child.text is not None and child.text.startswith(b"export"))
            elif child.type == "command":
                self.command(child)
            elif child.type == "ERROR":
                self.shell.unread.append((self.word(child, "", False), "bash would not read this either"))

    def branches(self, node: Node) -> None:
        """Each branch on its own; of a variable that several set, one value is taken and the others are listed.

        A `case` of a known word takes the branch that names it. A value from before stays where a branch that may not
        be gone through sets another; else the first branch's is taken.
        """
        arms = [part for part in node.named_children if part.type in ("case_item", "elif_clause", "else_clause")]
        heads = [node] if node.type == "if_statement" else []
        named = self.named(node, arms)
        order = [*heads, *([named] if named is not None else []), *(arm for arm in arms if arm is not named)]
        sure = named is not None or any(arm.type == "else_clause" for arm in arms)
        before = dict(self.shell.variables)
        taken: dict[str, Word] = {}
        for arm in order:
            self.shell.variables = dict(before)
            for part in arm.named_children if arm is node else [arm]:
                if part not in arms or part is arm:
                    self.block(_Alone(part))
            for name, word in self.shell.variables.items():
                old = before.get(name)
                if old == word:
                    continue
                stays = old is not None and old.known and not (sure and arm is order[0])
                kept = taken.setdefault(name, old if stays and old is not None else word)
                if kept.text != word.text:
                    first = kept.text.replace("\0", "...")
                    why = f"{name} depends on a branch: {first!r} (line {kept.line}) is taken"
                    self.shell.unread.append((word, why))
        self.shell.variables = before | taken

    def named(self, node: Node, arms: list[Node]) -> Node | None:
        """The branch of a `case` that its word, where that is known, names; the one of `*` where none does."""
        subject = node.child_by_field_name("value")
        if node.type != "case_statement" or subject is None:
            return None
        text, known = self.value(subject)
        if not known:
            return None
        for wanted in (text, "*"):
            for arm in arms:
                patterns = arm.children_by_field_name("value")
                if any((part.text or b"").decode(errors="replace").strip("\"'") == wanted for part in patterns):
                    return arm
        return None

    def word(self, node: Node, text: str, known: bool) -> Word:
        return Word(text, self.name, node.start_point[0] + 1, known)

    def assign(self, node: Node, *, exported: bool) -> None:
        name_node, value = node.child_by_field_name("name"), node.child_by_field_name("value")
        if name_node is None or name_node.text is None or name_node.type != "variable_name":
            return
        name = name_node.text.decode(errors="replace")
        added = b"+=" in (node.text or b"").split(b"(")[0].split(b"\n")[0]
        if value is not None and value.type == "array":
            words = tuple(word for part in value.named_children if part.type != "comment" for word in self.words(part))
            self.shell.arrays[name] = (self.shell.arrays.get(name, ()) if added else ()) + words
            return
        found = self.one(value) if value is not None else self.word(node, "", True)
        if added and name in self.shell.variables:
            before = self.shell.variables[name]
            found = replace(found, text=before.text + found.text, known=before.known and found.known)
        self.shell.variables[name] = found
        if exported:
            self.shell.exports[name] = found

    def command(self, node: Node) -> None:
        words: list[Word] = []
        for part in node.named_children:
            if part.type == "variable_assignment":
                self.assign(part, exported=True)
            elif part.type == "command_name":
                words += [word for inner in part.named_children for word in self.words(inner)]
            elif part.type not in ("file_redirect", "heredoc_redirect", "herestring_redirect", "comment"):
                words += self.words(part)
        if words and words[0].text in ("source", ".") and len(words) > 1:
            self.source(words[1])
        elif words:
            self.shell.commands.append(tuple(words))

    def source(self, word: Word) -> None:
        tail = word.text.rpartition("\0")[2].lstrip("/")
        parts = Path(tail).parts
        ends = [Path(*parts[at:]) for at in range(min(len(parts), MAX_ENDS))]
        places = [parent / end for end in ends for parent in list(self.path.parents)[:3]]
        found = next((place for place in places if tail and place.is_file()), None)
        self.shell.sourced += 1
        if found is None or self.shell.sourced > MAX_SOURCED:
            what = f"the sourced file {tail}" if tail else "a sourced file whose name only a running shell knows"
            self.shell.unread.append((word, f"{what} is not here"))
            return
        _read(self.shell, found, read_lenient(found, Place(word.file, word.line), most_bytes=MAX_BYTES), str(found))

    def words(self, node: Node) -> Iterator[Word]:
        """The words that one argument becomes: an unquoted expansion is split, an array makes several."""
        array = self.array(node)
        if array is not None:
            yield from array
            return
        found = self.one(node)
        if node.type in ("simple_expansion", "expansion", "command_substitution") and found.known:
            yield from (replace(found, text=text) for text in found.text.split())
        else:
            yield found

    def array(self, node: Node) -> tuple[Word, ...] | None:
        """The words of `"${A[@]}"`, quoted or not; None for everything else."""
        inner = node
        if node.type == "string" and len(node.named_children) == 1:
            inner = node.named_children[0]
        text = (inner.text or b"").decode(errors="replace")
        match = re.fullmatch(r"\$\{(\w+)\[[@*]\](?:[^}]*)\}", text) if inner.type == "expansion" else None
        if match is None:
            return None
        words = self.shell.arrays.get(match[1])
        if words is None:
            return (self.word(node, "", False),) if match[1] not in self.shell.variables else (self.one(node),)
        if node.type == "expansion":  # unquoted: every element is split again
            return tuple(replace(word, text=text) for word in words for text in (word.text.split() or [""]))
        return words

    def one(self, node: Node) -> Word:
        """One word from a node; unknown parts are a NUL in its text."""
        text, known = self.value(node)
        return self.word(node, text, known)

    def value(self, node: Node) -> tuple[str, bool]:
        raw = (node.text or b"").decode(errors="replace")
        kind = node.type
        if kind == "raw_string":
            return raw[1:-1], True
        if kind == "string_content":
            return _in_quotes(raw), True
        if kind in ("word", "number", "variable_name", "regex", "extglob_pattern"):
            return re.sub(r"\\\n", "", re.sub(r"\\(.)", r"\1", raw)) if kind == "word" else raw, True
        if kind in ("string", "concatenation"):
            return self.joined(node)
        if kind == "simple_expansion":
            return self.variable(raw[1:])
        if kind == "expansion":
            return self.expansion(node, raw)
        if kind == "arithmetic_expansion":
            return self.arithmetic(raw)
        if kind == "ansi_c_string":
            return raw[2:-1], True
        return "\0", False

    def joined(self, node: Node) -> tuple[str, bool]:
        """Parts of a string in order; text between its children counts too (spaces before an expansion)."""
        out, known, source = "", True, node.text or b""
        start, quoted = node.start_byte, node.type == "string"
        position = start + quoted

        def between(first: int, last: int) -> str:
            text = source[first - start : last - start].decode(errors="replace")
            return _in_quotes(text) if quoted else text

        for part in node.named_children:
            text, sure = self.value(part)
            out, known = out + between(position, part.start_byte) + text, known and sure
            position = part.end_byte
        return out + between(position, node.end_byte - quoted), known

    def variable(self, name: str) -> tuple[str, bool]:
        found = self.shell.variables.get(name)
        if found is None:
            first = self.shell.arrays.get(name)
            return (first[0].text, first[0].known) if first else ("\0", False)
        return found.text, found.known

    def expansion(self, node: Node, raw: str) -> tuple[str, bool]:
        match = re.fullmatch(r"\$\{(\w+)(?:(:?[-=?+])(.*))?\}", raw, re.DOTALL)
        if match is None:
            return "\0", False
        text, known = self.variable(match[1])
        if known or match[2] is None or match[2][-1] in "?+":
            return text, known
        parts = [part for part in node.named_children if part.type not in ("variable_name", "special_variable_name")]
        if not parts:
            return match[3].strip("'\""), True
        values = [self.value(part) for part in parts]
        return "".join(text for text, _ in values), all(sure for _, sure in values)

    def arithmetic(self, raw: str) -> tuple[str, bool]:
        """Whole numbers with + - * / % and brackets, variables by name."""
        inner = raw.removeprefix("$((").removesuffix("))")

        def number(match: re.Match[str]) -> str:
            text, known = self.variable(match[1])
            return text if known and re.fullmatch(r"-?\d+", text) else "?"

        plain = re.sub(r"\$?\{?\b([A-Za-z_]\w*)\}?", number, inner)
        value = whole(plain)
        return ("\0", False) if value is None else (str(value), True)


def _in_quotes(text: str) -> str:
    """Text between double quotes as bash takes it: a line that goes on is joined, and \\ keeps few characters."""
    return re.sub(r'\\(["\\$`])', r"\1", re.sub(r"\\\n", "", text))


def whole(text: str) -> int | None:
    """The value of a sum of whole numbers as the shell divides them; None for anything else.

    >>> whole("(1 + 2) * 7 / 2")
    10
    """
    tokens = re.findall(r"\d+|[-+*/%()]|\S", text)
    position = 0

    def factor() -> int:
        nonlocal position
        token = tokens[position]
        position += 1
        if token == "(":
            value = total()
            position += 1
            return value
        return -factor() if token == "-" else int(token)

    def product() -> int:
        nonlocal position
        value = factor()
        while position < len(tokens) and tokens[position] in "*/%":
            sign = tokens[position]
            position += 1
            other = factor()
            value = value * other if sign == "*" else value // other if sign == "/" else value % other
        return value

    def total() -> int:
        nonlocal position
        value = product()
        while position < len(tokens) and tokens[position] in "+-":
            sign = tokens[position]
            position += 1
            value = value + product() if sign == "+" else value - product()
        return value

    try:
        value = total()
    except (ValueError, IndexError, ZeroDivisionError, RecursionError):
        return None
    return value if position == len(tokens) else None
