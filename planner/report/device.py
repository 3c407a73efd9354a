"""What was measured on this machine, as blocks and as data."""

from __future__ import annotations

import shlex
from pathlib import Path

from planner.analysis.calibrate.device import Measured
from planner.report.blocks import Block, Command, Headline, Text, pairs
from planner.report.json_text import JsonObject
from planner.schema.catalog import Gpu, Node
from planner.units import number


def device_document(measured: Measured, folder: Path) -> JsonObject:
    """Facts of the machine and the figures that were measured on it."""
    return {
        "folder": str(folder),
        "facts": dict(measured.facts),
        "products": len(measured.gemm),
        "spread_p90": round(measured.worst_spread, 6),
        "copy_gb_per_s": round(measured.copy_gb_per_s, 3),
        "attention_forward_tflops": round(measured.attention_tflops, 3),
        "left_out": list(measured.left_out),
    }


def device_blocks(measured: Measured, gpu: Gpu, node: Node | None, folder: Path) -> list[Block]:
    """The same for people, beside what the catalog says of this GPU."""
    facts = dict(measured.facts)
    rows = list(facts.items())
    rows += [
        (
            "matrix products",
            f"{len(measured.gemm)} shapes, 90 % of them spread by less than {measured.worst_spread:.1%}",
        ),
        ("copy", f"{number(measured.copy_gb_per_s, 0)} GB/s of {number(gpu.memory_bandwidth_gb_per_s, 0)}"),
        ("attention forward", f"{number(measured.attention_tflops, 0)} TFLOP/s"),
    ]
    rows += [
        (f"{name} layers, a step", f"{number(step.seconds * 1e3)} ms, peak {number(peak / 2**30)} GiB")
        for name, (step, peak) in measured.layers.items()
    ]
    texts = [Text(f"Left out for want of time: {', '.join(measured.left_out)}.")] if measured.left_out else []
    if measured.collectives and node is None:
        texts.append(Text("Collectives were measured but not written: --node says whose curves they are."))
    return [
        Headline(f"{facts['device']} measured as {gpu.id}"),
        pairs(rows),
        *texts,
        Command(f"PLANNER_CATALOGS={shlex.quote(str(folder))} planner solve SCENARIO", "plans with these figures"),
    ]
