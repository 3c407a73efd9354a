"""Settings of an engine by its own keys, from a table in catalogs/flags: which decision a key says, and its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.inputs.catalog import Catalog
from planner.launch.said import Setting, Words, refuse_unsaid
from planner.launch.script import refuse
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


@dataclass(frozen=True)
class KeyTable:
    """Keys of one engine and version."""

    engine: str
    """Name and version, as files name them."""
    keys: tuple[Key, ...]

    @property
    def spoken(self) -> set[str]:
        """Words that some key says."""
        return {key.says for key in self.keys if key.says is not None}


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
        )
        for name, entry in table.parts[part].items()
    )
    return KeyTable(table.engine, keys)


def settings(plan: Plan, table: KeyTable, words: Mapping[str, Setting], launcher: str, also: set[str]) -> Words:
    """Keys and values of a plan, less those that are the engine's defaults. `also`: decisions said in another way.

    Raises InputError for a decision that no key says.
    """
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
        if value is not None and value != key.default:
            out[f"+{key.name}" if key.added else key.name] = value
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


def yaml_lines(tree: Mapping[str, object], indent: int = 0) -> list[str]:
    """A tree as block YAML; scalars as `written`."""
    out = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            out += [" " * indent + f"{name}:", *yaml_lines(value, indent + 2)]
        else:
            text = written(value)
            plain = not isinstance(value, str) or (bool(text) and text[0].isalpha() and ": " not in text)
            out.append(" " * indent + f"{name}: " + (text if plain else f'"{text}"'))
    return out
