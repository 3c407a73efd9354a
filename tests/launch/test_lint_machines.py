"""Machines that a file names beside its settings are those that it is costed on; of several none is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drawn import catalog

from planner.launch.lint import lint

SWIFT = (
    "NPROC_PER_NODE=8 megatron sft --model Qwen/Qwen2.5-7B --micro_batch_size 1 --global_batch_size 16 "
    "--max_length 2048\n"
)
NEMO = "policy.model_name: Qwen/Qwen2.5-7B\ncluster.num_nodes: 4\ncluster.gpus_per_node: 4\n"
H100 = {"node": "hgx-h100-8"}


@pytest.mark.parametrize(
    ("name", "text", "machines", "why"),
    [
        ("run.sh", SWIFT, H100, "no line names the machines"),
        ("run.sh", f"# Env: 8 * H20\n{SWIFT}", {"gpu": "h20-96gb"}, "line 1 says so"),
        ("run.sh", f"#!/bin/bash\n# tested on an A100 80GB\n{SWIFT}", {"gpu": "a100-sxm4-80gb"}, "line 2 says so"),
        ("run.sh", f"# 80 nodes x 4 GPUs on GB200 NVL72\n{SWIFT}", {"gpu": "gb200-186gb"}, "line 1 says so"),
        ("run.sh", f"# MACHINE: a tag of its hardware (e.g. gb200)\n{SWIFT}", H100, "no line names the machines"),
        ("run.sh", f"# 8xH20/H200\n{SWIFT}", H100, "no line names the machines"),
        ("qwen_a10b_h200.sh", SWIFT, {"gpu": "h200-sxm-141gb"}, "its name says so"),
        ("grpo-qwen-4n4g-long.yaml", NEMO, {"gpu": "gb200-186gb"}, "its name says so"),
        ("grpo-qwen-4n8g-long.yaml", NEMO, H100, "no line names the machines"),
        ("run.sh", f"# Plan: proved; 8 x NVIDIA A40 (a40-pcie-8); peak 9\n{SWIFT}", {"node": "a40-pcie-8"}, "line 1 s"),
    ],
)
def test_the_machines_of_a_file(name: str, text: str, machines: dict[str, str], why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    linted = lint(tmp_path / name, catalog())
    cluster: Any = linted.scenario["cluster"]
    assert {key: value for key, value in cluster.items() if key in ("gpu", "node")} == machines
    (kind, named), *_ = machines.items()
    assert linted.found.assumed[f"cluster.{kind}"].startswith(f"{named}: {why}")
    if "H20/H200" in text:
        assert any("H20 and H200" in what for _, what in linted.found.unread)


def test_machines_that_are_said_take_the_place_of_named_ones(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(f"# Env: 8 * H20\n{SWIFT}")
    for change in ("cluster.node=dgx-h200", "cluster.gpu=h200-sxm-141gb"):
        linted = lint(path, catalog(), (change,))
        assert linted.plan is not None, linted.open
        assert linted.plan.problem.gpu.id == "h200-sxm-141gb"
        assert not [each for each in linted.found.assumed if each.startswith("cluster.")]
    folder = tmp_path / "both"
    folder.mkdir()
    (folder / "accelerate.yaml").write_text("distributed_type: FSDP\nnum_processes: 8\n")
    (folder / "run.yaml").write_text(
        "# Plan: proved; 8 x NVIDIA H200 (dgx-h200); peak 9\nmodel_name_or_path: Qwen/Qwen2.5-7B\nmax_length: 2048\n"
        "per_device_train_batch_size: 1\n"
    )
    cluster: Any = lint(folder, catalog()).scenario["cluster"]
    assert cluster["node"] == "dgx-h200"
    path.write_text(f"# Env: 4 * A100\n{SWIFT}")
    assert any("a100-sxm4-80gb" in what for _, what in lint(path, catalog()).found.unread)
