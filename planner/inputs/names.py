"""Names as people type them: which entries of a catalog `h100`, `4090`, `Qwen/Qwen2.5-7B-Instruct` or `hf` mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

TUNED = re.compile(r"[-_](?:instruct|base|chat|it|hf|pt)\Z", re.IGNORECASE)
"""Endings of model names that say how a network was tuned, and not what it is."""
VENDOR = re.compile(r"\b(?:nvidia|geforce|amd|instinct)\b", re.IGNORECASE)
"""Words of a GPU's full name that tell nothing apart."""
SIZED = re.compile(r"([a-z]{3,})([0-9.]+b)\b", re.IGNORECASE)
"""A family and a size in one word: qwen7b."""
SHORTEST_PART = 3
"""Characters from which a part of a name may stand for it."""


def flat(name: str) -> str:
    """A name without case and punctuation."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def meant(name: str, known: Mapping[str, Sequence[str]], *, parts: bool) -> list[str]:
    """Ids that a typed name may mean: one where it is clear, several to choose from, or none.

    `known`: other names by id. An id or another name, case and punctuation aside, is clear, also behind an owner
    (`Qwen/...`) and before an ending such as -Instruct. With `parts`, words or a piece of an id may stand for it; of
    several, an id whose words stand in all the others is the plain one, and meant.
    """
    name = VENDOR.sub("", name).strip()
    bare = TUNED.sub("", name.rpartition("/")[2])
    for wanted in dict.fromkeys((flat(name), flat(name.rpartition("/")[2]), flat(bare))):
        exact = [each for each, others in known.items() if wanted in {flat(each), *map(flat, others)}]
        if wanted and exact:
            return sorted(exact)
    if not parts or "/" in name or len(flat(name)) < SHORTEST_PART:
        return []
    words = set(_words(SIZED.sub(r"\1-\2", name)))
    found = [each for each in known if all(any(_says(word, other) for other in _words(each)) for word in words)]
    plain = [each for each in found if all(set(_words(each)) <= set(_words(other)) for other in found)]
    if len(found) > 1 and len(plain) == 1:
        return plain
    if name[-1:].isalpha():
        found += [each for each in known if flat(each).startswith(flat(name)) and each not in found]
    return sorted(found or [each for each in known if flat(each).startswith(flat(name))])


def _says(typed: str, word: str) -> bool:
    """Whether a word of an id is the typed one, its size without the unit (40 or 40g of 40gb), or the typed family in
    one of its versions: qwen of qwen2.5."""
    if word == typed or (typed[:1].isdigit() and word == f"{typed.removesuffix('g')}gb"):
        return True
    return typed.isalpha() and word.startswith(typed) and not word[len(typed)].isalpha()


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9.]+", name.lower()) if word]
