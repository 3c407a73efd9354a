"""Damaged files of every kind: an answer or an error with its place, never an internal error, nan or inf.

20,000 of them: benchmarks/hostile.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_inputs import EDITS, KINDS, VALUES, Kind, answer, attack, damaged, wrong
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FEW = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""Same cases each time; the search for new ones is the benchmark's."""
NUMBERS = st.integers(0, 2**24 - 1)
CHANGES = st.lists(st.tuples(st.sampled_from(EDITS), NUMBERS, NUMBERS), min_size=1, max_size=3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_undamaged_files_are_read(kind: Kind, tmp_path: Path) -> None:
    for index, text in enumerate(kind.texts()):
        folder = tmp_path / str(index)
        folder.mkdir()
        raw = damaged(text, (), kind.encoding)
        assert raw == text.encode(kind.encoding)
        said = answer(kind, raw, folder)
        assert said.code in (0, 1, 5), said.err


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damaged_files_are_refused_with_their_place(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> None:
    @FEW
    @given(changes=CHANGES, which=NUMBERS)
    def damage(changes: list[tuple[str, int, int]], which: int) -> None:
        text = kind.texts()[which % len(kind.texts())]
        assert attack(kind, text, changes, tmp_path_factory.mktemp("hostile"))[1] == []

    damage()


def test_every_value_is_reached() -> None:
    texts = {damaged("a: 1\n", [("number", 0, index)]) for index in range(len(VALUES))}
    assert len(texts) == len(set(VALUES))


FOUND = {
    "an RL stack whose file ends before what generates": (
        "catalog engines", 0, [("number", 10392132, 16), ("end", 3163727, 3), ("number", 7120295, 15)],
    ),
    "a word that is no number is quoted": (
        "launch script", 0, [("number", 16707078, 47), ("number", 7971147, 62), ("number", 2369164, 12)],
    ),
    "a log's memory without end": ("log, checked", 3, [("number", 2483206, 16)]),
    "a title that is not alone in its cell": ("log, checked", 3, [("insert", 362337, 31)]),
    "a GPU's number of 5,000 digits": ("edge list", 0, [("number", 1825401, 16)]),
    "a region that pandas left out": (
        "vms.csv", 0, [
            ("insert", 896125, 7), ("insert", 7323073, 61), ("number", 2394742, 7), ("number", 11588105, 36),
            ("word", 9161016, 9), ("drop line", 2223673, 43),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_the_benchmark_once_found(name: str, tmp_path: Path) -> None:
    kind_name, text, changes = FOUND[name]
    kind = next(kind for kind in KINDS if kind.name == kind_name)
    assert attack(kind, kind.texts()[text], changes, tmp_path)[1] == []


REPLACED = {
    "a share that is no number": (
        "launch script, mended", 1, "--sglang-mem-fraction-static 0.7", "--sglang-mem-fraction-static any",
    ),
    "a whole number beyond any float": ("launch script", 2, "--seq-length 8192", "--seq-length " + "9" * 400),
    "an epsilon that is no number": ("launch script", 2, "--norm-epsilon 1e-5", "--norm-epsilon 1e999"),
    "a node type that calls itself otherwise": ("catalog nodes", 0, "id: hgx-h100-8", "id: hgx-h100-80"),
    "an entry that extends a list": ("catalog engines", 0, "extends: megatron-core", "extends: [megatron-core]"),
    "options kept that are no list": (
        "catalog engines", 0, "extends: megatron-core", "extends: megatron-core\nkeeps_options: [[]]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REPLACED)
def test_what_was_once_a_fault_of_ours(name: str, tmp_path: Path) -> None:
    kind_name, text, old, new = REPLACED[name]
    kind = next(kind for kind in KINDS if kind.name == kind_name)
    whole = kind.texts()[text]
    assert old in whole
    result = answer(kind, whole.replace(old, new, 1).encode(), tmp_path)
    assert wrong(result, 0.0, tmp_path / kind.file) == []
