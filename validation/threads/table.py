"""Out-of-memory threads against the plan of what they state: verdict and phase, or the reason why not.

Twenty that were fixed by name, ten more for those of them that state too little, and thirteen found later.

    python -m validation.threads.table            prints the table as markdown

Right is a thread whose plan does not fit, or is one spike of the allocator away from it (`critical`), and whose fullest
phase is the one in which the thread died; and, where it says which change ended it, whose plan fits with that change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, override, read_document
from planner.search.estimate import estimate
from planner.search.plan import Plan, host_total_gib, verdict

FILE = Path(__file__).with_name("threads.yaml")
SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
TRAINING = {"backward", "recomputation", "loss", "optimizer", "log_prob"}
DEAD = ("does not fit", "critical")


@dataclass(frozen=True)
class Judged:
    """One thread, and what the planner says of it."""

    name: str
    phase: str | None
    """Where the thread died: training, rollout, weight_sync or host."""
    plan: Plan | None
    said: str
    """The verdict, or why there is none."""
    predicted: str | None
    """The phase that is fullest, in the same words."""
    works: bool | None
    """Whether the change that ended it fits; None where none is stated."""
    reason: str
    """Why it is not predicted, known before it was costed."""

    @property
    def foreseen(self) -> bool:
        """The verdict, and the change that ended it."""
        return self.said in DEAD and self.works is not False

    @property
    def right(self) -> bool:
        """Verdict and phase, where the thread says which."""
        return self.foreseen and self.predicted == self.phase


def _phase(plan: Plan) -> str:
    needed, available = host_total_gib(plan)
    if available is not None and needed > available:
        return "host"
    return "training" if plan.binding.phase in TRAINING else plan.binding.phase


def _plan(thread: Mapping[str, Any], more: Mapping[str, Any]) -> Plan:
    document = load(str(SCENARIOS / f"{thread['scenario']}.yaml"))
    return estimate(override(document, {**thread["set"], **more}), default_catalog())


@cache
def judged(part: str = "threads") -> tuple[Judged, ...]:
    """All of one part of the list (`threads`: the twenty, `more`: the ten, `unseen`: those found later), in order."""
    return tuple(_judged(part))


def _judged(part: str) -> Iterator[Judged]:
    for thread in read_document(str(FILE)).data[part]:
        name, phase, reason = thread["name"], thread.get("phase"), thread.get("reason", "")
        if "scenario" not in thread:
            yield Judged(name, phase, None, "not stated", None, None, reason)
            continue
        try:
            plan = _plan(thread, {})
        except InputError as error:
            short = "cannot hold its weights" in str(error)
            said, where = ("does not fit", "rollout") if short else ("refused", None)
            yield Judged(name, phase, None, said, where, None, str(error).splitlines()[0])
            continue
        needed, available = host_total_gib(plan)
        said = "does not fit" if available is not None and needed > available else verdict(plan)
        works = _plan(thread, thread["works"]).headroom_gib >= 0 if "works" in thread else None
        yield Judged(name, phase, plan, said, _phase(plan), works, reason)


def stated(found: Sequence[Judged]) -> list[Judged]:
    """Those that state enough to be costed."""
    return [each for each in found if each.said not in ("not stated", "refused")]


def counts() -> str:
    """How many are right: of the twenty, and of the first twenty that state enough."""
    first, more = judged(), judged("more")
    enough = [*stated(first), *stated(more)][: len(first)]
    return "\n\n".join(
        (
            f"Of the {len(first)} fixed by name, {len(stated(first))} state enough to be costed: "
            f"{sum(each.foreseen for each in first)} foreseen, {sum(each.right for each in first)} with the phase.",
            f"Of the first {len(enough)} of both lists that state enough: {sum(each.foreseen for each in enough)} "
            f"foreseen, {sum(each.right for each in enough)} with the phase.",
            f"Of the {len(judged('unseen'))} found later: {sum(each.foreseen for each in judged('unseen'))} foreseen, "
            f"{sum(each.right for each in judged('unseen'))} with the phase; "
            f"{sum(each.phase is None for each in judged('unseen'))} do not say where they died.",
        )
    )


def table(found: Sequence[Judged]) -> str:
    """Markdown, one row a thread."""
    lines = [
        "| thread | died in | plan | free GiB | fullest in | its cure fits | right |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found:
        free = "-" if each.plan is None else f"{each.plan.headroom_gib:.1f}"
        cure = {None: "-", True: "yes", False: "no"}[each.works]
        apart = "it says no phase" if each.phase is None else "another phase"
        why = each.reason or (apart if each.foreseen else "the plan says otherwise")
        right = "yes" if each.right else f"{'verdict alone' if each.foreseen else 'no'}: {why}"
        cells = (each.name, each.phase or "-", each.said, free, each.predicted or "-", cure, right)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page() -> str:
    """Both tables and what they count."""
    parts = (
        "## The twenty",
        table(judged()),
        "## Ten more",
        table(judged("more")),
        "## Thirteen found later, as they stand",
        table(judged("unseen")),
        "## Count",
        counts(),
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    print(page())
