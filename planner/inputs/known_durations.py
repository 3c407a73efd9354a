"""How much longer than predicted runs are known to take: quantiles by engine and GPU generation.

The table catalogs/measured/known_durations.json is made by `planner validate durations`; nothing here is typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.errors import InputError
from planner.inputs.catalog import Catalog

FILE = "measured/known_durations.json"
LEAST_GROUPS = 3
"""With fewer groups of runs nothing can be left out, and a wider class is asked."""
UNSCORED = (1.0,) * 21


@dataclass(frozen=True)
class DurationSpread:
    """Measured over predicted time of published runs."""

    of: str
    """Whose runs: `megatron-core on sm_90`."""
    rows: int
    groups: int
    """Models of a source (RL: frameworks); each was left out in turn."""
    quantiles: tuple[float, ...]
    """At equal steps of the level, from 0 to 1."""

    def ratio(self, level: float) -> float:
        """The ratio that is not exceeded with this chance; linear between the steps."""
        place = min(max(level, 0.0), 1.0) * (len(self.quantiles) - 1)
        low = min(int(place), len(self.quantiles) - 2)
        first, second = self.quantiles[low : low + 2]
        return first + (second - first) * (place - low)

    def strata(self, count: int) -> list[float]:
        """So many equally likely ratios: the middles of as many slices."""
        return [self.ratio((index + 0.5) / count) for index in range(count)]

    @property
    def sentence(self) -> str:
        """What it rests on."""
        left_out = f"each of {self.groups} groups left out in turn"
        if self.groups < LEAST_GROUPS:
            left_out = f"each run left out in turn, since they are of {self.groups} groups only"
        return (
            f"speed: {self.rows} published runs of {self.of} took {self.ratio(0.1):.2f} (10 %), {self.ratio(0.5):.2f} "
            f"(half) and {self.ratio(0.9):.2f} (90 %) times as long as predicted; {left_out} "
            "(planner validate durations)"
        )


def duration_spread(catalog: Catalog, names: tuple[str, ...], chip: str, *, rl: bool) -> DurationSpread:
    """The spread for an engine (by its names, the first that is known) on a GPU generation (`Hopper sm_90`).

    Where too few runs of the engine on that generation are known, all of the engine's count. Where none was scored, and
    above the confidence that its own runs reach, the spread of an engine left out of all scored ones counts. Steps of
    RL have their own.
    """
    try:
        table = json.loads(catalog.data_file(FILE).read_text(encoding="utf-8"))
    except InputError:
        return DurationSpread("no engine (no table of known durations)", 0, 0, UNSCORED)
    if rl:
        return _spread("RL steps", table["rl"], table["rl"]["reach"], table["unscored"])
    engines: Mapping[str, Any] = table["engines"]
    for name in names:
        for generation in (*chip.split(), "all"):
            row = engines.get(name, {}).get(generation)
            if row is not None and row["groups"] >= LEAST_GROUPS:
                of = name + ("" if generation == "all" else f" on {generation}")
                return _spread(of, row, row["reach"], table["unscored"])
    return _spread(f"all engines, as {names[0]} was not scored", table["unscored"], 1.0, table["unscored"])


def _spread(of: str, row: Mapping[str, Any], reach: float, unscored: Mapping[str, Any]) -> DurationSpread:
    """Quantiles that never fall; above `reach` they are at least those of an engine that was never scored."""
    quantiles: list[float] = []
    steps = len(row["quantiles"]) - 1
    for place, (own, other) in enumerate(zip(row["quantiles"], unscored["quantiles"], strict=True)):
        value = max(own, other) if place / steps > reach else own
        quantiles.append(max(value, quantiles[-1] if quantiles else value))
    return DurationSpread(of, row["rows"], row["groups"], tuple(quantiles))
