"""Bash scripts read without running them: variables, arrays, continuations, sourced files, and the commands they make.

Source of the grammar: tree-sitter-bash. A value that only a running shell would know is marked, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import InputError, Mistake, Place
from planner.inputs.files import read_lenient
from planner.launch.reading.conditions import decided
from planner.launch.reading.words import Spots, Value, Word, bare, in_quotes, plain, whole

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


SHELLS = frozenset(("bash", "sh", "zsh"))
"""Programs that run the word after their option -c."""
GIVEN = "--env"
"""Where values stand that were handed over with the script."""
ARRAY = re.compile(r"\$\{(\w+)\[[@*]\](?:[^}]*)\}")
WHOLE_ARRAY = re.compile(r"\$\{(\w+)\[[@*]\]\}")
EXPANSION = re.compile(r"\$\{(\w+)(?:(:?[-=?+])(.*))?\}", re.DOTALL)
ENDS_OF_COMMANDS = frozenset((";", "&&", "||", "|", "&"))


@dataclass
class Bash:
    """What a script has set so far, and the commands that it would run."""

    variables: dict[str, Word] = field(default_factory=dict)
    arrays: dict[str, tuple[Word, ...]] = field(default_factory=dict)
    commands: list[tuple[Word, ...]] = field(default_factory=list)
    prefixes: dict[int, dict[str, Word]] = field(default_factory=dict)
    """Variables that stand before a command, by its number, which are set for it."""
    exports: dict[str, Word] = field(default_factory=dict)
    unread: list[tuple[Word, str]] = field(default_factory=list)
    """(place, why) of what could not be read."""
    sourced: int = 0


def read_script(path: Path, text: str, name: str, given: Mapping[str, str] | None = None) -> Bash:
    """The commands and variables of a script. Raises InputError for text that is too long.

    `given`: variables that it takes from outside, `1` and so on for its arguments.
    """
    shell = Bash({name: Word(value, GIVEN, 1) for name, value in (given or {}).items()})
    _read(shell, path, text, name)
    return shell


def _read(shell: Bash, path: Path, text: str, name: str, lines_before: int = 0) -> None:
    raw = text.encode()
    if len(raw) > MAX_BYTES:
        raise InputError(Mistake(f"{name} has more than {MAX_BYTES:,} bytes", Place(name)))
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_bash.language())).parse(raw)
    _Walk(shell, path, name, lines_before).block(tree.root_node)


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
    lines_before: int = 0
    """Lines of the file before this text, which may be a part of it: a word of bash -c, a document that ends in EOF."""

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
                for part in child.children:
                    self.document(part)
            elif child.type == "heredoc_redirect":
                self.document(child)
            elif child.type == "ERROR":
                self.shell.unread.append((self.word(child, "", False), "bash would not read this either"))

    def document(self, node: Node) -> None:
        """A script that another program is handed: sbatch <<EOF."""
        for part in node.named_children if node.type == "heredoc_redirect" else ():
            if part.type == "heredoc_body" and part.text is not None and part.text.lstrip().startswith(b"#!"):
                self.inside(part.text.decode(errors="replace").replace("\\$", "$"), part)

    def inside(self, text: str, node: Node) -> None:
        """Commands of a text that begins where a node does."""
        self.shell.sourced += 1
        if self.shell.sourced <= MAX_SOURCED:
            _read(self.shell, self.path, text, self.name, self.lines_before + node.start_point[0])

    def branches(self, node: Node) -> None:
        """Each branch on its own; of a variable that several set, one value is taken and the others are listed.

        A `case` of a known word takes the branch that names it, and tests of known words are taken. A value from before
        stays where a branch that may not be gone through sets another; else the first branch's is taken.
        """
        arms = [part for part in node.named_children if part.type in ("case_item", "elif_clause", "else_clause")]
        heads = [node] if node.type == "if_statement" else []
        named = self.named(node, arms)
        order = [*heads, *([named] if named is not None else []), *(arm for arm in arms if arm is not named)]
        answers = [True if arm.type == "else_clause" else decided(arm, self.value) for arm in order] if heads else []
        order = [arm for arm, answer in zip(order, answers, strict=True) if answer is not False] if heads else order
        answers = [answer for answer in answers if answer is not False]
        order = order[: answers.index(True) + 1] if True in answers else order
        sure = named is not None or True in answers
        before = dict(self.shell.variables)
        if len(order) == 1 and True in answers:
            self.block(order[0]) if order[0] is not node else self.own(node, arms)
            return
        taken: dict[str, Word] = {}
        for arm in order:
            self.shell.variables = dict(before)
            if arm is node:
                self.own(node, arms)
            else:
                self.block(_Alone(arm))
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

    def own(self, node: Node, arms: list[Node]) -> None:
        """The statements of an `if` before its first other branch."""
        for part in node.named_children:
            if part not in arms:
                self.block(_Alone(part))

    def named(self, node: Node, arms: list[Node]) -> Node | None:
        """The branch of a `case` that its word, where that is known, names; the one of `*` where none does."""
        subject = node.child_by_field_name("value")
        if node.type != "case_statement" or subject is None:
            return None
        text, known, _ = self.value(subject)
        if not known:
            return None
        for wanted in (text, "*"):
            for arm in arms:
                patterns = arm.children_by_field_name("value")
                if any((part.text or b"").decode(errors="replace").strip("\"'") == wanted for part in patterns):
                    return arm
        return None

    def word(self, node: Node, text: str, known: bool) -> Word:
        return Word(text, self.name, self.lines_before + node.start_point[0] + 1, known)

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
            moved = ((len(before.text) + at, file, line) for at, file, line in found.spots or self.spot(found))
            spots = (*(before.spots or self.spot(before)), *moved)
            found = replace(found, text=before.text + found.text, known=before.known and found.known, spots=spots)
        self.shell.variables[name] = found
        if exported:
            self.shell.exports[name] = found

    def command(self, node: Node) -> None:
        words: list[Word] = []
        handed: Node | None = None
        before: list[str] = []
        for part in node.named_children:
            if part.type == "variable_assignment":
                self.assign(part, exported=True)
                before.append((part.text or b"").decode(errors="replace").partition("=")[0])
            elif part.type == "command_name":
                words += [word for inner in part.named_children for word in self.words(inner)]
            elif part.type not in ("file_redirect", "heredoc_redirect", "herestring_redirect", "comment"):
                if handed is None and len(words) > 1 and words[-2].text.rpartition("/")[2] in SHELLS:
                    handed = part if re.fullmatch(r"-[a-z]*c", words[-1].text) else None
                words += self.words(part)
        if handed is not None:
            self.script(handed)
            return
        if words and words[0].text in ("source", ".") and len(words) > 1:
            self.source(words[1])
        elif words:
            self.shell.prefixes[len(self.shell.commands)] = {
                name: self.shell.variables[name] for name in before if name in self.shell.variables
            }
            self.shell.commands.append(tuple(words))

    def script(self, node: Node) -> None:
        """Commands of the word that a shell is handed."""
        raw = (node.text or b"").decode(errors="replace")
        if node.type == "raw_string":
            self.inside(raw[1:-1], node)
        elif node.type == "string" and len(node.named_children) != 1:
            self.inside(in_quotes(raw[1:-1]), node)
        else:
            words = [replace(word, text=word.text.strip("'\"")) for word in self.one(node).split()]
            ends = [at for at, word in enumerate(words) if word.text in ENDS_OF_COMMANDS]
            for first, last in zip([-1, *ends], [*ends, len(words)], strict=True):
                if last > first + 1:
                    self.shell.commands.append(tuple(words[first + 1 : last]))

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
        if node.type in ("simple_expansion", "expansion", "command_substitution"):
            yield from found.split()
        else:
            yield found

    def array(self, node: Node) -> tuple[Word, ...] | None:
        """The words of `"${A[@]}"`, quoted or not; None for everything else."""
        inner = node
        if node.type == "string" and len(node.named_children) == 1:
            inner = node.named_children[0]
        text = (inner.text or b"").decode(errors="replace")
        match = ARRAY.fullmatch(text) if inner.type == "expansion" else None
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
        text, known, spots = self.value(node)
        return replace(self.word(node, text, known), spots=spots)

    def spot(self, word: Word) -> Spots:
        """Where a word begins."""
        return ((0, word.file, word.line),)

    def value(self, node: Node) -> Value:
        raw, kind = (node.text or b"").decode(errors="replace"), node.type
        if kind == "raw_string":
            return Value(raw[1:-1], True, self.spots(raw[1:-1], node.start_point[0]))
        if kind == "string_content":
            return Value(in_quotes(raw), True)
        if kind in ("word", "number", "variable_name", "regex", "extglob_pattern"):
            return Value(plain(raw) if kind == "word" else raw, True)
        if kind in ("string", "concatenation"):
            return self.joined(node)
        if kind == "simple_expansion":
            return self.variable(bare(raw)[1:])
        if kind == "expansion":
            return self.expansion(node, bare(raw))
        if kind == "arithmetic_expansion":
            return self.arithmetic(raw)
        if kind == "ansi_c_string":
            return Value(raw[2:-1], True)
        return Value("\0", False)

    def spots(self, text: str, row: int) -> Spots:
        """Where each line of a text begins, of one that has several."""
        if "\n" not in text:
            return ()
        starts = [0, *(match.end() for match in re.finditer("\n", text))]
        return tuple((at, self.name, self.lines_before + row + number) for number, at in enumerate(starts, 1))

    def joined(self, node: Node) -> Value:
        """Parts of a string in order; text between its children counts too (spaces before an expansion)."""
        quoted = node.type == "string"
        source, start, position = node.text or b"", node.start_byte, node.start_byte + quoted
        row, out, known = node.start_point[0], "", True
        spots: list[tuple[int, str, int]] = []
        for part in (*(part for part in node.named_children if part.type != "string_content"), None):
            end = part.start_byte if part is not None else node.end_byte - quoted
            for number, line in enumerate(source[position - start : end - start].decode(errors="replace").split("\n")):
                if number:
                    row += 1
                    out = out[:-1] if out.endswith("\\") else out + "\n"
                spots.append((len(out), self.name, self.lines_before + row + 1))
                out += in_quotes(line) if quoted else line
            if part is None:
                break
            raw = (part.text or b"").decode(errors="replace")
            out += raw[: len(raw) - len(bare(raw))].replace("\\\n", "")  # the grammar gives spaces to an expansion
            text, sure, inner = self.value(part)
            spots += [(len(out) + at, file, line) for at, file, line in inner]
            out, known, position = out + text, known and sure, part.end_byte
            row = part.end_point[0]
        return Value(out, known, tuple(spots) if len(spots) > 2 else ())

    def variable(self, name: str) -> Value:
        found = self.shell.variables.get(name)
        if found is None:
            first = self.shell.arrays.get(name)
            found = first[0] if first else None
        return Value("\0", False) if found is None else Value(found.text, found.known, found.spots or self.spot(found))

    def elements(self, name: str) -> Value | None:
        """The words of an array in one string."""
        words = self.shell.arrays.get(name)
        if words is None:
            return None
        text, spots = "", []
        for word in words:
            spots.append((len(text), word.file, word.line))
            text += word.text + " "
        return Value(text, all(word.known for word in words), tuple(spots))

    def expansion(self, node: Node, raw: str) -> Value:
        whole_array = WHOLE_ARRAY.fullmatch(raw) if "[" in raw else None
        found = self.elements(whole_array[1]) if whole_array is not None else None
        if found is not None:
            return found
        match = EXPANSION.fullmatch(raw)
        if match is None:
            return Value("\0", False)
        value = self.variable(match[1])
        if value.known or match[2] is None or match[2][-1] in "?+":
            return value
        parts = [part for part in node.named_children if part.type not in ("variable_name", "special_variable_name")]
        if not parts:
            return Value(match[3].strip("'\""), True)
        values = [self.value(part) for part in parts]
        return Value("".join(value.text for value in values), all(value.known for value in values))

    def arithmetic(self, raw: str) -> Value:
        """Whole numbers with + - * / % and brackets, variables by name."""
        inner = raw.removeprefix("$((").removesuffix("))")

        def number(match: re.Match[str]) -> str:
            text, known, _ = self.variable(match[1])
            return text if known and re.fullmatch(r"-?\d+", text) else "?"

        value = whole(re.sub(r"\$?\{?\b([A-Za-z_]\w*)\}?", number, inner))
        return Value("\0", False) if value is None else Value(str(value), True)
