"""How layers may be cut into pipeline stages: what the scenario asks, as far as the engine can be told."""

from __future__ import annotations

from planner.problem import Problem


def is_free(problem: Problem) -> bool:
    """May stages differ in layers, by scenario and engine."""
    spec = problem.scenario.layout.layers_per_stage
    return spec == "free" or (spec == "auto" and problem.engine.pipeline.uneven != "no")


def prefers_even(problem: Problem) -> bool:
    """Does an even split win a near tie against one that has to be spelt out to the engine."""
    return problem.scenario.layout.layers_per_stage == "auto" and is_free(problem)


def layer_step(problem: Problem, chunks: int) -> int:
    """Layers of a free stage come in multiples of this, and are at least its chunks."""
    return 1 if problem.engine.pipeline.uneven_chunks else chunks


def chunk_layers(layers: int, chunks: int) -> tuple[int, ...]:
    """Layers of each chunk of one stage: in equal numbers, the later chunks one more where they do not divide.

    Of a chunk the more micro-batches are in flight the earlier it comes, so that this order keeps least activations.
    """
    each, over = divmod(layers, chunks)
    return tuple(each + (chunk >= chunks - over) for chunk in range(chunks))
