"""The engine as a problem has it, its options switched: worked out once for all questions about the same file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from planner.schema.engine import Engine, configured


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
