"""`planner calibrate --device`: measure this machine and write a catalog folder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from planner.commands.common import Output, emit_files
from planner.errors import InputError, Mistake, Place


def run_device(*, gpu_id: str | None, node_id: str | None, time_limit: float, day: str, output: Output) -> None:
    """Measure, write the folder, and say what was found. Raises InputError without torch, a GPU, or a name for it."""
    from planner.analysis.calibrate.device_files import files
    from planner.analysis.calibrate.torch_device import TorchDevice
    from planner.inputs.catalog import default_catalog
    from planner.report.device import device_blocks, device_document

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
    out = output.path
    if out is None or out == "-":
        raise InputError(
            Mistake("calibrate --device writes a folder", Place("--out"), "several files", "--out my-catalog")
        )
    from planner.analysis.calibrate.device import measure

    measured = measure(device, limit_s=time_limit, progress=_line)
    _line("")
    texts = files(measured, gpu, node, day)
    folder = Path(out)
    emit_files(texts, out, output.force)
    Output(output.style, None, False).write(
        lambda: device_blocks(measured, gpu, node, folder), lambda: device_document(measured, folder, catalog)
    )


def _line(text: str) -> None:
    """One line at a terminal that is written over."""
    if sys.stderr.isatty():
        click.echo(f"\r{text:<60}", nl=not text, err=True)
