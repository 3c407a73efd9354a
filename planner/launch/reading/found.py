"""What was read from a file: settings with their places, and the words (planner.launch.said) that they say."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from planner.errors import Place
from planner.launch.reading.words import Word
from planner.launch.said import Setting
from planner.schema.catalog import Architecture
from planner.schema.tables import Habits

STARTERS = frozenset(("deepspeed",))
"""Programs whose option --module names what they start."""


@dataclass(frozen=True)
class Spelling:
    """One setting as the file spells it."""

    name: str
    values: tuple[str, ...]
    place: Place
    known: bool = True
    """False where only a running shell would know the value."""

    @property
    def text(self) -> str:
        """The only value, or all of them."""
        return " ".join(self.values)


@dataclass
class Found:
    """Words with the options that said them, and what could not be read."""

    engine: str
    """Id of the engine in the catalog."""
    launcher: str
    options: dict[str, Spelling]
    program: str | None = None
    """File or module that the script starts; None for a configuration, and for a script that only sets arrays."""
    before: frozenset[str] = frozenset()
    """Options that stand before the program: the launcher's own."""
    words: dict[str, Setting] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    """Where each word was said; a word without a place is a default of the engine."""
    adapter: dict[str, object] | None = None
    """Fields of a scenario's adapter, where one is trained."""
    machines: tuple[str, str, str] | None = None
    """(node or gpu, its id in the catalog, where it is named); None where nothing names one."""
    padded: bool = False
    """Samples are not packed, and need not be as long as the longest."""
    network: Architecture | None = None
    """The network that options state, where no model of the catalog is it."""
    unread: list[tuple[Place, str]] = field(default_factory=list)
    uncosted: list[tuple[Place, str]] = field(default_factory=list)
    """(place, why) of settings that make another run than any that is costed."""
    habits: Habits = field(default_factory=Habits)
    """Of the launcher."""
    refused: dict[str, str] = field(default_factory=dict)
    """Paths of the scenario whose value the engine knows and no plan counts: why."""
    assumed: dict[str, str] = field(default_factory=dict)
    """Paths of the scenario that no line says: what was taken, and why."""

    def say(self, word: str, value: Setting, *names: str) -> None:
        """Set a word, at the place of the first of these options that the file has."""
        self.words[word] = value
        option = next((self.options[name] for name in names if name in self.options), None)
        if option is not None:
            self.places[word] = option.place

    def switch_on(self, option: str, word: str) -> None:
        """Count an engine option that a word of its own says."""
        on = self.words.get("engine_options")
        self.words["engine_options"] = [*map(str, on if isinstance(on, list) else ()), option]
        if word in self.places:
            self.places["engine_options"] = self.places[word]

    def note(self, place: Place, why: str) -> None:
        """List what could not be read, once."""
        if (place, why) not in self.unread:
            self.unread.append((place, why))

    def text(self, name: str, default: str | None = None) -> str | None:
        """The value of an option; the default where it is absent, or not known without running the file."""
        option = self.options.get(name)
        if option is None:
            return default
        if not option.known:
            self.note(option.place, f"the value of {name} is only known to a running shell")
            return default
        return option.text

    def number(self, name: str, default: int | None = None) -> int | None:
        """The same as a whole number; what is none is listed."""
        text = self.text(name)
        if text is None:
            return default
        if re.fullmatch(r"[0-9]{1,18}(\.0)?", text):
            return int(text.removesuffix(".0"))
        why = "auto: the trainer's own settings say it" if text == "auto" else f"{text!r} is not a whole number"
        self.unread.append((self.options[name].place, f"{name} {why}"))
        return default

    def real(self, name: str, default: float | None = None) -> float | None:
        """The same as a finite number; what is none is listed."""
        text = self.text(name)
        if text is None:
            return default
        with suppress(ValueError):
            if math.isfinite(value := float(text)):
                return value
        self.unread.append((self.options[name].place, f"{name} {text!r} is not a number"))
        return default

    def has(self, name: str) -> bool:
        """Is a switch there (and not turned off by a word)."""
        option = self.options.get(name)
        return option is not None and option.text.lower() not in ("false", "0", "no", "null")


def program_at(words: tuple[Word, ...]) -> int | None:
    """Index of the word that names the program: a Python file, or the module after -m."""
    for at, word in enumerate(words):
        if word.text.endswith(".py") and not word.text.startswith("-"):
            return at
        named = word.text == "-m" or (word.text == "--module" and words[0].text.rpartition("/")[2] in STARTERS)
        if named and at + 1 < len(words):
            return at + 1
    return None


def command_options(words: Sequence[Word], program: int) -> dict[str, Spelling]:
    """Options of a command: of its launcher, which takes one value each, and of the program at that index."""
    before = options_of(words[:program])
    return {name: replace(one, values=one.values[:1]) for name, one in before.items()} | options_of(words[program:])


def options_of(words: Sequence[Word]) -> dict[str, Spelling]:
    """Options of a command line: `--name value ...`, `--name=value`, and Hydra's `name=value`; the last one counts."""
    out: dict[str, Spelling] = {}
    current: tuple[Word, list[Word]] | None = None

    def close() -> None:
        if current is not None:
            head, values = current
            known = all(word.known for word in values)
            place = Place(head.file, head.line)
            out[head.text] = Spelling(head.text, tuple(word.text for word in values), place, known)

    for word in words:
        name, sign, value = word.text.partition("=")
        if re.fullmatch(r"[a-z]+(-[a-z]+)+:[a-z-]+", word.text):  # a subcommand of tyro
            close()
            current = None
            out[word.text] = Spelling(word.text, (), Place(word.file, word.line), word.known)
        elif word.text.startswith("--") and len(word.text) > 2 and not word.text[2].isdigit():
            close()
            head = Word(name, word.file, word.line)
            current = (head, [Word(value, word.file, word.line, word.known)] if sign else [])
            if sign:  # what follows is no value of it
                close()
                current = None
        elif sign and re.fullmatch(r"\+{0,2}~?[A-Za-z_][\w.]*", name):
            close()
            current = None
            known = word.known
            out[name] = Spelling(name, (value,), Place(word.file, word.line), known)
        elif current is not None:
            current[1].append(word)
    close()
    return out


def keys_of(tree: object, place_of: Iterable[tuple[str, Place]]) -> dict[str, Spelling]:
    """Leaves of a YAML or JSON document as options with dotted names."""
    places = dict(place_of)
    out: dict[str, Spelling] = {}

    def walk(value: object, name: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else str(key))
        elif not isinstance(value, dict):
            items = value if isinstance(value, list) else [value]
            texts = tuple(spelt(item) for item in items)
            known = not any("${" in text for text in texts)
            out[name] = Spelling(name, texts, places.get(name, Place("?")), known)

    walk(tree, "")
    return out


def spelt(value: object) -> str:
    """A plain value as text: true, false and null as YAML writes them."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
