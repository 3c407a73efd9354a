"""Plans GPU layouts of LLM training and RL runs: fits memory, proves the best throughput, explains itself.

    import planner
    scenario = planner.load("llama70b.yaml", {"cluster.num_gpus": 64})   # or a dict
    outcome = planner.solve(scenario)
    planner.show(outcome)

Nothing is imported before it is used. The functions stand in `planner.api`; docs/api.md lists them.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""As in `typing`, which would cost more than all the rest."""
if TYPE_CHECKING:
    from planner.api import (
        Catalog,
        CheckFailed,
        InputError,
        InternalError,
        KnownLayouts,
        NoLayoutFits,
        NoVerdict,
        Outcome,
        Plan,
        PlannerError,
        Scenario,
        budget,
        compare,
        estimate,
        explain,
        front,
        load,
        near,
        show,
        solve,
        sweep,
        to_dict,
        what_if,
    )

    __version__: str

__all__ = [
    "Catalog",
    "CheckFailed",
    "InputError",
    "InternalError",
    "KnownLayouts",
    "NoLayoutFits",
    "NoVerdict",
    "Outcome",
    "Plan",
    "PlannerError",
    "Scenario",
    "__version__",
    "budget",
    "compare",
    "estimate",
    "explain",
    "front",
    "load",
    "near",
    "show",
    "solve",
    "sweep",
    "to_dict",
    "what_if",
]


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'planner' has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("planner")
    from importlib import import_module

    value: object = getattr(import_module("planner.api"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
