"""Where host memory alone leaves no layout: the figure that is said is the least that is enough."""

from __future__ import annotations

import math
import re

from planner.analysis.infeasible.nearest import nearest
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.search.search import plan

SCENARIO = """
name: offloaded
task: sft
model: llama3.2-1b
engine: deepspeed
cluster: {{node: hgx-h100-8, num_gpus: 8, host_memory_gib: {gib}}}
batch: {{global_batch_size: 16, sequence_length: 2048, micro_batch_size: [1, 2]}}
layout: {{optimizer_offload: true}}
"""


def sentences(gib: float) -> tuple[str, ...]:
    catalog = default_catalog()
    outcome = plan(parse_document(SCENARIO.format(gib=gib), "offloaded.yaml"), catalog, check_points=0)
    return nearest(outcome, catalog).sentences if outcome.plan is None else ()


def test_the_host_memory_that_is_asked_for_is_enough_and_less_is_not() -> None:
    said = sentences(20)[0]
    found = re.match(r"Host memory of a node is too small: ([\d,.]+) GiB at least \((.*)\), 20\.0 there are", said)
    assert found, said
    assert "optimizer on the host" in found[2]
    needed = float(found[1])
    assert 20 < needed < 64
    assert sentences(math.floor(needed * 10 - 1) / 10)[0].startswith("Host memory of a node is too small")
    assert not any("Host memory" in text for text in sentences(math.ceil(needed * 10 + 1) / 10))
