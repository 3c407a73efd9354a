"""What was measured becomes a catalog folder: grids under measured/, the GPU under gpus/, and a record of the run."""

from __future__ import annotations

import json
from typing import Any

from planner.analysis.calibrate.device import GEMM_K, GEMM_M, GEMM_N, MESSAGE_BYTES, Measured, Sample
from planner.schema.catalog import Gpu, Node
from planner.units import GIB


def stem_of(gpu: Gpu) -> str:
    """Name of the grid of this machine."""
    return "own_" + "".join(c if c.isalnum() else "_" for c in gpu.id)


def files(measured: Measured, gpu: Gpu, node: Node | None, date: str) -> dict[str, str]:
    """Path inside the folder, and text. In PLANNER_CATALOGS the folder's GPU stands for the shipped one."""
    stem = stem_of(gpu)
    origin = f"planner calibrate --device on {measured.facts.get('device', gpu.name)}"
    out = {
        f"measured/gemm_{stem}.json": _grid(measured, gpu, stem, origin, date),
        f"measured/device_{stem}.yaml": _record(measured, date),
        f"gpus/{gpu.id}.yaml": _gpu(measured, gpu, stem, origin, date),
    }
    if measured.collectives and node is not None and node.links.measured_as is not None:
        out["measured/nccl.json"] = _curves(measured, node.links.measured_as, origin, date)
    return out


def _nanoseconds(sample: Sample) -> int:
    return max(1, round(sample.seconds * 1e9))


def _grid(measured: Measured, gpu: Gpu, stem: str, origin: str, date: str) -> str:
    rows = [[_nanoseconds(measured.gemm[m, n, k]) for k in GEMM_K] for m in GEMM_M for n in GEMM_N]
    document = {
        "device": stem,
        "source": f"{origin}, bf16, median of the repeats of a shape",
        "date": date,
        "unit": "nanoseconds, one row per (m, n), n fastest, one column per k",
        "bf16_dense_tflops": gpu.dense_tflops["bf16"],
        "memory_bandwidth_gb_per_s": gpu.memory_bandwidth_gb_per_s,
        "m": list(GEMM_M),
        "n": list(GEMM_N),
        "k": list(GEMM_K),
        "latency_ns": rows,
    }
    return json.dumps(document) + "\n"


def _curves(measured: Measured, device: str, origin: str, date: str) -> str:
    curves = [
        {"device": device, "op": op, "num_gpus": count, "time_ns": [_nanoseconds(by[size]) for size in MESSAGE_BYTES]}
        for (op, count), by in measured.collectives.items()
    ]
    head = {"source": origin, "date": date, "unit": "nanoseconds", "bytes": list(MESSAGE_BYTES)}
    return json.dumps({**head, "curves": curves}) + "\n"


def _gpu(measured: Measured, gpu: Gpu, stem: str, origin: str, date: str) -> str:
    """The catalog's entry with what was measured in place of what it said."""
    data = gpu.model_dump(mode="json", exclude_none=True)
    data |= {"gemm_grid": stem, "usable_gib": round(measured.total_bytes / GIB, 2), "usable_gib_inferred": False}
    data.pop("gemm_grid_from", None)
    data.pop("sustained_gemm_fraction", None)
    if measured.attention:
        data["attention_forward_tflops"] = round(measured.attention_tflops, 1)
    data["sources"] = [{"ref": origin, "date": date, "note": "grid, attention, usable memory"}, *data["sources"]]
    lines = [f"{key}: {json.dumps(value)}" for key, value in data.items()]
    return "\n".join([f"# {gpu.name}, measured on {date} by planner calibrate --device.", *lines]) + "\n"


def _record(measured: Measured, date: str) -> str:
    """What was run and how far repeats lie apart, for people."""
    head: dict[str, Any] = {"date": date, **measured.facts, "spread_p90": round(measured.worst_spread, 4)}
    head["copy_gb_per_s"] = round(measured.copy_gb_per_s, 1)
    head["attention_forward_tflops"] = round(measured.attention_tflops, 1)
    head["left_out"] = list(measured.left_out)
    lines = ["# Conditions and spread of a run of planner calibrate --device."]
    lines += [f"{key}: {json.dumps(value)}" for key, value in head.items()]
    lines.append("attention:" if measured.attention else "attention: []")
    for (batch, heads, tokens, size), (forward, both) in measured.attention.items():
        row = {"batch": batch, "heads": heads, "tokens": tokens, "head_size": size}
        lines.append(f"  - {json.dumps({**row, 'forward': _row(forward), 'forward_and_backward': _row(both)})}")
    lines.append("copies:" if measured.copy else "copies: []")
    lines += [f"  - {json.dumps({'bytes': size, **_row(each)})}" for size, each in measured.copy.items()]
    lines.append("training_steps:" if measured.layers else "training_steps: []")
    for name, (step, peak) in measured.layers.items():
        lines.append(f"  - {json.dumps({'layers': name, **_row(step), 'peak_gib': round(peak / GIB, 3)})}")
    return "\n".join(lines) + "\n"


def _row(sample: Sample) -> dict[str, float]:
    return {"seconds": float(f"{sample.seconds:.6g}"), "spread": round(sample.spread, 4), "repeats": sample.repeats}
