"""The state of a view: a scenario to start from and what was changed in it, as the query of an address.

`?example=qwen7b_rl&cluster.num_gpus=8` is a shipped scenario with one `--set`; `?task=qlora&for=llama3.1-8b&on=4090` is
what `planner ask` makes of these words; `?yaml=...` carries a scenario of one's own, and `?config=...` the config.json
of a model of one's own, both packed. Nothing is kept on the server.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from planner.errors import InputError, Mistake, Place

PASTED = "pasted"
"""What a scenario calls the model whose config.json came with it."""
EXAMPLE, OWN_SCENARIO, OWN_MODEL, TASK, MODEL, GPUS = "example", "yaml", "config", "task", "for", "on"
RESERVED = frozenset(
    {
        EXAMPLE,
        OWN_SCENARIO,
        OWN_MODEL,
        TASK,
        MODEL,
        GPUS,
        "token",
        "over",
        "offer",
        "why",
        "side",
        "to",
        "view",
        "inline",
    }
)
"""Names in the query that are no path of a scenario."""
UNPACKED_BYTES = 256 * 1024
"""Longest scenario or config.json, as in a file."""


@dataclass(frozen=True)
class State:
    """A scenario as somebody put it together on the page."""

    example: str = "qwen7b_rl"
    """Shipped scenario to start from, unless `text` or `task` is given."""
    task: str | None = None
    """What is to be done, as `planner ask` takes it."""
    model: str = "llama3.1-8b"
    """Of that task."""
    gpus: str = "8xh100"
    """Of that task."""
    text: str | None = None
    """A scenario of one's own, as YAML."""
    config: str | None = None
    """A Hugging Face config.json of one's own, as text; the scenario calls that model `pasted`."""
    changes: tuple[tuple[str, str], ...] = ()
    """(dotted path, YAML value), in the order of the address."""

    @property
    def overrides(self) -> tuple[str, ...]:
        """The changes as `--set` takes them."""
        return tuple(f"{path}={value}" for path, value in self.changes)

    @property
    def named(self) -> str:
        """What it is, in a few words."""
        if self.text is not None:
            start = "your own"
        else:
            start = f"{self.task} of {self.model} on {self.gpus}" if self.task is not None else self.example
        return ", ".join([start, *self.overrides])

    def query(self, **more: str) -> str:
        """The query of an address that leads to this state."""
        if self.text is not None:
            pairs = [(OWN_SCENARIO, pack(self.text))]
        elif self.task is not None:
            pairs = [(TASK, self.task), (MODEL, self.model), (GPUS, self.gpus)]
        else:
            pairs = [(EXAMPLE, self.example)]
        if self.config is not None:
            pairs.append((OWN_MODEL, pack(self.config)))
        return urlencode([*pairs, *self.changes, *more.items()])

    def value(self, path: str) -> str:
        """What was typed for a path; empty where it stays as in the scenario."""
        return dict(self.changes).get(path, "")

    def without(self, path: str) -> State:
        """The same with a path as it stands in the scenario."""
        return replace(self, changes=tuple(pair for pair in self.changes if pair[0] != path))

    def changed(self, changes: Iterable[str]) -> State:
        """The same with further PATH=VALUE texts, each in place of an earlier one of its path."""
        new = dict(text.partition("=")[::2] for text in changes)
        kept = tuple(pair for pair in self.changes if pair[0] not in new)
        return replace(self, changes=(*kept, *new.items()))


def state_of(pairs: Sequence[tuple[str, str]]) -> State:
    """The state in a query. Raises InputError for a packed text that cannot be read."""
    named = {name: value for name, value in pairs if name in RESERVED}
    changes: Mapping[str, str] = {
        name: value.strip() for name, value in pairs if name not in RESERVED and value.strip() and "=" not in name
    }
    if named.get(OWN_MODEL) and named.get(TASK):
        named[MODEL] = PASTED
    elif named.get(OWN_MODEL) and "model" not in changes:
        changes = {"model": PASTED, **changes}
    return State(
        example=named.get(EXAMPLE) or State.example,
        task=named.get(TASK) or None,
        model=named.get(MODEL) or State.model,
        gpus=named.get(GPUS) or State.gpus,
        text=unpack(named[OWN_SCENARIO], OWN_SCENARIO) if named.get(OWN_SCENARIO) else None,
        config=unpack(named[OWN_MODEL], OWN_MODEL) if named.get(OWN_MODEL) else None,
        changes=tuple(changes.items()),
    )


def pack(text: str) -> str:
    """Text as letters that an address may hold."""
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def unpack(packed: str, name: str) -> str:
    """The text behind `pack`. Raises InputError for anything else, or more than UNPACKED_BYTES."""
    place = Place(f"?{name}=")
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        unzip = zlib.decompressobj()
        data = unzip.decompress(raw, UNPACKED_BYTES)
        if unzip.unconsumed_tail:
            raise InputError(Mistake(f"{name} is longer than {UNPACKED_BYTES // 1024} KiB", place))
        if not unzip.eof or unzip.unused_data:
            raise ValueError("it is cut off, or something follows it")
        return data.decode()
    except (binascii.Error, zlib.error, ValueError) as error:
        raise InputError(Mistake(f"{name} in the address cannot be unpacked", place, str(error))) from None
