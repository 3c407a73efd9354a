"""The error tree. Each class is one exit code, so that a script can tell an answer from a fault.

PlannerError ............... 4  our bug, unless a subclass says otherwise
|-- InputError ............. 2  the user's file, name or option is wrong, or its output cannot be written
|-- NoLayoutFits ........... 1  proved infeasible by limits written or physical: an answer
|-- NoVerdict .............. 3  the time limit came before any verdict
|-- CheckFailed ............ 5  `validate`, `lint` or `catalog check` found a difference
`-- InternalError .......... 4  a plan failed its own re-costing, or an invariant broke
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that count as letters or marks and that no one sees."""


LONGEST_WORD, LONGEST_PATH, LONGEST_TEXT = 200, 1000, 2000
"""Characters that an error shows whole of a word, of a file's name, and of a sentence."""


def visible(text: str) -> str:
    """Text that a file or a person gave, on one line: line breaks, controls, characters that change the direction of
    writing or that no one sees become their escapes, so that it cannot pass for a line of ours.
    """
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(c if c.isprintable() and not _INVISIBLE.match(c) else _escape(c) for c in text)


def shown(text: str, longest_word: int = LONGEST_WORD) -> str:
    """`visible`, and of a word or a text that is too long the beginning and the end only."""
    cut = re.sub(rf"\S{{{longest_word + 1},}}", lambda match: _cut(match.group(), longest_word), visible(text))
    return _cut(cut, LONGEST_TEXT)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]}...({len(text):,} characters)...{text[-(longest // 5) :]}"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


@dataclass(frozen=True)
class Place:
    """Where in a file something stands; lines and columns count from 1."""

    file: str
    line: int | None = None
    column: int | None = None
    path: str | None = None
    """Dotted path inside the document, such as `cluster.num_gpus`."""

    def __str__(self) -> str:
        text = shown(self.file, LONGEST_PATH)
        if self.line is not None:
            text += f":{self.line}"
            if self.column is not None:
                text += f":{self.column}"
        return text


@dataclass(frozen=True)
class Mistake:
    """One thing wrong with the input: what, where, because, try."""

    what: str
    where: Place | None = None
    because: str | None = None
    attempt: str | None = None

    def render(self) -> str:
        """The message as a person reads it, without a trailing newline."""
        lines = [f"Error: {shown(self.what)}"]
        if self.where is not None:
            path = f"  {shown(self.where.path)}" if self.where.path else ""
            lines.append(f"  where:   {self.where}{path}")
        if self.because is not None:
            lines.append(f"  because: {shown(self.because)}")
        if self.attempt is not None:
            lines.append(f"  try:     {visible(self.attempt)}")
        return "\n".join(lines)


class PlannerError(Exception):
    """Base of all errors of this package."""

    exit_code = 4


class InputError(PlannerError):
    """The user's file, name or option is wrong; carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Mistake | Sequence[Mistake]) -> None:
        self.problems: tuple[Mistake, ...] = (problems,) if isinstance(problems, Mistake) else tuple(problems)
        super().__init__("\n".join(problem.render() for problem in self.problems))


class NoLayoutFits(PlannerError):
    """Proved: no layout satisfies the limits."""

    exit_code = 1


class NoVerdict(PlannerError):
    """The time limit came before a plan or a proof."""

    exit_code = 3


class CheckFailed(PlannerError):
    """A check that the user asked for found a difference."""

    exit_code = 5


class InternalError(PlannerError):
    """An invariant of ours broke; please report it with the scenario."""

    exit_code = 4
