"""Fitted numbers of the engine files, found by what the files say of themselves, and fitted again without some rows."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from planner.inputs.catalog import Catalog
from planner.inputs.document import read_document
from planner.schema.engine import Engine, Fitted
from planner.schema.evidence import OTHER_NUMBERS, found_fitted
from planner.validation.memory.cases import Case
from planner.validation.memory.express import ALLOCATED, Prediction, express
from planner.validation.published import Overlay

Path = tuple[str | int, ...]
ALLOCATOR = ("reserve", "cached", "run_ahead")
"""Blocks that live tensors know nothing of."""
HEADROOMS = ("default_headroom_fraction", "critical_headroom_fraction")
"""Fields that no amount of memory rests on."""
GRID = 5
"""Values at which rows are predicted between the ends of a span; between them predictions are taken as straight."""


@dataclass(frozen=True, eq=False)
class FittedNumber:
    """A fitted number of an engine file, and the engines that carry it."""

    owner: str
    """Engine whose file states it."""
    engines: tuple[str, ...]
    """Those that carry it: the owner, and others that extend it and keep it."""
    path: Path
    value: float
    fitted: Fitted
    assumed: bool
    """The file says that its runs do not differ in what it multiplies."""

    @property
    def block(self) -> str:
        """The list or record it stands in, options aside: `loss`, `reserve`."""
        inside = self.path[3:] if self.path[0] == "options" else self.path
        return str(inside[0])

    @property
    def name(self) -> str:
        """Owner and place, as a report prints it."""
        words = [str(part) for part in self.path if part not in ("options", "set")]
        return f"{self.owner}: {'.'.join(words)}"

    @cached_property
    def key(self) -> str:
        """What tells it from others wherever it stands."""
        return self.fitted.model_dump_json()

    def bears_on(self, p: Prediction) -> bool:
        """Whether the engine, configured as in this run, has the number, and the measured metric can see it."""
        if p.group.problem.engine.id not in self.engines or self.block in HEADROOMS:
            return False
        if self.block in ALLOCATOR and p.case.metric in ALLOCATED:
            return False
        return self.key in p.group.fitted


def fitted_numbers(catalog: Catalog) -> list[FittedNumber]:
    """Every fitted number of the engine files, by file and place."""
    carriers: dict[tuple[Path, str], list[str]] = {}
    numbers: dict[tuple[Path, str], tuple[float, Fitted, bool]] = {}
    for engine in catalog.ids("engines"):
        for path, fitted, holder in found_fitted(catalog.document("engines", engine).data):
            key = path, fitted.model_dump_json()
            carriers.setdefault(key, []).append(engine)
            numbers[key] = float(holder[str(path[-1])]), fitted, _is_assumed(holder, str(path[-1]))
    out = []
    for key, engines in carriers.items():
        owner = next(engine for engine in engines if _states(catalog, engine, key[0]))
        value, fitted, assumed = numbers[key]
        out.append(FittedNumber(owner, tuple(engines), key[0], value, fitted, assumed))
    return sorted(out, key=lambda n: (n.owner, [str(part) for part in n.path]))


def _is_assumed(holder: Mapping[str, Any], name: str) -> bool:
    said = holder.get("assumed", False)
    return name in said if isinstance(said, list) else bool(said)


def _states(catalog: Catalog, engine: str, path: Path) -> bool:
    """Whether the file itself has that place, rather than one it extends."""
    data: Any = read_document(catalog.file("engines", engine)).data
    for part in path:
        known = range(len(data)) if isinstance(data, list) else data if isinstance(data, dict) else ()
        if part not in known:
            return False
        data = data[part]
    return True


def with_values(catalog: Catalog, values: Mapping[FittedNumber, float]) -> Overlay:
    """The catalogs with other values of fitted numbers in every engine that carries them."""
    changed = Overlay(catalog)
    for engine in {name for number in values for name in number.engines}:
        data = copy.deepcopy(catalog.document("engines", engine).data)
        for number, value in values.items():
            if engine in number.engines:
                inside: Any = data
                for part in number.path[:-1]:
                    inside = inside[part]
                inside[number.path[-1]] = round(value) if str(number.path[-1]).endswith("_tokens") else value
        changed.extra["engines", engine] = Engine.model_validate(data, context=OTHER_NUMBERS)
    return changed


def predicted_over_span(number: FittedNumber, cases: Iterable[Case], catalog: Catalog) -> tuple[np.ndarray, np.ndarray]:
    """(values between the ends of the span, predictions in GiB of shape [cases, values])."""
    assert number.fitted.span is not None
    values = np.linspace(*number.fitted.span, GRID)
    wanted = list(cases)
    columns = []
    for value in values:
        done, _ = express(wanted, with_values(catalog, {number: float(value)}))
        gib = {p.case.id: p.gib for p in done}
        columns.append([gib[case.id] for case in wanted])
    return values, np.array(columns).T
