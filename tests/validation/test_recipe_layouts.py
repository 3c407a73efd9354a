"""Layers of chunks that recipes state: all of the network's, on the stages that Megatron's layout strings put them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from planner.launch.reading.megatron import layout_layers
from planner.validation.throughput.cases import speed_of
from planner.validation.throughput.express import express, load_sources

DATA = Path(__file__).parents[2] / "validation" / "data"


def test_recipes_place_every_layer_as_their_strings_do() -> None:
    """Megatron-Bridge @067f987df perf_recipes/deepseek, gb300 line 54 and h100 line 48."""
    known = load_sources(DATA)["megatron_bridge"]["pipeline_layouts"]
    assert known[0]["layers"] == layout_layers("Et*4|(t*4|)*14tmL")
    assert known[2]["layers"] == layout_layers("Et|(tt|)*30mL")
    for told in known:
        assert sum(told["layers"]) == 61
        assert all(stages * chunks == len(told["layers"]) for stages, chunks in told["pipelines"])


def test_stages_of_published_rows_are_the_recipes() -> None:
    wanted = {"mbridge-002": [16, 16, 16, 13], "mbridge-001": [32, 29], "mbridge-286": [7, 8, 8, 8, 8, 8, 8, 6]}
    with gzip.open(DATA / "throughput_cases.jsonl.gz", "rt") as lines:
        rows = [speed_of(json.loads(line)) for line in lines if any(f'"{name}"' in line for name in wanted)]
    found, lost = express(rows, load_sources(DATA))
    assert not lost
    assert {row.speed.run.id: list(np.asarray(row.layers)) for row in found} == wanted
