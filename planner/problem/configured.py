"""The engine as a problem has it, its options switched: worked out once for all questions about the same file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from planner.problem.preference import default_loss
from planner.schema.catalog import Architecture
from planner.schema.engine import Engine, configured
from planner.schema.scenario import Scenario


class _Same:
    """An engine by its identity: to compare two by their fields takes as long as what is to be saved."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.engine is self.engine

    def __hash__(self) -> int:
        return id(self.engine)


def configured_once(engine: Engine, options: Sequence[str], modules: Sequence[str]) -> Engine:
    """`configured`, and the same object again where the same engine is asked for with the same options and modules."""
    return _configured(_Same(engine), tuple(options), tuple(modules))


@lru_cache(maxsize=256)
def _configured(same: _Same, options: tuple[str, ...], modules: tuple[str, ...]) -> Engine:
    return configured(same.engine, options, modules)


def switched_on(scenario: Scenario, engine: Engine, precision: str, network: Architecture) -> list[str]:
    """Options of the engine that the scenario turns on, by name, through a field of layout: or by its head sizes."""
    on = [*scenario.engine_options, *default_loss(scenario, engine), precision]
    if scenario.layout.activation_offload is True:
        on += [n for n, o in engine.options.items() if o.decides == "activation_offload" and n not in on]
    sizes = (network.head_dim, network.v_head_dim or network.head_dim)
    if any(size % engine.fused_head_multiple for size in sizes) and "unfused_attention" not in on:
        on += ["unfused_attention"] if "unfused_attention" in engine.options else []
    return on
