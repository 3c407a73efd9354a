"""How layers and recomputed layers may fall on stages, by scenario and engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from planner.problem.choices import choose
from planner.problem.layouts import Ints, Layouts
from planner.problem.problem import Problem, Question


def is_free(problem: Problem) -> bool:
    """May stages differ in layers, by scenario and engine. Stages with layers of several kinds are even or listed."""
    spec, pipeline = problem.scenario.layout.layers_per_stage, problem.engine.pipeline
    if problem.architecture.several_kinds:
        return False
    return spec == "free" or (spec == "auto" and pipeline.uneven != "no" and not pipeline.uneven_by_hand)


def wider_splits(problem: Problem) -> str | None:
    """The value of `layers_per_stage` that allows more splits than the scenario does; None where none does."""
    pipeline = problem.engine.pipeline
    if is_free(problem) or pipeline.uneven == "no" or problem.architecture.several_kinds:
        return None
    return "free" if pipeline.uneven_by_hand else "auto"


def prefers_even(problem: Problem) -> bool:
    """Does an even split win a near tie against one that has to be spelt out to the engine."""
    return problem.scenario.layout.layers_per_stage == "auto" and is_free(problem)


def evenly(question: Question) -> Question:
    """The question with as many layers on each stage, whatever its scenario says."""

    def even(problem: Problem) -> Problem:
        layout = problem.scenario.layout.model_copy(update={"layers_per_stage": "even"})
        return replace(problem, scenario=problem.scenario.model_copy(update={"layout": layout}))

    return replace(question, problems=tuple(map(even, question.problems)))


def layer_step(problem: Problem, chunks: int) -> int:
    """Layers of a free stage come in multiples of this, and are at least its chunks."""
    return 1 if problem.engine.pipeline.uneven_chunks else chunks


def even_middle(problem: Problem) -> bool:
    """The engine lets only the first and the last stage differ."""
    return problem.engine.pipeline.uneven == "first_last"


def recomputation(problem: Problem) -> str:
    """`whole` or `levels`, as Tables.recompute says."""
    whole = not problem.engine.recompute.partial or problem.scenario.layout.recompute_method == "uniform"
    return "whole" if whole else "levels"


def named_levels(problem: Problem, most: int, chunks: int = 1) -> tuple[int, ...]:
    """Numbers up to `most` that some stage may recompute, by what scenario and engine name."""
    levels = {level for layers in range(1, most + 1) for level in recompute_levels(problem, layers, chunks)}
    return tuple(sorted(levels))


def listed_layers(problem: Problem) -> list[int] | None:
    """Layers of each stage where the scenario lists them."""
    spec = problem.scenario.layout.layers_per_stage
    return spec if isinstance(spec, list) else None


def even_layers(problem: Problem, layouts: Layouts, stages: int) -> Ints:
    """Layers of each stage where stages are even or listed, zero beyond a row's last stage; shape [rows, stages]."""
    spec = listed_layers(problem)
    exists = np.arange(stages)[None, :] < layouts.pipeline_parallel[:, None]
    if spec is not None:
        listed = np.array((spec + [0] * stages)[:stages], dtype=np.int64)
        return np.where(exists, listed[None, :], 0)
    each = problem.architecture.num_hidden_layers // layouts.pipeline_parallel
    return np.where(exists, each[:, None], 0)


def nearly_even_layers(problem: Problem, layouts: Layouts, stages: int) -> tuple[Ints, ...]:
    """Splits of free stages that are as even as they get; where layers divide, that is `even_layers`.

    Stages differ by one step: those with more lie first, last or in the middle, where neither embedding nor loss
    stand. Rows that the engine cannot be told so keep `even_layers`. Shapes [rows, stages].
    """
    even = even_layers(problem, layouts, stages)
    if not is_free(problem):
        return (even,)
    splits = {name: even.copy() for name in ("first", "last", "middle")}
    total = problem.architecture.num_hidden_layers
    kinds = np.stack([layouts.pipeline_parallel, layouts.virtual_pipeline], axis=1)
    for count, chunks in np.unique(kinds, axis=0).tolist():
        step = layer_step(problem, max(chunks, 1))
        steps, rest = divmod(total, step)
        if rest or steps < count or total % (step * count) == 0:
            continue
        rows = np.flatnonzero((kinds == [count, chunks]).all(axis=1))
        for name, split in splits.items():
            split[rows, :count] = np.array(_spread(steps, count, name, even_middle(problem))) * step
    return tuple(splits.values())


def _spread(steps: int, stages: int, more: str, alike: bool) -> list[int]:
    """So many steps on stages, one more on those that lie first, last or in the middle; `alike`: all but the ends."""
    if alike and stages > 2:
        each = steps // stages if more != "middle" else -(-steps // stages)
        low, high = sorted(((steps - each * (stages - 2)) // 2, (steps - each * (stages - 2) + 1) // 2))
        if low >= 1:
            return [high, *[each] * (stages - 2), low] if more != "last" else [low, *[each] * (stages - 2), high]
    each, over = divmod(steps, stages)
    before = {"first": 0, "last": stages - over, "middle": (stages - over + 1) // 2}[more]
    return [each + (before <= stage < before + over) for stage in range(stages)]


def recompute_levels(problem: Problem, most: int, chunks: int = 1) -> list[int]:
    """Numbers of recomputed layers that scenario and engine allow on a stage of `most` layers in chunks, ascending."""
    spec = problem.scenario.layout
    offered = problem.engine.recompute
    if spec.recomputed_layers == "all" or "none" not in offered.granularities:
        usual = [most]
    elif "full" not in offered.granularities:
        usual = [0]
    elif offered.partial and spec.recompute_method != "uniform":
        # Where chunks differ in layers, a number for each chunk that covers the largest one covers the stage.
        usual = sorted({*range(0, most + 1, chunks if offered.per_chunk else 1), most})
    else:
        usual = sorted({0, most})
    if spec.recomputed_layers in ("all", "any"):
        return usual
    return [level for level in choose(spec.recomputed_layers, usual) if level in usual]


def recompute_kind(problem: Problem) -> str:
    """`all`, `none_or_all`, or `levels` where single layers of a stage may be recomputed."""
    spec, offered = problem.scenario.layout, problem.engine.recompute
    if spec.recomputed_layers == "all":
        return "all"
    if spec.recomputed_layers == "any" and (not offered.partial or spec.recompute_method == "uniform"):
        return "none_or_all"
    return "levels"
