"""Pickles are read by a machine that cannot call anything: data as Python reads it, everything else refused."""

from __future__ import annotations

import os
import pickle
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.inputs.pickled import read_plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None)
@given(PLAIN, st.sampled_from([2, 3, 4, 5]))
def test_plain_data_is_read_as_python_reads_it(data: Any, protocol: int) -> None:
    assert read_plain(pickle.dumps(data, protocol), "x") == data


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_data_or_refused(data: bytes, begins: bool) -> None:
    with suppress(InputError):
        read_plain((b"\x80\x04" if begins else b"") + data, "x")


class Calls:
    """A pickle of this runs a command when it is loaded."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


HOSTILE = {
    "a function of builtins": b"\x80\x04cbuiltins\neval\n\x8c\x011\x85R.",
    "an old instance": b"\x80\x02(S'true'\nios\nsystem\n.",
    "a class": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "a new object": b"\x80\x04})\x81.",
    "state": b"\x80\x04}}b.",
    "an extension": b"\x80\x04\x82\x01.",
    "a persistent id": b"\x80\x02K\x01Q.",
    "a buffer": b"\x80\x05\x97.",
    "a frame beyond the file": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.",
    "text beyond the file": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "a long integer": b"\x80\x04\x8b" + struct.pack("<I", 2**31) + b"a.",
    "an unhashable key": b"\x80\x04}]Ns.",
    "no end": b"\x80\x04N",
    "two values": b"\x80\x04NN.",
    "a mark left": b"\x80\x04N(.",
    "a value from before the mark": b"\x80\x04](0.",
    "nothing": b"",
    "protocol 0": pickle.dumps({"a": 1}, 0),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="refused"):
        read_plain(data, "hostile.pickle")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_is_executed(tmp_path: Path, protocol: int) -> None:
    proof = tmp_path / "executed"
    data = pickle.dumps({"segments": [Calls(f"touch {proof}")]}, protocol)
    with pytest.raises(InputError, match=r"opcode (STACK_)?GLOBAL is not plain data, at byte"):
        read_plain(data, "hostile.pickle")
    assert not proof.exists()


def test_a_large_memo_index_takes_no_room() -> None:
    assert read_plain(b"\x80\x02Nr\xff\xff\xff\xff0N.", "x") is None


def test_deep_nesting_needs_no_recursion() -> None:
    depth = 200_000
    found = read_plain(b"\x80\x02" + b"](" * depth + b"]" + b"e" * depth + b".", "x")
    for _ in range(depth):
        assert isinstance(found, list)
        found = found[0]
