"""YAML read by libyaml is YAML 1.2 as ruamel.yaml reads it, or it is left to ruamel.yaml."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from planner.errors import InputError
from planner.inputs.yaml_builder import quick, whole
from planner.inputs.yaml_values import FORBIDDEN, Mark

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*ROOT.glob("catalogs/*/*.yaml"), *ROOT.glob("scenarios/*.yaml")])
PIECES = (
    "a: ", "b: 1", "- ", "- x", "  ", "\n", "\n  ", "{", "}", "[", "]", ", ", ":", "#", " # c", "'", '"', "\\", "|",
    ">", ">-", "~", "null", "1e5", "0x1f", ".inf", "-", "--", "? ", "&a", "*a", "!t", "%", "@", "key: v", "- k: v",
    "<<: ", "k: >-\n    x\n    y", "'it''s'", '"q\\"x"', "...", "---", "1:2", "http://x", "-1", "- - x", "x: [1, 2]",
    "y: {a: 1, b: [x]}", '"k": 3', "+", "(a)", "1_000", "0o17", "+.5", "\t", "\x85",
)  # fmt: skip


def alike(one: object, other: object) -> bool:
    """Equal, and of the same kinds: 1, 1.0 and true are three values; the order of keys counts."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other


def same_as_whole(text: str) -> bool:
    """True where libyaml read it, and then as the whole grammar does; False where it was left to that."""
    found = quick(text, "x.yaml")
    if found is None:
        return False
    try:
        data, mark = whole(text, "x.yaml")
    except InputError as error:
        raise AssertionError(f"{text!r} is read as {found[0]!r}, and is wrong: {error}") from error
    assert alike(found[0], data), text
    assert found[1] == mark, text
    return True


def parts_of_files(rng: random.Random) -> Iterator[str]:
    for path in FILES:
        lines = path.read_text().splitlines(keepends=True)
        first = rng.randrange(len(lines))
        yield "".join(lines[first : first + rng.randint(1, 5)])


def damaged(text: str, rng: random.Random) -> str:
    """A piece put in, or some letters left out, once or twice."""
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(text) + 1)
        piece = rng.choice(PIECES) if rng.random() < 0.6 else ""
        text = text[:at] + piece + text[at + (0 if piece else rng.randint(1, 3)) :]
    return text


def test_parts_of_shipped_files_whole_and_damaged() -> None:
    rng = random.Random(0)
    parts = [part for part in parts_of_files(rng) if len(part) < 800]
    whole = [same_as_whole(part) for part in parts]
    broken = [same_as_whole(text) for text in (damaged(part, rng) for part in parts) if not FORBIDDEN.search(text)]
    made = ("".join(rng.choices(PIECES, k=rng.randint(1, 7))) for _ in range(1500))
    drawn = [same_as_whole(text) for text in made if not FORBIDDEN.search(text)]
    assert sum(whole) > 0.7 * len(whole)
    assert sum(broken) > 0.3 * len(broken)
    assert sum(drawn) > 0.05 * len(drawn)


def test_shipped_files_are_read_by_libyaml() -> None:
    left = [path.name for path in FILES if quick(path.read_text(), path.name) is None]
    assert len(left) <= 0.01 * len(FILES), left


def test_a_value_knows_its_place_and_weight() -> None:
    found = quick(
        'a:\n  - {b: 1, "c": [x, -2.5]}\n  - d: "e \\" f"\n    g: >-\n      h\n      i\n# j\nk: yes # l\n', "x.yaml"
    )
    assert found is not None
    assert found[0] == {"a": [{"b": 1, "c": ["x", -2.5]}, {"d": 'e " f', "g": "h i"}], "k": "yes"}
    children = found[1].children
    assert children is not None
    assert (found[1].nodes, found[1].height, children["k"]) == (17, 4, Mark(8, 1))
    inner = (children["a"].children or {})[0].children or {}
    assert ((inner["c"].children or {})[1], inner["b"]) == (Mark(2, 21), Mark(2, 6))
