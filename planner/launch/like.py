"""A plan put into somebody's own launch file: the lines that differ change, comments and order stay, the diff is shown.

What the plan's own file would say is compared with what the user's file says, setting by setting, both read by the same
reader. Values are changed where they stand, or where their shell variable is set; a decision that the file does not
make is added beside its kind; one that the plan leaves at the engine's default goes. The network, paths and data stay.
"""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.launch.keyed import key_table, written
from planner.launch.reading.found import Found, Spelling
from planner.launch.reading.megatron import SHAPE
from planner.launch.reading.opened import opened, text_of
from planner.launch.reading.tables import KINDS, TABLES

PARALLEL = (
    "--tensor-model-parallel-size", "--pipeline-model-parallel-size", "--context-parallel-size", "--sequence-parallel",
    "--expert-model-parallel-size", "--expert-tensor-parallel-size", "--num-virtual-stages-per-pipeline-rank",
    "--decoder-first-pipeline-num-layers", "--decoder-last-pipeline-num-layers", "--pipeline-model-parallel-layout",
    "--use-tp-pp-dp-mapping",
)  # fmt: skip
RECOMPUTE = (*("--recompute-granularity", "--recompute-method", "--recompute-num-layers", "--recompute-modules"),)
BATCH = ("--micro-batch-size", "--global-batch-size", "--use-dynamic-batch-size", "--max-tokens-per-gpu")
OPTIMIZER = (
    "--use-distributed-optimizer", "--optimizer-cpu-offload", "--use-precision-aware-optimizer",
    "--overlap-cpu-optimizer-d2h-h2d",
)  # fmt: skip
MACHINES = (
    "--actor-num-nodes", "--actor-num-gpus-per-node", "--num-gpus-per-node", "--rollout-num-gpus", "--colocate",
    "--rollout-num-gpus-per-engine", "--sglang-mem-fraction-static",
)  # fmt: skip
GROUPS = (PARALLEL, RECOMPUTE, BATCH, OPTIMIZER, MACHINES)
DECISIONS = frozenset(name for group in GROUPS for name in group)
"""Options of Megatron and slime that a plan decides; other options of such a file are the user's."""
THEIRS = ("FIXME", "path", "model_name", "experiment_name", "project_name")
"""Parts of names or values that are never the plan's."""


@dataclass
class Edited:
    """A user's file with a plan in it."""

    diff: str
    """Unified; empty where the file says the plan already."""
    text: str
    """The whole file with the plan in it."""
    remarks: list[str] = field(default_factory=list)
    """What could not be put into a line, with the line."""


def like(path: Path, files: Mapping[str, str], launcher: str, catalog: Catalog) -> Edited:
    """Edit a launch file so that it says what the plan's own files say.

    Raises InputError where the file cannot be read, is of another engine, or trains another network.
    """
    mine = opened(path, catalog)
    if path.is_dir() or mine.launcher != launcher:
        what = "is a folder" if path.is_dir() else f"is for {mine.launcher}, not {launcher}"
        raise InputError(Mistake(f"{path} {what}", Place("--like"), attempt=f"one file, --to {mine.launcher}"))
    theirs = _read_back(files, path, catalog)
    _same_network(path, mine, theirs)
    edit = _Edit(path, mine)
    keyed = mine.launcher in TABLES
    for name, option in theirs.options.items():
        if (not keyed and name not in DECISIONS) or any(part in f"{name}={option.text}" for part in THEIRS):
            continue
        own = mine.options.get(name)
        if own is None:
            edit.add(name, option)
        elif option.known and not _same(own.text, option.text):
            edit.change(own, option.text)
    unsaid = set(mine.options) - set(theirs.options)
    for name in sorted(DECISIONS & unsaid) if not keyed else ():
        edit.remove(mine.options[name])
    for name, default in _defaults(mine, catalog).items():
        if name in unsaid and not _same(mine.options[name].text, default):
            edit.change(mine.options[name], default)
    return edit.done()


def _same(one: str, other: str) -> bool:
    """Whether two texts say one value: truth values are written `True` and `true`."""
    words = ("true", "false")
    return one == other or (one.lower() == other.lower() and one.lower() in words)


def _defaults(mine: Found, catalog: Catalog) -> dict[str, str]:
    """Defaults of keys that say a decision: what a plan leaves out, it leaves at these."""
    parts = [part for part in TABLES.get(mine.launcher, ()) if part[1] in KINDS.get(mine.engine, {part[1]})]
    keys = [key for part in parts for key in key_table(catalog, *part).keys]
    return {key.name: written(key.default) for key in keys if key.says is not None and key.default is not None}


def _read_back(files: Mapping[str, str], path: Path, catalog: Catalog) -> Found:
    """The plan's own files as a reader sees them."""
    with tempfile.TemporaryDirectory(prefix="planner-") as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        only = next(iter(files)) if len(files) == 1 else _alike(files, path)
        return opened(Path(folder) / only, catalog)


def _alike(files: Mapping[str, str], path: Path) -> str:
    """Of several files the one with the same ending."""
    same = [name for name in files if Path(name).suffix == path.suffix]
    if not same:
        raise InputError(
            Mistake(f"the plan's files are {', '.join(files)}", Place("--like"), f"{path} is none of them")
        )
    return same[0]


def _same_network(path: Path, mine: Found, theirs: Found) -> None:
    for name, _ in SHAPE:
        own, other = mine.options.get(name), theirs.options.get(name)
        if own is not None and other is not None and own.known and own.text != other.text:
            raise InputError(
                Mistake(
                    f"{path} trains another network",
                    own.place,
                    f"{name} is {own.text} there and {other.text} in the scenario",
                    "the scenario's model: of that file",
                )
            )


class _Edit:
    """Lines of one file while they change."""

    def __init__(self, path: Path, mine: Found) -> None:
        self.path, self.mine = path, mine
        self.before = text_of(path).splitlines(keepends=True)
        self.lines: list[str | None] = list(self.before)
        self.after: dict[int, list[str]] = {}
        self.remarks: list[str] = []

    def here(self, option: Spelling) -> int | None:
        """Index of an option's line, where it is one of this file's."""
        line = option.place.line
        return line - 1 if option.place.file == str(self.path) and line and line <= len(self.lines) else None

    def change(self, own: Spelling, value: str) -> None:
        at = self.here(own)
        line = self.lines[at] if at is not None else None
        if at is not None and line is not None:
            name = re.escape(
                own.name.rpartition(".")[2] if self.path.suffix in (".yaml", ".yml", ".json") else own.name
            )
            form = rf"({name}['\"]?\s*[=: ]\s*['\"]?){re.escape(own.text)}(?![\w.-])"
            changed, count = re.subn(form, lambda found: found.group(1) + value, line, count=1)
            if count:
                self.lines[at] = changed
                return
            variable = re.search(rf"{name}['\"]?\s*[= ]\s*\"?\$\{{?(\w+)", line)
            if variable is not None and self.assign(variable.group(1), own.text, value):
                return
        self.remarks.append(f"{own.place}: {own.name} is {own.text}; the plan has {value}")

    def assign(self, variable: str, old: str, new: str) -> bool:
        """Change the line that sets a shell variable."""
        form = rf"^(\s*(?:export\s+)?{variable}=(?:\$\{{{variable}:-)?\"?){re.escape(old)}(?![\w.-])"
        for at, line in enumerate(self.lines):
            if line is not None and re.search(form, line):
                self.lines[at] = re.sub(form, lambda found: found.group(1) + new, line, count=1)
                return True
        return False

    def add(self, name: str, option: Spelling) -> None:
        """A line of its own behind the last one of its kind."""
        kind = next((group for group in GROUPS if name in group), None)
        places = self.kin(name, kind)
        if not places or self.path.suffix in (".yaml", ".yml", ".json"):
            self.remarks.append(f"add {name} {option.text}".rstrip())
            return
        at = max(places)
        whole = self.before[at].rstrip("\n")
        indent = whole[: len(whole) - len(whole.lstrip())]
        said = f"{name}={option.text}" if "=" in whole.strip().split(" ")[0] else f"{name} {option.text}".rstrip()
        end = " \\" if whole.endswith("\\") else ""
        self.after.setdefault(at, []).append(f"{indent}{said}{end}\n")

    def kin(self, name: str, kind: Iterable[str] | None) -> list[int]:
        """Lines of settings of the same kind: of its group, or that begin alike."""
        prefix = name.rpartition(".")[0]
        names = [n for n in self.mine.options if (n in set(kind or ())) or (prefix and n.startswith(prefix + "."))]
        found = [self.here(self.mine.options[n]) for n in names]
        return [at for at in found if at is not None and self._alone(at)]

    def _alone(self, at: int) -> bool:
        """One setting stands on that line, so that a line behind it belongs to the same command."""
        return len([o for o in self.mine.options.values() if self.here(o) == at]) == 1

    def remove(self, own: Spelling) -> None:
        at = self.here(own)
        line = self.lines[at] if at is not None else None
        if at is None or line is None or not self._alone(at) or not line.strip().startswith(own.name):
            self.remarks.append(f"{own.place}: take {own.name} out")
            return
        self.lines[at] = None

    def done(self) -> Edited:
        out: list[str] = []
        for at, line in enumerate(self.lines):
            out += [line] if line is not None else []
            out += self.after.get(at, [])
        name = self.path.name
        diff = "".join(difflib.unified_diff(self.before, out, f"a/{name}", f"b/{name}"))
        return Edited(diff, "".join(out), self.remarks)
