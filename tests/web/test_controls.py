"""What the controls of the page set, and that nothing of a link is lost beside them."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qsl

import pytest
from starlette.testclient import TestClient

from planner.inputs.document import parse_document
from planner.web.base import base
from planner.web.closed_catalog import closed_catalog
from planner.web.controls import Control, main_controls
from planner.web.state import State, state_of


def controls(example: str) -> dict[str, Control]:
    state, catalog = State(example=example), closed_catalog()
    name, text = base(state, catalog)
    return {control.path: control for control in main_controls(state, parse_document(text, name), catalog)}


def test_gpus_are_set_where_the_scenario_says_them() -> None:
    """A key that the scenario's own excludes would be an error after the first click."""
    assert "cluster.num_gpus" in controls("llama70b_64xh100")
    assert controls("qwen7b_rl")["cluster.max_gpus"].stands == "4"
    pools = controls("qwen7b_rl_two_pools")
    assert {"cluster.pools[0].num_gpus", "cluster.pools[1].num_gpus"} <= set(pools)
    assert not {"cluster.node", "cluster.num_gpus"} & set(pools)


@pytest.mark.parametrize(("example", "at"), [("qwen7b_rl", "8192"), ("llama70b_64xh100", "8192")])
def test_a_slider_stands_where_the_scenario_does(example: str, at: str) -> None:
    path = "rl.response_length" if example == "qwen7b_rl" else "batch.sequence_length"
    assert controls(example)[path].at == at
    assert Control("a", "a", "open", "any", low=1024, high=2048).at == "1024"


def test_a_change_without_a_control_stays_with_the_form(client: TestClient) -> None:
    page = client.get("/?example=llama70b_64xh100&search.near_tie=0.02&layout.tensor_parallel=4").text
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    assert hidden == [("example", "llama70b_64xh100"), ("search.near_tie", "0.02")]
    drop = re.search(r'href="\?([^"]*)" aria-label="search.near_tie: as in the scenario"', page)
    assert drop is not None
    assert state_of(parse_qsl(unescape(drop[1]))).changes == (("layout.tensor_parallel", "4"),)
