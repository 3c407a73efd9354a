"""Settings of an engine by its own keys, from a table in catalogs/flags: which decision a key says, and its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.inputs.catalog import Catalog
from planner.launch.said import FROZEN, FROZEN_PARTS, Setting, Words, refuse_unsaid
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.schema.tables import OptionWords
from planner.search.plan import Plan


@dataclass(frozen=True)
class Key:
    """One setting of an engine."""

    name: str
    says: str | None
    """Word of `planner.launch.said`; none for a key that is written with a constant."""
    default: Setting = None
    constant: Setting = None
    words: Mapping[str, Setting] | None = None
    """Engine's value for each value of the plan (as `written`), where they differ."""
    added: bool = False
    """The key is absent from the engine's own files (Hydra wants a +)."""
    always: bool = False
    """It is written where it is the default too, which other releases set otherwise."""


@dataclass(frozen=True)
class KeyTable:
    """Keys of one engine and version."""

    engine: str
    """Name and version, as files name them."""
    keys: tuple[Key, ...]
    options: Mapping[str, OptionWords]
    """Engine options of a scenario, and the settings that say them."""
    recipe: bool = False
    """Defaults are those of a recipe that the user names."""
    networks: tuple[str, ...] = ()
    """Kinds of networks that the engine builds; any where there are none."""

    @property
    def spoken(self) -> set[str]:
        """Words that some key says; those of the parts of a vision tower say what is frozen of it."""
        said = {key.says for key in self.keys if key.says is not None}
        return said | ({FROZEN} if FROZEN_PARTS.keys() <= said else set())


def key_table(catalog: Catalog, file: str, part: str) -> KeyTable:
    """One part of a table in catalogs/flags."""
    table = catalog.flags(file)
    keys = tuple(
        Key(
            name,
            entry.get("says"),
            entry.get("default"),
            entry.get("constant"),
            entry.get("words"),
            bool(entry.get("added", False)),
            bool(entry.get("always", False)),
        )
        for name, entry in table.parts[part].items()
    )
    return KeyTable(table.engine, keys, table.options, table.recipe, table.networks)


def settings(plan: Plan, table: KeyTable, words: Mapping[str, Setting], launcher: str, also: set[str]) -> Words:
    """Keys and values of a plan, less those that are the engine's defaults. `also`: decisions said in another way.

    Raises InputError for a decision that no key says, and for a network that the engine does not build.
    """
    kind = plan.problem.architecture.model_type
    if table.networks and kind not in table.networks:
        built = f"{table.engine} builds networks of {', '.join(table.networks)}"
        raise refuse(plan, f"{launcher} builds no network of kind {kind}", built, "another engine, or model:", "model")
    refuse_unsaid(plan, words, table.spoken | also, launcher)
    out: Words = {}
    for key in table.keys:
        if key.says is None:
            value = key.constant
        else:
            value = words.get(key.says)
            if value is None or value == []:
                continue
            if key.words is not None:
                if written(value) not in key.words:
                    raise refuse(
                        plan,
                        f"{launcher} has no word for {key.says} {written(value)}",
                        f"{key.name} takes {', '.join(key.words)}",
                        f"{key.says}: {next(iter(key.words))}",
                        key.says,
                    )
                value = key.words[written(value)]
        if value is not None and (table.recipe or key.always or value != key.default):
            out[f"+{key.name}" if key.added else key.name] = value
    return out


def optional(plan: Plan, table: KeyTable, launcher: str) -> Words:
    """Settings of a plan's engine options. Raises InputError for an option that no setting says."""
    out: Words = {}
    for name in settled(plan).engine_options:
        words = table.options.get(name)
        if words is None or words.unsaid is not None:
            raise refuse(
                plan,
                f"{launcher} does not know how engine option {name} is set",
                (words.unsaid if words is not None else None) or f"{table.engine} has no setting for it",
                f"leave {name} out of engine_options, or set it by hand",
                "engine_options",
            )
        out |= words.settings
    return out


def nested(flat: Mapping[str, Setting]) -> dict[str, object]:
    """Dotted keys as a tree."""
    tree: dict[str, object] = {}
    for name, value in flat.items():
        *path, last = name.split(".")
        place = tree
        for step in path:
            inside = place.setdefault(step, {})
            assert isinstance(inside, dict)
            place = inside
        place[last] = value
    return tree


def written(value: object) -> str:
    """A value as YAML, Hydra and TOML all read it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(written(item) for item in value) + "]"
    return str(value)


OTHER_VALUES = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
"""Words that YAML 1.1, which PyYAML reads, takes for truth values or nothing unless they are quoted."""


def yaml_lines(tree: Mapping[str, object], indent: int = 0) -> list[str]:
    """A tree as block YAML; scalars as `written`."""
    out = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            out += [" " * indent + f"{name}:", *yaml_lines(value, indent + 2)]
        else:
            text = written(value)
            word = bool(text) and text[0].isalpha() and ": " not in text and text.lower() not in OTHER_VALUES
            plain = not isinstance(value, str) or word
            out.append(" " * indent + f"{name}: " + (text if plain else f'"{text}"'))
    return out
