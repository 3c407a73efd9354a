"""Answers that show themselves in a notebook: as HTML made by a renderer that this room does not know."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from planner.errors import InputError, Mistake, Place

if TYPE_CHECKING:
    from pandas import DataFrame

Answer = TypeVar("Answer", covariant=True)
Renderer = Callable[[object], str]

_renderers: list[Renderer] = []
"""Of HTML and of one line, once both have been said."""


def show_with(html: Renderer, line: Renderer) -> None:
    """Say what makes HTML and one line of an answer; `planner.api` does so when it is imported. The last are used."""
    _renderers[:] = [html, line]


class Shown:
    """An answer that a notebook shows as HTML and that prints itself in one line, once `planner.api` has been imported;
    as its fields until then."""

    def _repr_html_(self) -> str | None:
        return _renderers[0](self) if _renderers else None

    def __str__(self) -> str:
        return _renderers[1](self) if _renderers else repr(self)


@dataclass(frozen=True)
class Answers(Shown, Generic[Answer]):
    """Several answers in order: iterated, counted and indexed like a tuple."""

    answers: tuple[Answer, ...]

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    def __getitem__(self, place: int) -> Answer:
        return self.answers[place]


def data_frame(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> DataFrame:
    """A pandas DataFrame. Raises InputError where pandas is not installed."""
    try:
        from pandas import DataFrame
    except ImportError:
        what, because = "to_frame needs pandas", "pandas is not installed here"
        raise InputError(Mistake(what, Place("to_frame()"), because, "pip install pandas")) from None
    return DataFrame(list(rows), columns=list(columns))
