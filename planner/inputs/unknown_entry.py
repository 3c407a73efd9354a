"""What is said of a name that no catalog knows: what it may have meant, or why such a network cannot be planned."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from planner.errors import Mistake, Place
from planner.inputs.document import read_document, validate
from planner.inputs.messages import nearest_few
from planner.inputs.names import flat
from planner.schema.unplannable import UnplannableNetworks

OWN_FILE = dict.fromkeys(("gpus", "nodes"), "; one that is not there is a file of your own (PLANNER_CATALOGS)")
UNPLANNABLE = "unplannable/networks.yaml"
REFUSED = "cannot be planned: it has"
"""What stands in the message of every network that is refused by name."""


def unknown_entry(
    kind: str, word: str, name: str, ids: Sequence[str], where: Place | None, choices: Sequence[str] = ()
) -> Mistake:
    """A name that is no entry: `choices` it may mean, or those that look like it. `word` is what an entry is called."""
    if choices:
        several = ", ".join(f"`{choice}`" for choice in choices[:12])
        what = f"unknown {word} `{name}`: it may be several"
        return Mistake(what, where, f"{name} may mean {several}", "one of them")
    close = " or ".join(f"`{match}`" for match in _resembling(name, ids))
    known = (
        nearest_few(name, ids, "the catalog knows", "are in the catalog") if ids else f"no folder holds {kind}/*.yaml"
    )
    listed = f"planner catalog list {kind}" + OWN_FILE.get(kind, "")
    return Mistake(f"unknown {word} `{name}`", where, known, f"did you mean {close}?" if close else listed)


def unplannable(name: str, path: Path, where: Place | None) -> Mistake | None:
    """Why the network of that name is refused, by the file of those that are; None for one that it does not know."""
    last = flat(name.rstrip("/").rpartition("/")[2])
    for entry in _networks(path).networks:
        if any(last.startswith(beginning) for beginning in entry.named):
            what = f"`{name}` {REFUSED} {entry.has}"
            return Mistake(what, where, f"no word of a network's shape says that ({entry.source})", entry.instead)
    return None


@cache
def _networks(path: Path) -> UnplannableNetworks:
    return validate(read_document(path), UnplannableNetworks)


def _resembling(name: str, ids: Sequence[str]) -> list[str]:
    """Up to three ids that look like the name, punctuation and case aside."""
    plain = {flat(known): known for known in reversed(ids)}
    wanted = flat(name)
    close = [plain[match] for match in difflib.get_close_matches(wanted, list(plain), n=3, cutoff=0.7)]
    parts = sorted(known for flat, known in plain.items() if len(wanted) >= 2 and wanted in flat)
    return list(dict.fromkeys([*close, *parts]))[:3]
