"""Scenarios that come with planner: `example:NAME` wherever a file is named, in a checkout or not."""

from __future__ import annotations

from pathlib import Path

from planner.errors import Mistake, Place
from planner.inputs.messages import did_you_mean, nearest, some_of

EXAMPLE = "example:"
"""Before the name of a shipped scenario."""


def examples_folder() -> Path:
    """Where the shipped scenarios stand: inside the wheel, or next to the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "_scenarios"
    return inside if inside.is_dir() else package.parent / "scenarios"


def examples() -> list[str]:
    """Names of the shipped scenarios."""
    return sorted(path.stem for path in examples_folder().glob("*.yaml"))


def file_of(name: str) -> Path:
    """The file of a scenario as it is named."""
    return examples_folder() / f"{name.removeprefix(EXAMPLE)}.yaml" if name.startswith(EXAMPLE) else Path(name)


def beside(document: str, file: str) -> Path:
    """A file that a document names, relative to the document."""
    if document.startswith(EXAMPLE):
        return examples_folder() / file
    return Path(document).parent / file


def typed_beside(document: str, file: str) -> str:
    """The same as one would type it; a document may name a shipped scenario too."""
    if file.startswith(EXAMPLE):
        return file
    return f"{EXAMPLE}{Path(file).stem}" if document.startswith(EXAMPLE) else str(Path(document).parent / file)


def absent(file: Path) -> bool:
    """Whether there is nothing of that name; a name that no file can have is not absent."""
    try:
        file.lstat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def missing(name: str, place: Place) -> Mistake:
    """A file that is not there, and what may have been meant."""
    what = f"{name}: no such file"
    if name.startswith(EXAMPLE):
        asked, known = name.removeprefix(EXAMPLE), examples()
        attempt = did_you_mean(asked, known) or "planner init --list"
        return Mistake(f"no shipped scenario {asked}", place, f"there are {some_of(known, 20)}", attempt)
    path = Path(name)
    near = nearest(path.name, [each.name for each in _siblings(path)])
    if near is not None:
        return Mistake(what, place, attempt=f"did you mean `{path.parent / near}`?")
    if path.stem in examples():
        return Mistake(what, place, "it is shipped with planner", f"{EXAMPLE}{path.stem}")
    return Mistake(what, place, attempt="planner ask MODEL --gpus 8xh100, or planner init --list")


def _siblings(path: Path) -> list[Path]:
    try:
        return [each for each in sorted(path.parent.iterdir()) if each.suffix in (".yaml", ".yml", ".json")]
    except (OSError, ValueError):
        return []
