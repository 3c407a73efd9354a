"""Facts by name. A folder is a registry: `gpus/l40s.yaml` is the GPU `l40s`, read when first asked for.

Extra folders with the same sub-folders come first, so that a user adds or replaces an entry with one file.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from planner.errors import InputError, Mistake, Place
from planner.inputs.document import MAX_BYTES, Document, named_in, read_document, validate
from planner.inputs.entry_lines import stated, text_of
from planner.inputs.examples import shipped
from planner.inputs.files import read_bytes, yaml_files
from planner.inputs.json_document import MOST_BYTES, read_json
from planner.inputs.messages import some_of
from planner.inputs.names import meant
from planner.inputs.unknown_entry import UNPLANNABLE, unknown_entry, unplannable

if TYPE_CHECKING:
    from planner.inputs.measured import MeasuredTables
    from planner.schema.tables import FlagTable

ENVIRONMENT_VARIABLE = "PLANNER_CATALOGS"

_SCHEMAS = {
    "gpus": ("planner.schema.catalog", "Gpu", "GPU"),
    "nodes": ("planner.schema.catalog", "Node", "node type"),
    "models": ("planner.schema.catalog", "Architecture", "model"),
    "engines": ("planner.schema.engine", "Engine", "engine"),
    "optimizers": ("planner.schema.catalog", "Optimizer", "optimizer"),
    "precisions": ("planner.schema.catalog", "Precision", "precision"),
    "rollouts": ("planner.schema.engine", "RolloutEngine", "rollout engine"),
    "prices": ("planner.schema.catalog", "Price", "price"),
}
OWN_ALONE = ("aliases", "preference")
"""Fields that an entry does not take over from those it extends: names, and how other code trains on pairs."""
KINDS = tuple(_SCHEMAS)
TYPED = frozenset({"gpus", "nodes", "models", "engines"})
"""Kinds of which a part of a name may stand for it."""


class _Extending(BaseModel):
    """What must be so of an entry before another one can be laid over it."""

    extends: str | None = None
    keeps_options: list[str] = []
    options: dict[str, object] = {}


@dataclass(frozen=True)
class _Sheet:
    """What an entry is checked from: equal where its file and those that it extends hold the same bytes."""

    kind: str
    hashes: tuple[str, ...]
    document: Document = field(compare=False)


@lru_cache(maxsize=1024)
def _checked(sheet: _Sheet) -> BaseModel:
    """The record of an entry: a process that asks several questions checks each file once. Raises InputError."""
    return validate(sheet.document, schema_of(sheet.kind))


@lru_cache(maxsize=1024)
def _may_be_laid_over(sheet: _Sheet) -> None:
    """Raise InputError where an entry cannot lie over another one; each file is checked once, as above."""
    validate(sheet.document, _Extending)


class Catalog:
    """Entries of every kind, found by name in one or more folders."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self.folders = tuple(Path(folder) for folder in folders)
        self._files: dict[str, dict[str, Path]] = {}
        self._entries: dict[tuple[str, str], tuple[Any, Document]] = {}
        self._documents: dict[tuple[str, str], Document] = {}
        self._rests_on: dict[tuple[str, str], dict[str, str]] = {}
        self._data: dict[str, tuple[Path, str]] = {}
        self._used: dict[str, str] = {}
        self._asked_for: Catalog | None = None

    def find(self, kind: str, name: str, where: Place | None = None, beside: Path | None = None) -> Any:
        """The entry of that name; a model may also be a Hugging Face id or a path to a config.json or YAML file.

        A path is looked for in the folder `beside`, then in the working folder. Raises InputError at `where`.
        """
        files = self._index(kind)
        if name not in files:
            if kind == "models" and (outside := self._outside_model(name, where, beside)) is not None:
                return outside
            choices = self.meant(kind, name)
            if len(choices) != 1:
                choices = choices or (self._started_by(name) if kind == "engines" else [])
                if kind == "models" and not choices and (refused := self._unplannable(name, where)) is not None:
                    raise InputError(refused)
                raise InputError(_unknown(kind, name, sorted(files), where, choices))
            name = choices[0]
        self._note(self._files_of(kind, name))
        return self._load(kind, name)[0]

    def meant(self, kind: str, name: str) -> list[str]:
        """Ids of the entries that a name as people type it may mean: one where it is clear."""
        files = self._index(kind)
        if name in files:
            return [name]
        known = {each: self._aliases(kind, each) for each in files}
        return meant(name, known, parts=kind in TYPED)

    def _started_by(self, launcher: str) -> list[str]:
        """Engines that a launcher starts."""
        return [name for name in self.ids("engines") if launcher in self._load("engines", name)[0].launch]

    def _unplannable(self, name: str, where: Place | None) -> Mistake | None:
        """Why a network that people name cannot be planned; None where nothing is known of it."""
        known = [path for folder in self.folders if (path := folder / UNPLANNABLE).is_file()]
        return next((said for path in known if (said := unplannable(name, path, where)) is not None), None)

    def _aliases(self, kind: str, name: str) -> list[str]:
        """Other names that an entry states; only a file that holds the word is read as YAML."""
        if "\naliases:" not in text_of(self._index(kind)[name]):
            return []
        data = self._read(kind, name).data
        return [str(each) for each in data.get("aliases") or ()] if isinstance(data, dict) else []

    def named_by(self, kind: str, owner_kind: str, owner: str, key: str, default: str | None = None) -> Any:
        """The entry that a field of another entry names; an error points at that field."""
        name: str | None = getattr(self.find(owner_kind, owner), key)
        try:
            return self.find(kind, name or default or "")
        except InputError as error:
            where = self.document(owner_kind, owner).place((key,))
            raise InputError([replace(each, where=each.where or where) for each in error.problems]) from None

    def ids(self, kind: str) -> list[str]:
        """All names of a kind, sorted."""
        return sorted(self._index(kind))

    def may_state(
        self, kind: str, key: str, fits: Callable[[str], bool], among: Sequence[str] | None = None
    ) -> list[str]:
        """Ids of the entries, of all or `among` these, that may state a fitting value of a top-level key; those whose
        lines say otherwise are not read as YAML."""
        ids = self.ids(kind) if among is None else among
        return [name for name in ids if (text := stated(self._index(kind), name, key)) is None or fits(text)]

    def extends(self, kind: str, name: str) -> int:
        """How many entries this one is stated by: 0 where it stands alone."""
        return len(self._lineage(kind, name)) - 1

    def all(self, kind: str) -> list[Any]:
        """All entries of a kind, by name."""
        return [self.find(kind, name) for name in self.ids(kind)]

    def data_file(self, relative: str) -> Path:
        """A data file such as `measured/nccl.csv`, from the first folder that has it; counted as used.

        It is looked for once, as entries are.
        """
        if relative not in self._data:
            path = next((file for folder in self.folders if (file := folder / relative).is_file()), None)
            if path is None:
                looked_in = some_of([str(folder) for folder in self.folders])
                raise InputError(Mistake(f"no file {relative} in the catalogs", Place(relative), because=looked_in))
            self._data[relative] = path, hashlib.sha256(read_bytes(path, most_bytes=MOST_BYTES)).hexdigest()
        path, digest = self._data[relative]
        self._note({relative: digest})
        return path

    def flags(self, file: str) -> FlagTable:
        """A table in flags/: options or keys of one engine. Raises InputError where there is none, or it is wrong."""
        from planner.inputs.flag_tables import checked

        path = self.data_file(f"flags/{file}")
        return checked(path, self._data[f"flags/{file}"][1])

    @property
    def tables(self) -> MeasuredTables:
        """Measured products and collectives of these folders."""
        from planner.inputs.measured import MeasuredTables

        return MeasuredTables(tuple(folder / "measured" for folder in self.folders))

    def digest(self) -> str:
        """SHA-256 over every file of these folders, the first folder first: other facts give another one."""
        found = hashlib.sha256()
        for folder in self.folders:
            for path in sorted((*folder.glob("*/*.yaml"), *folder.glob("*/*.json"))):
                of_file = hashlib.sha256(read_bytes(path, most_bytes=MOST_BYTES)).hexdigest()
                found.update(f"{path.relative_to(folder)} {of_file}\n".encode())
        return found.hexdigest()

    def recording(self) -> Self:
        """The same entries with an empty list of used files, so that an answer states what it alone rests on."""
        other = copy(self)
        other._used, other._asked_for = {}, self
        return other

    def _note(self, files: dict[str, str]) -> None:
        """Count files with these hashes as used, here and in the catalog that this one records for."""
        self._used.update(files)
        if self._asked_for is not None:
            self._asked_for._note(files)

    def used(self) -> dict[str, str]:
        """SHA-256 of every file that an answer rests on, by path inside the catalogs."""
        return dict(sorted(self._used.items()))

    def document(self, kind: str, name: str) -> Document:
        """The file behind an entry, for messages that point into it."""
        return self._load(kind, name)[1]

    def file(self, kind: str, name: str) -> Path:
        """The file of an entry itself, without what it extends."""
        return self._index(kind)[name]

    def _index(self, kind: str) -> dict[str, Path]:
        if kind not in _SCHEMAS:
            raise InputError(_unknown("kinds", kind, list(KINDS), Place("the command line")))
        if kind not in self._files:
            found: dict[str, Path] = {}
            for folder in reversed(self.folders):
                found |= yaml_files(folder / kind)
            self._files[kind] = found
        return self._files[kind]

    def _load(self, kind: str, name: str) -> tuple[Any, Document]:
        key = (kind, name)
        if key not in self._entries:
            document = self._read(kind, name)
            if isinstance(document.data, dict):
                document = replace(document, data=self._whole(kind, name))
            hashes = tuple(self._files_of(kind, name).values())
            self._entries[key] = (_checked(_Sheet(kind, hashes, document)), document)
            if (own := document.data["id"]) != name:
                raise InputError(Mistake(f"id `{own}` is not the file name `{name}`", document.place(("id",))))
        return self._entries[key]

    def _files_of(self, kind: str, name: str) -> dict[str, str]:
        """SHA-256 of the files that an entry is stated by, its own first."""
        if (kind, name) not in self._rests_on:
            files = {f"{kind}/{each}.yaml": self._read(kind, each).sha256 for each in self._lineage(kind, name)}
            self._rests_on[kind, name] = files
        return self._rests_on[kind, name]

    def _whole(self, kind: str, name: str) -> dict[str, Any]:
        """An entry over those it extends: fields replace fields, but options that it names in `keeps_options` stay."""
        data: dict[str, Any] = {}
        for each in reversed(self._lineage(kind, name)):
            document = self._read(kind, each)
            own, options = document.data, data.get("options", {})
            kept = own.get("keeps_options", [])
            for index, option in enumerate(kept):
                if option not in options:
                    place = document.place(("keeps_options", index))
                    raise InputError(_unknown("options", option, sorted(options), place))
            data = {**{key: value for key, value in data.items() if key not in OWN_ALONE}, **own}
            if kept:
                data["options"] = {**{option: options[option] for option in kept}, **own.get("options", {})}
        return {key: value for key, value in data.items() if key not in ("extends", "keeps_options")}

    def _read(self, kind: str, name: str) -> Document:
        """One file as it stands."""
        if (kind, name) not in self._documents:
            document = read_document(self._index(kind)[name])
            if isinstance(document.data, dict) and not document.data.keys().isdisjoint(_Extending.model_fields):
                _may_be_laid_over(_Sheet(kind, (document.sha256,), document))
            self._documents[kind, name] = document
        return self._documents[kind, name]

    def _lineage(self, kind: str, name: str) -> list[str]:
        """An entry and those it extends: a file may say `extends: other` and state only what differs."""
        names = [name]
        while True:
            document = self._read(kind, names[-1])
            base = document.data.get("extends") if isinstance(document.data, dict) else None
            if base is None:
                return names
            where = document.place(("extends",))
            if base not in self._index(kind):
                raise InputError(_unknown(kind, base, self.ids(kind), where))
            if base in names:
                raise InputError(Mistake(f"{kind}/{name} extends itself", where, because=" -> ".join([*names, base])))
            names.append(base)

    def _model_of(self, path: Path, name: str, where: Place | None) -> Any:
        """The architecture of a YAML file or a config.json."""
        if path.suffix == ".yaml":
            document = read_document(path, where)
            entry = validate(document, schema_of("models"))
            self._note({name: document.sha256})
            return entry
        from planner.inputs.hf_config import architecture_from_hf_config

        config = read_json(path, where, most_bytes=MAX_BYTES)
        self._note({name: config.sha256})
        return architecture_from_hf_config(config, str(path))

    def _outside_model(self, name: str, where: Place | None, beside: Path | None) -> Any:
        """An architecture that is not a catalog entry by its id, or None where the name cannot mean one."""
        if not name.endswith((".json", ".yaml")) and "/" not in name and os.sep not in name:
            return None
        path = _found([folder / name for folder in (beside, Path()) if folder is not None])
        if path is not None:
            with named_in(beside or path.parent, path, where):
                return self._model_of(path, name, where)
        if name.endswith((".json", ".yaml")):
            folders = "looked for beside the scenario, then in the working folder" if beside is not None else None
            raise InputError(Mistake(f"{name}: no such file", where, folders))
        if len(self.meant("models", name)) == 1:
            return None
        for known in self.may_state("models", "hf_id", lambda text: text.lower() == name.lower()):
            hf_id = self._load("models", known)[0].hf_id
            if hf_id is not None and hf_id.lower() == name.lower():
                return self.find("models", known)
        return None


def _found(paths: Sequence[Path]) -> Path | None:
    """The first that is a file, or a folder with a config.json in it."""
    for path in paths:
        try:
            for each in (path, path / "config.json"):
                if each.is_file():
                    return each
        except (OSError, ValueError):
            continue
    return None


def default_catalog(extra_dirs: Iterable[str | Path] = ()) -> Catalog:
    """The shipped catalogs, after the given folders and those in PLANNER_CATALOGS."""
    extra = [Path(folder) for folder in extra_dirs]
    extra += [Path(folder) for folder in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if folder]
    for folder in extra:
        if not os.path.isdir(folder):
            raise InputError(
                Mistake(
                    f"{folder} is not a folder",
                    where=Place(ENVIRONMENT_VARIABLE),
                    because=f"{ENVIRONMENT_VARIABLE} names folders",
                )
            )
    return Catalog([*extra, shipped_folder()])


def usual_node(catalog: Catalog, gpu: str, where: Place | None = None) -> str:
    """Id of the node type that a GPU usually comes in. Raises InputError where it comes in several, or in none."""
    entry = catalog.find("gpus", gpu, where)
    if entry.usual_node is not None:
        return str(entry.usual_node)
    nodes = [name for name in catalog.ids("nodes") if catalog.document("nodes", name).data.get("gpu") == entry.id]
    if len(nodes) == 1:
        return nodes[0]
    because = f"it comes in {', '.join(nodes)}" if nodes else "no node type of the catalog has it"
    what, attempt = f"{entry.id} says too little: name the node type", "cluster: {node: ..., num_gpus: ...}"
    raise InputError(Mistake(what, where, because, attempt))


def shipped_folder() -> Path:
    """Where the catalogs of this installation stand."""
    return shipped("catalogs")


@cache
def schema_of(kind: str) -> type[BaseModel]:
    """The record type of a kind."""
    module, name, _ = _SCHEMAS[kind]
    schema: type[BaseModel] = getattr(importlib.import_module(module), name)
    return schema


def has_schema(kind: str) -> bool:
    """True where this installation can read entries of that kind."""
    return importlib.util.find_spec(_SCHEMAS[kind][0]) is not None


def _unknown(kind: str, name: str, ids: Sequence[str], where: Place | None, choices: Sequence[str] = ()) -> Mistake:
    word = _SCHEMAS[kind][2] if kind in _SCHEMAS else "kind of catalog entry"
    return unknown_entry(kind, word, name, ids, where, choices)
