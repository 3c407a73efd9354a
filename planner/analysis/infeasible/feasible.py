"""Does anything fit at all: the memory half of the search, without times and without the solver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override
from planner.problem.layouts import Ints
from planner.problem.problem import Problem, Question
from planner.problem.resolve import question_of
from planner.problem.stage_choices import even_layers, is_free, recompute_levels
from planner.search.bounds.any_split import to_spare
from planner.search.bounds.free_stages import Splitter
from planner.search.grid import Rounded, limit_bytes
from planner.search.search import plan
from planner.search.softer import softest
from planner.search.space import build_space
from planner.search.tables import choice_keys, row_keys
from planner.units import KIB, MIB

SPARE_BYTES = 8 * MIB
"""A point must fit with this much to spare: more than rounding costs to whole units takes away. [bytes]"""


@dataclass(frozen=True)
class Checks:
    """Feasibility of variations of one scenario, each asked once."""

    catalog: Catalog
    answers: dict[str, bool]

    def fits(self, document: Document, changes: Mapping[str, Any]) -> bool:
        """Does a layout fit under these changes. A change that contradicts the scenario fits nothing."""
        key = json.dumps(changes, sort_keys=True)
        if key not in self.answers:
            self.answers[key] = self._asked(override(document, changes))
        return self.answers[key]

    def fits_exactly(self, document: Document, changes: Mapping[str, Any]) -> bool:
        """The same with every number of recomputed layers and to the last byte; slower."""
        return self._asked(override(document, changes), exactly=True)

    def proved(self, document: Document, changes: Mapping[str, Any]) -> bool:
        """The same by the full search; slowest."""
        try:
            found = plan(override(document, changes), self.catalog, check_points=0).plan is not None
        except InputError:
            found = False
        self.answers[json.dumps(changes, sort_keys=True)] = found
        return found

    def _asked(self, document: Document, *, exactly: bool = False) -> bool:
        try:
            return fits(softest(question_of(document, self.catalog)), exactly=exactly)
        except InputError:
            return False


def fits(question: Question, *, exactly: bool = False) -> bool:
    """Is there a layout that fits.

    One GPU count after the other, few first, so that a large space is only listed where a small one has nothing. Each
    layout is looked at with as many and as few recomputed layers as it may have, for something in between hardly ever
    needs less memory; `exactly` looks at all of them, and to the last byte. Where stages may differ and even ones do
    not fit, every split is decided by memory alone.
    """
    parts = []
    for count, variant in sorted(((n, v) for v in question.problems for n in v.num_gpus), key=lambda pair: pair[0]):
        splits = tuple(split for split in variant.splits if split[0] == count)
        part = _listed(replace(variant, machines=replace(variant.machines, num_gpus=(count,)), splits=splits), exactly)
        if part is not None and _even_fits(part, exactly):
            return True
        parts.append(part)
    return any(part is not None and _some_split_fits(part, exactly) for part in parts)


def _limit(question: Question, exactly: bool) -> float:
    return limit_bytes(question) - SPARE_BYTES * (not exactly)


def _listed(problem: Problem, exactly: bool) -> RowCosts | None:
    """Layouts of one problem, those beside a rollout engine that fits; None where there are none."""
    question = problem.alone
    space = build_space(question)
    layouts = space.layouts
    if space.rollouts is not None and len(layouts):
        if not len(space.rollouts):
            return None
        inside = RolloutTable(question, space.rollouts).peak_bytes <= _limit(question, exactly)
        layouts = layouts.take(np.isin(row_keys(layouts), choice_keys(space.rollouts)[inside]))
    return RowCosts(question, layouts) if len(layouts) else None


def _even_fits(costs: RowCosts, exactly: bool) -> bool:
    problem, layouts, limit = costs.question.first, costs.layouts, _limit(costs.question, exactly)
    layers = even_layers(problem, layouts, costs.stages)
    whole = layers.sum(axis=1) == problem.architecture.num_hidden_layers
    most = layers.max(axis=1, initial=0)
    kinds = np.stack([layouts.virtual_pipeline, most], axis=1)
    for chunks, deepest in np.unique(kinds[whole], axis=0).tolist():
        group: Ints = np.flatnonzero(whole & (most == deepest) & (layouts.virtual_pipeline == chunks))
        levels = recompute_levels(problem, deepest, chunks)
        for level in levels if exactly else dict.fromkeys(levels[-1:] + levels[:1]):
            peak = costs.peak_bytes(group, layers[group], np.minimum(layers[group], level))
            if bool((peak <= limit).any()):
                return True
    return False


def _some_split_fits(costs: RowCosts, exactly: bool) -> bool:
    """Does any split of any row fit, where stages may differ in layers or in recomputed ones."""
    question = costs.question
    if not is_free(question.first) and question.scenario.layout.recompute != "per_stage":
        return False
    left = to_spare(costs, costs.memory, _limit(question, exactly))
    rows = np.flatnonzero(left >= 0)
    rows = rows[np.argsort(-left[rows], kind="stable")]
    costs = RowCosts(question, costs.layouts.take(rows))
    splitter = Splitter(question, Rounded(costs, None, 1.0, 1.0 if exactly else KIB))
    held_back = 0 if exactly else SPARE_BYTES // KIB
    return any(splitter.holds(row, held_back) for row in range(len(rows)))
