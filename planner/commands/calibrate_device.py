"""`planner calibrate --device`: measure this machine and write a catalog folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from planner.commands.common import emit, note, render_blocks
from planner.errors import InputError, Mistake, Place


def run_device(
    *, gpu_id: str | None, node_id: str | None, time_limit: float, day: str, style: str, out: str | None
) -> None:
    """Measure, write the folder, and say what was found. Raises InputError without torch, a GPU, or a name for it."""
    from planner.analysis.calibrate.device_files import files, write
    from planner.analysis.calibrate.torch_device import TorchDevice
    from planner.inputs.catalog import default_catalog

    catalog = default_catalog()
    device = TorchDevice()
    seen = device.facts()["device"]
    if gpu_id is None:
        raise InputError(
            Mistake(
                f"which entry of the catalog is {seen}?",
                Place("--gpu"),
                "its peak and bandwidth are the vendor's, which no measurement gives",
                f"--gpu with one of {', '.join(catalog.ids('gpus'))}",
            )
        )
    gpu = catalog.find("gpus", gpu_id, Place("--gpu"))
    node = None if node_id is None else catalog.find("nodes", node_id, Place("--node"))
    if out is None or out == "-":
        raise InputError(
            Mistake("calibrate --device writes a folder", Place("--out"), "several files", "--out my-catalog")
        )
    from planner.analysis.calibrate.device import measure

    measured = measure(device, limit_s=time_limit, progress=_line)
    _line("")
    texts = files(measured, gpu, node, day)
    folder = Path(out)
    try:
        write(folder, texts)
    except OSError as error:
        raise InputError(Mistake(f"cannot write {out}", Place("--out"), because=error.strerror)) from None
    note(f"written: {', '.join(str(folder / name) for name in texts)}")
    emit(_text(measured, gpu, node, folder, style))


def _line(text: str) -> None:
    """One line at a terminal that is written over."""
    if sys.stderr.isatty():
        click.echo(f"\r{text:<60}", nl=not text, err=True)


def _text(measured: Any, gpu: Any, node: Any, folder: Path, style: str) -> str:
    facts = dict(measured.facts)
    if style == "json":
        from planner.report.json_text import dumps

        return dumps(
            {
                "folder": str(folder),
                "facts": facts,
                "products": len(measured.gemm),
                "spread_p90": round(measured.worst_spread, 6),
                "copy_gb_per_s": round(measured.copy_gb_per_s, 3),
                "attention_forward_tflops": round(measured.attention_tflops, 3),
                "left_out": list(measured.left_out),
            }
        )
    from planner.report.blocks import Command, Headline, Text, pairs
    from planner.units import number

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
    return render_blocks(
        [
            Headline(f"{facts['device']} measured as {gpu.id}"),
            pairs(rows),
            *texts,
            Command(f"PLANNER_CATALOGS={shlex.quote(str(folder))} planner solve SCENARIO", "plans with these figures"),
        ],
        style,
    )
