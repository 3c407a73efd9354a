"""The error tree. Each class is one exit code, so that a script can tell an answer from a fault.

PlannerError ............... 4  our bug, unless a subclass says otherwise
|-- InputError ............. 2  the user's file, name or option is wrong
|-- NoLayoutFits ........... 1  proved infeasible by limits written or physical: an answer
|-- NoVerdict .............. 3  the time limit came before any verdict
|-- CheckFailed ............ 5  `validate`, `lint` or `catalog check` found a difference
`-- InternalError .......... 4  a plan failed its own re-costing, or an invariant broke
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where in a file something stands; lines and columns count from 1."""

    file: str
    line: int | None = None
    column: int | None = None
    path: str | None = None
    """Dotted path inside the document, such as `cluster.num_gpus`."""

    def __str__(self) -> str:
        text = self.file
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
        lines = [f"Error: {self.what}"]
        if self.where is not None:
            path = f"  {self.where.path}" if self.where.path else ""
            lines.append(f"  where:   {self.where}{path}")
        if self.because is not None:
            lines.append(f"  because: {self.because}")
        if self.attempt is not None:
            lines.append(f"  try:     {self.attempt}")
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
