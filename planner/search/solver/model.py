"""Variables of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.search.tables import Row, Tables


@dataclass(frozen=True)
class Model:
    """The CP-SAT model and its decisions."""

    cp: Any
    tables: Tables
    picked: tuple[Any, ...]
    """One Boolean a row: this training layout is chosen."""
    chosen: tuple[Any, ...]
    """One Boolean a rollout choice."""
    layers: tuple[Any, ...]
    """Layers of each stage; zero beyond the chosen row's last stage."""
    recomputed: tuple[Any, ...]
    """Recomputed layers of each stage."""
    rebuilt: Any
    """Recomputed layers of all stages together."""
    level: Any
    """The one number of recomputed layers, where all stages share it."""
    every: tuple[Any, ...]
    """For each stage: all its layers are recomputed, where it is that or none."""
    slowest: dict[str, Any]
    """Weighted time of the slowest stage, by visit."""
    rollout: Any
    """Time of the rollout."""
    time: Any
    """Time of the step."""
    headroom: Any
    """Memory left free in the fullest stage and phase."""
    spare: Any
    """Whole steps of memory that are free beyond what must stay free."""
    uneven: Any
    """True where stages differ in layers although they need not."""

    def layers_of(self, row: Row, stage: int) -> Any:
        """Layers of a stage in a constraint that only binds where this row is chosen."""
        return self.layers[stage] if row.fixed_layers is None else row.fixed_layers[stage]


def declare(cp_model: Any, tables: Tables) -> Model:
    """A model with its variables and no constraint yet; every domain as tight as the tables allow."""
    cp = cp_model.CpModel()
    stages = max(row.stages for row in tables.rows)
    most = tables.max_layers
    names = dict.fromkeys(visit.name for row in tables.rows for visit in row.visits)
    return Model(
        cp=cp,
        tables=tables,
        picked=tuple(cp.new_bool_var(f"row {row.index}") for row in tables.rows),
        chosen=tuple(cp.new_bool_var(f"rollout {choice.index}") for choice in tables.choices),
        layers=tuple(cp.new_int_var(0, most, f"layers[{s}]") for s in range(stages)),
        recomputed=tuple(cp.new_int_var(0, most, f"recomputed[{s}]") for s in range(stages)),
        rebuilt=cp.new_int_var(0, tables.total_layers, "all recomputed"),
        level=cp.new_int_var(0, most, "recomputed"),
        every=tuple(cp.new_bool_var(f"every[{s}]") for s in range(stages)),
        slowest={name: cp.new_int_var(0, tables.time_limit, f"slowest {name}") for name in names},
        rollout=cp.new_int_var(0, tables.time_limit if tables.choices else 0, "rollout"),
        time=cp.new_int_var(0, tables.time_limit, "time"),
        headroom=cp.new_int_var(min(tables.headroom, tables.capacity), tables.capacity, "headroom"),
        spare=cp.new_int_var(0, max(0, tables.capacity - tables.headroom) // tables.headroom_step, "spare"),
        uneven=cp.new_bool_var("uneven"),
    )
