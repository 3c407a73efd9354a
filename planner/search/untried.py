"""Values that an open choice leaves out: named beside every proof, and tried where the scenario lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from planner.problem.choices import choose, divisors
from planner.problem.problem import Problem, Question
from planner.problem.stage_choices import is_free
from planner.search.axes import context, pipeline
from planner.search.space import Removed

NOT_TRIED = "not_tried"
"""The name under which they stand among what was removed."""


def untried(question: Question) -> tuple[Removed, ...]:
    """`layout.context_parallel 16, 32 (fewer than 1,024 tokens a rank)`: one entry for each choice that has some."""
    few = f"other than divisors up to {pipeline.MOST_CHUNKS} and up to {pipeline.FEW_CHUNKS} uneven chunks a stage"
    kinds: list[tuple[str, str, Callable[[Problem], Iterable[int]]]] = [
        ("layout.context_parallel", f"fewer than {context.SHORTEST_TOKENS:,} tokens a rank", _context),
        ("layout.virtual_pipeline", few, _chunks),
    ]
    found = []
    for path, why, left_out in kinds:
        values = sorted({value for problem in question.problems for value in left_out(problem)})
        if values:
            found.append(Removed(NOT_TRIED, f"{path} {_listed(values)} ({why}); tried where it is listed", len(values)))
    alone = sorted({chunks for problem in question.problems for chunks in _ends_alone(problem)})
    if alone:
        text = (
            f"layout.layers_per_stage whose ends have a chunk of embedding or loss alone, for {_listed(alone)} chunks"
        )
        found.append(Removed(NOT_TRIED, f"{text}; tried where it is listed", len(alone)))
    return tuple(found)


def _ends_alone(problem: Problem) -> Iterable[int]:
    """Numbers of chunks of which the first or the last could have no layer, as a list may say."""
    if not (problem.engine.pipeline.uneven_chunks and is_free(problem)):
        return []
    stages = max((max(pipeline.candidates(problem, gpus), default=1) for gpus in problem.num_gpus), default=1)
    return [chunks for chunks in pipeline.virtual_candidates(problem) if chunks > 1 and stages > 1]


def _context(problem: Problem) -> Iterable[int]:
    """Degrees of context parallelism with a token or more on each rank that are left out."""
    choice = problem.scenario.layout.context_parallel
    if isinstance(choice, int | list) or not problem.engine.context_parallel:
        return
    longest = max(wish.sequence_length for wish in problem.wishes)
    for gpus in problem.num_gpus:
        yield from set(choose(choice, divisors(gpus, longest))) - set(context.candidates(problem, gpus))


def _chunks(problem: Problem) -> Iterable[int]:
    """Numbers of chunks that two stages could have and that are left out."""
    choice, offered = problem.scenario.layout.virtual_pipeline, problem.engine.pipeline
    if isinstance(choice, int | list) or not offered.virtual:
        return set()
    layers = problem.architecture.num_hidden_layers
    every = (
        [*range(1, layers // 2 + 1)] if offered.uneven_chunks and is_free(problem) else divisors(layers, layers // 2)
    )
    return set(choose(choice, every)) - set(pipeline.virtual_candidates(problem))


def _listed(values: list[int]) -> str:
    """All of a few, the ends of many."""
    few = 6
    if len(values) <= few:
        return ", ".join(map(str, values))
    return f"{', '.join(map(str, values[: few - 1]))}, ... {values[-1]}"
