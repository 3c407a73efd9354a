"""Layouts of scenarios on other machines: each question is searched once, whoever asks it and how often."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from planner import clock
from planner.errors import InputError, NoVerdict
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.search.search import Outcome, search


class KnownLayouts:
    """The best layouts found so far; jobs, offers and budgets that ask the same on the same machines share one."""

    def __init__(self, time_limit_s: float | None = None, now: Callable[[], float] = clock.now) -> None:
        """`time_limit_s`: longest search, instead of the scenario's own. [s]"""
        self._found: dict[str, Outcome] = {}
        self._time_limit_s = time_limit_s
        self._now = now
        self.seconds = 0.0
        """Spent on searches, apart from the choice among offers."""

    @property
    def searched(self) -> int:
        """Searches made so far."""
        return len(self._found)

    def of(self, base: Document, node: str, gpus: int, catalog: Catalog, progress: Callable[[], None]) -> Outcome | str:
        """The best layout of a scenario on so many GPUs of a node type, or the reason why it cannot be asked there.

        What the scenario says of its own machines does not hold there; rollouts that had a pool of their own share
        these. `progress` is called before a search. Raises NoVerdict where the scenario's time limit came first.
        """
        try:
            question = question_of(_moved(base, node, gpus), catalog)
        except InputError as error:
            return "; ".join(p.what + (f" ({p.because})" if p.because else "") for p in error.problems)
        key = _key(question, catalog)
        if key not in self._found:
            progress()
            started = self._now()
            outcome = search(question, check_points=0, time_limit_s=self._time_limit_s)
            self.seconds += self._now() - started
            if outcome.status == "unknown":
                raise NoVerdict(f"no verdict on {base.name} with {gpus} GPUs of {node} within search.time_limit_s")
            self._found[key] = outcome
        return self._found[key]


def _key(question: Question, catalog: Catalog) -> str:
    """Everything that a search rests on: the scenario's data, the facts it read, and where measured tables stand."""
    facts = [question.document.data, sorted(question.provenance), [str(folder) for folder in catalog.folders]]
    return json.dumps(facts, sort_keys=True, default=str)


def _moved(base: Document, node: str, gpus: int) -> Document:
    changes: dict[str, Any] = {"cluster": {"node": node, "num_gpus": gpus}}
    order = (base.data.get("cluster") or {}).get("rank_order")
    if order is not None:
        changes["cluster"]["rank_order"] = order
    if (base.data.get("rl") or {}).get("rollout"):
        changes["rl.rollout.node"] = None
    return override(base, changes)
