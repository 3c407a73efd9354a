"""Logs, samples and what they say about a plan: quantities, growth, room, a row to contribute, exit codes."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from answer_schemas import violations
from run_cli import run

from planner.analysis.check.check import check, stage_of
from planner.analysis.check.contribution import contribution
from planner.analysis.check.run_log import growth, read_amounts
from planner.errors import InputError
from planner.inputs.document import load
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.validation.memory.cases import load_cases
from planner.validation.memory.express import express

ROOT = Path(__file__).resolve().parents[3]
SFT = str(ROOT / "scenarios" / "llama8b_sft_a100.yaml")
PINS = [
    *("engine=megatron-core", "cluster.num_gpus=8", "layout.tensor_parallel=2", "layout.pipeline_parallel=2"),
    *("layout.virtual_pipeline=1", "layout.context_parallel=1", "layout.zero_stage=1", "layout.recomputed_layers=all"),
    *("batch.micro_batch_size=1", "batch.global_batch_size=8", "batch.sequence_length=4096", "limits.headroom_gib=0"),
]
SETS = [part for pin in PINS for part in ("--set", pin)]
FORMS = {
    "[Rank 4] (after 2 iterations) memory (MB) | allocated: 1.0 | max allocated: 10240.0 | reserved: 2.0 | "
    "max reserved: 20480.00": [("allocated", 10.0, 2, 4), ("reserved", 20.0, 2, 4)],
    "[Rank 2] (after 1 iterations) memory (MB) | allocated: 1.0 | max allocated: 10240.0 | reserved: 2.0 | "
    "max reserved: 20480.0[Rank 0] (after 1 iterations) memory (MB) | allocated: 1.0 | max allocated: 30720.0 | "
    "reserved: 2.0 | max reserved: 40960.0": [
        ("allocated", 10.0, 1, 2), ("reserved", 20.0, 1, 2), ("allocated", 30.0, 1, 0), ("reserved", 40.0, 1, 0),
    ],
    "10:00:00 SUCCESS Step 4 | Time: 0.50s | Loss: 2.5 | Throughput: 900 tokens/s | Peak Mem.: 15.5/79.2 GiB (19.6%)": [
        ("reserved", 15.5, 4, None),
    ],
    "[Rank 0] Memory-Usage after offload model: {'gpu': '0', 'total_GB': 79.1, 'free_GB': 4.1, 'used_GB': 75.0, "
    "'allocated_GB': 30.5, 'reserved_GB': 33.0}": [
        ("allocated", 30.5, None, 0), ("reserved", 33.0, None, 0), ("device", 75.0, None, 0),
    ],
    "step:3 - perf/max_memory_allocated_gb:41.5 - perf/max_memory_reserved_gb:np.float64(50.25) - "
    "perf/cpu_memory_used_gb:200.0": [
        ("allocated", 41.5, 3, None), ("reserved", 50.25, 3, None), ("host", 200.0, 3, None),
    ],
    "[Rank 0] (after 2 iterations) memory (GB) | mem-max-allocated-gigabytes: 53.6870912 "
    "| mem-max-reserved-gigabytes: 64.42450944 | mem-alloc-retires: 0": [
        ("allocated", 50.0, 2, 0), ("reserved", 60.0, 2, 0),
    ],
    "Training epoch 0, iteration 8/29 | global_step: 8 | max_memory_reserved: 57982058496 | max_memory_allocated: "
    "53687091200 | train_step_timing in s: 27.01": [("allocated", 50.0, 8, None), ("reserved", 54.0, 8, None)],
    "After update_actor, memory allocated (GB): 12.5, memory reserved (GB): 14.0, device memory used/total (GB): "
    "61.0/79.1": [("allocated", 12.5, None, None), ("reserved", 14.0, None, None), ("device", 61.0, None, None)],
    "GPU Memory after optimizer offload: 12.30GB allocated, 13.40GB reserved": [
        ("allocated", 12.3, None, None), ("reserved", 13.4, None, None),
    ],
    "[2026-01-01 10:00:00][INFO] -  iteration=       7/  6357 | elapsed_time_per_iteration_ms=2.0 "
    "[Rank 0] (after 7 iterations) memory (MB) | allocated: 1.0 | max allocated: 5120.0 | max reserved: 6144.0": [
        ("allocated", 5.0, 7, 0), ("reserved", 6.0, 7, 0),
    ],
    "\x1b[31mstep: 10  loss:  6.1  memory: 56.78GiB(71.1%)  tps: 7,345\x1b[0m": [("reserved", 56.78, 10, None)],
    "MA 1.0 GB         Max_MA 14.5 GB         CA 2.0 GB         Max_CA 16 GB": [
        ("allocated", 14.5, None, None), ("reserved", 16.0, None, None),
    ],
    "Memory usage: 5114.58MiB. Peak allocated 5120.00MiB. Peak reserved: 6144.00MiB": [
        ("allocated", 5.0, None, None), ("reserved", 6.0, None, None),
    ],
    "{'loss': 1.2, 'memory/max_allocated (GiB)': 24.31, 'memory/device_reserved (GiB)': 30.0}": [
        ("allocated", 24.31, None, None), ("reserved", 30.0, None, None),
    ],
    "{'train_mem_gpu_alloc_delta': 1073741824, 'train_mem_gpu_peaked_delta': 2147483648, "
    "'init_mem_gpu_alloc_delta': 0, 'before_init_mem_gpu': 5368709120}": [("allocated", 8.0, None, None)],
    "{'loss': 1.17, 'memory(GiB)': 62.35, 'train_speed(iter/s)': 0.19, 'iteration': '5/100'}": [
        ("reserved", 62.35, 5, None),
    ],
    "{'loss': '0.9', 'memory(GiB)': '38.46', 'global_step/max_steps': '5/93'}": [("reserved", 38.46, 5, None)],
    "Step 10 | loss:1.1 lr:2e-05 peak_memory_active:20.1 peak_memory_alloc:20.5 peak_memory_reserved:22.25": [
        ("allocated", 20.5, 10, None), ("reserved", 22.25, 10, None),
    ],
    "\tCUDA peak memory reserved: 15.02 GiB": [("reserved", 15.02, None, None)],
    "Memory used: 53.69 GB": [("allocated", 53.69e9 / 2**30, None, None)],
    "|  0%   41C    P0    76W / 700W |  40960MiB / 81559MiB |      0%      Default |": [("device", 40.0, None, 0)],
}  # fmt: skip


@pytest.mark.parametrize("line", FORMS, ids=lambda line: line[:30])
def test_lines_that_state_memory(line: str) -> None:
    found = [(a.kind, a.gib, a.step, a.rank) for a in read_amounts([line])]
    assert found == [(kind, pytest.approx(gib), step, rank) for kind, gib, step, rank in FORMS[line]]


def test_samples_of_nvidia_smi() -> None:
    csv = read_amounts(
        ["timestamp, index, memory.used [MiB], memory.total [MiB]", "2026/11/21, 1, 1024 MiB, 81559 MiB"]
    )
    assert [(a.kind, a.gib, a.rank) for a in csv] == [("device", 1.0, 1)]
    dmon = read_amounts(["# gpu     fb   bar1", "# Idx     MB     MB", "    0   2048      3", "    1   3072      3"])
    assert [(a.gib, a.rank) for a in dmon] == [(2.0, 0), (3.0, 1)]


def test_growth_is_a_rise_between_thirds_of_a_run_and_not_its_first_step() -> None:
    line = "step:{} - perf/max_memory_allocated_gb:{}"
    rising = growth(read_amounts(line.format(step, 40 + 0.5 * step) for step in range(1, 31)))
    assert rising is not None
    assert rising.gib_per_step == pytest.approx(0.5, rel=0.05)
    assert growth(read_amounts(line.format(step, 40.0 + step % 2) for step in range(1, 31))) is None
    warm = read_amounts([line.format(1, 20.0), *(line.format(step, 40.0) for step in range(2, 31))])
    assert growth(warm) is None


@pytest.fixture(scope="module")
def plan() -> Plan:
    return estimate(load(SFT, PINS))


def test_ranks_of_later_stages_are_compared_with_their_stage(plan: Plan, tmp_path: Path) -> None:
    assert [stage_of(rank, plan) for rank in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]
    path = tmp_path / "run.log"
    predicted = []
    for rank in (0, 4):
        path.write_text(
            f"[Rank {rank}] (after 2 iterations) memory (MB) | max allocated: 20480.0 | max reserved: 1.0\n"
        )
        predicted.append(check(plan, [str(path)]).quantities[0].predicted)
    assert predicted[0] != predicted[1]


def log(tmp_path: Path, plan: Plan, factor: float) -> Path:
    path = tmp_path / "run.log"
    quantity = check(plan, [str(_megatron(path, 1024.0))]).quantities[0]
    return _megatron(path, quantity.predicted * 1024 * factor)


def _megatron(path: Path, mib: float) -> Path:
    path.write_text(f"(after 2 iterations) memory (MB) | allocated: 1.0 | max allocated: {mib:.2f}\n")
    return path


def test_inside_and_outside_the_interval(plan: Plan, tmp_path: Path) -> None:
    path = log(tmp_path, plan, 1.0)
    done = run("check", SFT, str(path), *SETS)
    assert done.code == 0, done.err
    assert "inside the 90 % interval" in done.out
    log(tmp_path, plan, 2.0)
    done = run("check", SFT, str(path), *SETS, "--format", "json")
    assert done.code == 5
    answer = json.loads(done.out)
    assert not violations("check", answer)
    assert answer["inside"] is False
    assert any("outside" in change or "more than" in change for change in answer["changes"])
    assert str(tmp_path) not in done.out


def test_room_is_what_the_fullest_moment_leaves(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "smi.csv"
    path.write_text("index, memory.used [MiB]\n0, 40960 MiB\n1, 51200 MiB\n")
    checked = check(plan, [str(tmp_path)])
    assert checked.room_gib == pytest.approx(plan.usable_gib - 50.0)
    assert checked.quantities[0].predicted == pytest.approx(plan.peak_gib)


def test_a_run_that_states_nothing_is_refused(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("hello\n")
    with pytest.raises(InputError, match="is known"):
        check(plan, [str(path)])
    with pytest.raises(InputError, match="no such file"):
        check(plan, [str(tmp_path / "absent")])
    with pytest.raises(InputError, match="stage 7"):
        check(plan, [str(path)], 7)


def test_a_contributed_row_is_read_by_the_validation_and_names_nothing(plan: Plan, tmp_path: Path) -> None:
    checked = check(plan, [str(log(tmp_path, plan, 1.0))])
    row = contribution(checked)
    for word in (plan.problem.name, str(tmp_path), "run.log", "llama3.1-8b", "llama8b"):
        assert word not in row
    with gzip.open(tmp_path / "memory_cases.jsonl.gz", "wt") as stream:
        stream.write(row)
    (case,) = load_cases(tmp_path)
    done, lost = express([case])
    assert not lost
    assert case.memory_gib == pytest.approx(checked.quantities[0].measured, abs=1e-3)
    assert done[0].gib == pytest.approx(checked.quantities[0].predicted, rel=1e-6)


def test_nothing_to_contribute_without_memory(plan: Plan, tmp_path: Path) -> None:
    checked = check(plan, [str(log(tmp_path, plan, 1.0))])
    with pytest.raises(InputError, match="nothing to contribute"):
        contribution(replace(checked, quantities=()))


def test_the_page_draws_memory_over_time(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    path.write_text("".join(f"step:{s} - perf/max_memory_allocated_gb:{20 + s / 100}\n" for s in range(1, 9)))
    done = run("check", SFT, str(path), *SETS, "--format", "html")
    assert done.code in (0, 5), done.err
    assert "<polyline" in done.out


def test_a_hostile_snapshot_is_refused_with_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "x.pickle"
    path.write_bytes(b"\x80\x04cbuiltins\neval\n\x8c\x011\x85R.")
    done = run("check", SFT, str(path), *SETS)
    assert done.code == 2
    assert "nothing of this one was executed" in done.err
