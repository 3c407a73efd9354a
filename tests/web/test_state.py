from __future__ import annotations

import base64
import zlib
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InputError
from planner.web.state import UNPACKED_BYTES, State, pack, state_of, unpack

TEXT = st.text(st.characters(codec="utf-8"), max_size=200)


@given(TEXT)
def test_a_packed_text_comes_back(text: str) -> None:
    assert unpack(pack(text), "yaml") == text


@given(st.binary(max_size=60))
def test_what_was_not_packed_is_refused_by_name(raw: bytes) -> None:
    text = base64.urlsafe_b64encode(raw).decode()
    unzip = zlib.decompressobj()
    try:
        unzip.decompress(raw).decode()
        whole = unzip.eof and not unzip.unused_data
    except (zlib.error, ValueError):
        whole = False
    if not whole:
        with pytest.raises(InputError, match="config"):
            unpack(text, "config")


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * (UNPACKED_BYTES + 1))).decode()
    with pytest.raises(InputError, match="longer than 256 KiB"):
        unpack(bomb, "yaml")


@given(
    st.one_of(st.none(), TEXT.filter(bool)),
    st.dictionaries(st.sampled_from(["cluster.num_gpus", "layout.tensor_parallel", "model"]), st.sampled_from("248a")),
)
def test_an_address_leads_back_to_its_state(text: str | None, changes: dict[str, str]) -> None:
    state = State(text=text, task=None if text else "qlora", changes=tuple(changes.items()))
    assert state_of(parse_qsl(state.query(), keep_blank_values=True)) == state


def test_a_later_change_takes_the_place_of_an_earlier_one() -> None:
    state = State(changes=(("a.b", "1"), ("c", "2"))).changed(["a.b=3"])
    assert state.overrides == ("c=2", "a.b=3")


def test_a_model_that_comes_along_is_the_one_meant() -> None:
    assert state_of([("config", pack("{}"))]).value("model") == "pasted"
    assert state_of([("config", pack("{}")), ("model", "llama3.1-8b")]).value("model") == "llama3.1-8b"
