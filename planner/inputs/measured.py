"""Measured tables that travel with the catalog: matrix products and collectives inside a node."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from planner.errors import InputError, Mistake, Place
from planner.formulas.collectives import Curve
from planner.formulas.gemm import SIZEOF_BF16, GemmGrid, scaled_grid
from planner.inputs.json_document import read_json_record
from planner.schema.catalog import Gpu
from planner.schema.tables import CurveTable, GemmTable


@dataclass(frozen=True)
class MeasuredTables:
    """The tables of a catalog: an own folder's file comes before the shipped one of that name."""

    folders: tuple[Path, ...]
    """Folders `measured/` of the catalog, in the order in which they count."""

    def _files(self, name: str) -> list[Path]:
        return [path for folder in self.folders if (path := folder / name).is_file()]

    def gemm_stems(self) -> tuple[str, ...]:
        """Devices with a grid of matrix products, as `Gpu.gemm_grid` names them."""
        files = (path for folder in self.folders if folder.is_dir() for path in os.listdir(folder))
        grids = (file for file in files if file.startswith("gemm_") and file.endswith(".json"))
        return tuple(sorted({file.removeprefix("gemm_").removesuffix(".json") for file in grids}))

    def gemm_grid(self, stem: str) -> GemmGrid:
        """The measured bf16 grid of one device, e.g. `h100_sxm`."""
        paths = self._files(f"gemm_{stem}.json")
        if not paths:
            raise _unknown("measured GEMM grid", stem, self.gemm_stems())
        return _grid(paths[0])

    def device_grid(
        self, gpu: Gpu, *, relative: Gpu | None = None, compute: str = "bf16", element_bytes: float = SIZEOF_BF16
    ) -> GemmGrid:
        """The grid of a GPU for a key of its `dense_tflops`: its own, or scaled from its own bf16 or a relative's.

        `relative` is the GPU that `gemm_grid_from` names; needed only where `gpu.gemm_grid` is empty.
        """
        owner = gpu if gpu.gemm_grid is not None else relative
        if owner is None or owner.gemm_grid is None:
            raise InputError(
                Mistake(
                    what=f"GPU {gpu.id} has neither a measured GEMM grid nor a relative with one",
                    where=Place(f"gpus/{gpu.id}.yaml"),
                )
            )
        if compute not in gpu.dense_tflops:
            known = ", ".join(gpu.dense_tflops)
            raise InputError(
                Mistake(
                    what=f"GPU {gpu.id} has no peak for {compute!r}",
                    where=Place(f"gpus/{gpu.id}.yaml"),
                    attempt=f"one of {known}",
                )
            )
        grid, peak = self.gemm_grid(owner.gemm_grid), gpu.dense_tflops[compute]
        if owner is gpu and peak == gpu.dense_tflops.get("bf16"):
            return grid
        return scaled_grid(
            grid,
            peak_tflops=peak,
            memory_gb_per_s=gpu.memory_bandwidth_gb_per_s,
            sustained_fraction=gpu.sustained_gemm_fraction if owner is not gpu else None,
            element_bytes=element_bytes,
        )

    def nccl_devices(self) -> tuple[str, ...]:
        """Devices with measured collectives, as `NodeLinks.measured_as` names them."""
        files = self._files("nccl.json")
        return tuple(dict.fromkeys(device for path in files for device in _devices(path)))

    def nccl_curves(self, device: str) -> Mapping[tuple[str, int], Curve]:
        """Measured collectives inside one node, by operation and number of GPUs; an own file replaces single curves."""
        if device not in self.nccl_devices():
            raise _unknown("measured NCCL device", device, self.nccl_devices())
        found: dict[tuple[str, int], Curve] = {}
        for path in reversed(self._files("nccl.json")):
            found |= _curves(path, device)
        return MappingProxyType(found)


@cache
def _grid(path: Path) -> GemmGrid:
    raw = read_json_record(path, GemmTable)
    m, n, k = (np.array(axis, dtype=np.float64) for axis in (raw.m, raw.n, raw.k))
    table = np.array(raw.latency_ns, dtype=np.float64).reshape(len(m), len(n), len(k))
    return GemmGrid(
        device=raw.device,
        m=m,
        n=n,
        k=k,
        latency_ns=table,
        peak_tflops=raw.bf16_dense_tflops,
        memory_gb_per_s=raw.memory_bandwidth_gb_per_s,
        source=raw.source,
        date=raw.date,
    )


@cache
def _curves(path: Path, device: str) -> Mapping[tuple[str, int], Curve]:
    raw = _read(path)
    size_bytes = np.array(raw.bytes, dtype=np.float64)
    return {
        (row.op, row.num_gpus): Curve(
            op=row.op, num_gpus=row.num_gpus, size_bytes=size_bytes, time_ns=np.array(row.time_ns, dtype=np.float64)
        )
        for row in raw.curves
        if row.device == device
    }


@cache
def _devices(path: Path) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.device for row in _read(path).curves))


@cache
def _read(path: Path) -> CurveTable:
    return read_json_record(path, CurveTable)


def _unknown(what: str, name: str, known: tuple[str, ...]) -> InputError:
    return InputError(
        Mistake(what=f"no {what} {name!r}", where=Place("measured tables"), attempt=f"one of {', '.join(known)}")
    )
