"""What an answer says it rests on: its own files, read through the catalog that was asked."""

from __future__ import annotations

import json
from pathlib import Path

from planner.inputs.catalog import Catalog, default_catalog, shipped_folder
from planner.inputs.document import load
from planner.problem.resolve import question_of
from planner.search.estimate import estimate

LLAMA = "scenarios/llama70b_64xh100.yaml"
PINNED = [
    "layout.tensor_parallel=8",
    "layout.pipeline_parallel=2",
    "layout.context_parallel=1",
    "layout.virtual_pipeline=1",
    "layout.layers_per_stage=even",
    "layout.recomputed_layers=all",
    "batch.micro_batch_size=1",
]


def test_two_questions_of_one_catalog_name_the_files_of_each_alone() -> None:
    shared = default_catalog()
    first = question_of(load(LLAMA), shared)
    second = question_of(load("scenarios/qwen7b_dapo_h20.yaml"), shared)
    assert first.provenance == question_of(load(LLAMA), default_catalog()).provenance
    alone = question_of(load("scenarios/qwen7b_dapo_h20.yaml"), default_catalog())
    assert second.provenance == alone.provenance
    assert not {name for name, _ in second.provenance} & {"models/llama3.1-70b.yaml"}


def test_a_slower_table_in_a_folder_passed_as_argument_slows_the_step(tmp_path: Path) -> None:
    name = "gemm_h100_sxm.json"
    table = json.loads((shipped_folder() / "measured" / name).read_text(encoding="utf-8"))
    table["latency_ns"] = [[None if ns is None else 3 * ns for ns in row] for row in table["latency_ns"]]
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / name).write_text(json.dumps(table), encoding="utf-8")
    document = load(LLAMA, PINNED)
    usual, slow = estimate(document, default_catalog()), estimate(document, Catalog([tmp_path, shipped_folder()]))
    assert slow.step_seconds > 1.5 * usual.step_seconds
    hashes = dict(usual.problem.provenance), dict(slow.problem.provenance)
    assert hashes[0][f"measured/{name}"] != hashes[1][f"measured/{name}"]
