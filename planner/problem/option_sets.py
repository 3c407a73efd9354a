"""Options of an engine as decisions: which of them a scenario leaves open, and the sets of them that may be on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations

from planner.errors import Mistake
from planner.inputs.document import Document
from planner.problem.problem import Question
from planner.problem.variants import MOST_VARIANTS, Setting, Variant
from planner.schema.catalog import Architecture, Precision
from planner.schema.engine import Engine
from planner.schema.option import Need
from planner.schema.scenario import Scenario

OPTIONS = "engine_options"
"""Where settings of these decisions stand: `engine_options.NAME`, true or false."""


def options_left_open(
    scenario: Scenario, engine: Engine, architecture: Architecture, precision: Precision
) -> tuple[str, ...]:
    """Options that the search may turn on, in the order of the scenario or, for `any`, of the engine's file.

    Those that would do nothing here, that are on anyway, or that stand against one that is on, are left out.
    """
    asked = scenario.options_to_try
    if asked == "any":
        asked = [name for name, option in engine.options.items() if option.choice == "speed" and not option.decides]
    on = scenario.engine_options
    return tuple(
        name
        for name in dict.fromkeys(asked)
        if name not in on
        and lacking(name, scenario, engine, architecture, precision) is None
        and all(_together(engine, name, other) for other in on)
    )


def lacking(
    name: str, scenario: Scenario, engine: Engine, architecture: Architecture, precision: Precision
) -> Need | None:
    """The first thing that an option needs and that is not here; None where it does something."""
    here: Mapping[Need, bool] = {
        "experts": architecture.is_moe,
        "no experts": not architecture.is_moe,
        "latent attention": architecture.is_mla,
        "fp8": precision.compute == "fp8",
        "16-bit weights": precision.weight_bytes <= 2,
        "adapters": scenario.adapter is not None,
        "all weights trained": scenario.adapter is None,
    }
    return next((need for need in engine.options[name].needs if not here[need]), None)


def to_the_host(question: Question) -> list[str]:
    """Options that are off and would let shards of the weights wait on the host."""
    return _of_sharding(question, lambda changes: "on_host" in changes)


def reduce_each(question: Question) -> list[str]:
    """Options that are off and would have each micro-batch reduce its gradients, so that no rank keeps them whole."""
    zero = question.first.engine.zero_three
    if zero is None or zero.unreduced == "never":
        return []
    return _of_sharding(question, lambda changes: changes.get("unreduced") == "never")


def _of_sharding(question: Question, does: Callable[[Mapping[str, object]], bool]) -> list[str]:
    """Options that are off, may be turned on beside those that are, and change the sharding in such a way."""
    engine, on = question.offered or question.first.engine, question.scenario.engine_options
    there = [n for n, o in engine.options.items() if does(o.set.get("zero_three", {})) and n not in on]
    return [name for name in there if all(_together(engine, name, other) for other in on)]


def without_experts(
    document: Document, scenario: Scenario, engine: Engine, architecture: Architecture
) -> list[Mistake]:
    """Options that are switched on and need experts, of a network that has none: the engine stops, or ignores them.

    Those of a network without experts likewise.
    """
    missing: Need = "no experts" if architecture.is_moe else "experts"
    known = [name for name in scenario.engine_options if name in engine.options]
    return [
        Mistake(
            f"{name} needs a network with{'out' if architecture.is_moe else ''} experts",
            document.place((OPTIONS,)),
            engine.options[name].text,
            f"leave {name} out of {OPTIONS}",
        )
        for name in known
        if missing in engine.options[name].needs
    ]


def exclusive(document: Document, scenario: Scenario, engine: Engine) -> list[Mistake]:
    """Pairs of options that are switched on and are two ways to do the same, of which an engine goes one."""
    on = {name: index for index, name in reversed([*enumerate(scenario.engine_options)]) if name in engine.options}
    return [
        Mistake(
            f"{one} and {other} cannot both be on",
            document.place((OPTIONS, on[other])),
            f"{one}: {engine.options[one].text}; {other}: {engine.options[other].text}",
            f"leave {one} or {other} out of {OPTIONS}",
        )
        for one, other in combinations(sorted(on, key=on.__getitem__), 2)
        if not _together(engine, one, other)
    ]


def turned_on(engine: Engine, on: Sequence[str], name: str) -> tuple[str, ...]:
    """What is on once this option is turned on beside the others: what it cannot be on with goes."""
    return (*(other for other in on if _together(engine, name, other)), name)


def with_options(variant: Variant, engine: Engine, names: tuple[str, ...]) -> tuple[Variant, ...]:
    """The variant with each set of these options that may be on together, fewer options first.

    Raises ValueError for more than `MOST_VARIANTS` of them.
    """
    sets = sorted(_sets(engine, names), key=len)
    return tuple(_with(variant, names, some) for some in sets)


def _sets(engine: Engine, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name in names:
        found += [(*some, name) for some in found if all(_together(engine, name, other) for other in some)]
        if len(found) > MOST_VARIANTS:
            raise ValueError(f"{len(names)} options to try make more than {MOST_VARIANTS} sets")
    return found


def _together(engine: Engine, one: str, other: str) -> bool:
    """May both options be on."""
    options = engine.options
    return not (
        (one in options and other in options[one].instead_of) or (other in options and one in options[other].instead_of)
    )


def _with(variant: Variant, names: tuple[str, ...], on: tuple[str, ...]) -> Variant:
    settings = ((f"{OPTIONS}.{name}", str(name in on).lower()) for name in names)
    scenario = variant.scenario
    update = {"engine_options": [*scenario.engine_options, *on], "options_to_try": []}
    return Variant((*variant.settings, *settings), scenario.model_copy(update=update))


def chosen_options(settings: Sequence[Setting]) -> tuple[str, ...]:
    """Options that were open and are on."""
    return tuple(
        path.removeprefix(f"{OPTIONS}.") for path, value in settings if path.startswith(OPTIONS) and value == "true"
    )


def options_off(
    scenario: Scenario, engine: Engine, architecture: Architecture, precision: Precision
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(option that is a choice, options that are on once it is turned on), for each one that is off and would do
    something."""
    on = scenario.engine_options
    for name, option in engine.options.items():
        usable = option.choice is not None and lacking(name, scenario, engine, architecture, precision) is None
        if usable and name not in on and not option.decides:
            yield name, turned_on(engine, on, name)
