"""Damaged files of every kind: an answer or an error with its place, never an internal error, nan or inf.

20,000 of them: benchmarks/hostile.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_inputs import EDITS, KINDS, VALUES, Kind, answer, attack, damaged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FEW = settings(
    max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""Same cases each time; the search for new ones is the benchmark's."""
NUMBERS = st.integers(0, 2**24 - 1)
CHANGES = st.lists(st.tuples(st.sampled_from(EDITS), NUMBERS, NUMBERS), min_size=1, max_size=3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_undamaged_files_are_read(kind: Kind, tmp_path: Path) -> None:
    for index, text in enumerate(kind.texts()):
        folder = tmp_path / str(index)
        folder.mkdir()
        assert damaged(text, ()) == text.encode()
        said = answer(kind, text.encode(), folder)
        assert said.code in (0, 1, 5), said.err


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_files_are_refused_with_their_place(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> None:
    @FEW
    @given(changes=CHANGES, which=NUMBERS)
    def damage(changes: list[tuple[str, int, int]], which: int) -> None:
        text = kind.texts()[which % len(kind.texts())]
        assert attack(kind, text, changes, tmp_path_factory.mktemp("hostile")) == []

    damage()


def test_every_value_is_reached() -> None:
    texts = {damaged("a: 1\n", [("number", 0, index)]) for index in range(len(VALUES))}
    assert len(texts) == len(set(VALUES))


FOUND = {
    "an RL stack whose file ends before what generates": (
        "catalog engines", [("number", 10392132, 10039318), ("end", 3163727, 16522509), ("number", 7120295, 8720916)],
    ),
    "a word that is no number is quoted": (
        "launch script", [("number", 16707078, 11146637), ("number", 7971147, 2530268), ("number", 2369164, 1529967)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_the_benchmark_once_found(name: str, tmp_path: Path) -> None:
    kind_name, changes = FOUND[name]
    kind = next(kind for kind in KINDS if kind.name == kind_name)
    assert attack(kind, kind.texts()[0], changes, tmp_path) == []
