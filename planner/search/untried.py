"""Values that an open choice leaves out: named beside every proof, and tried where the scenario lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from planner.problem.choices import choose, divisors
from planner.problem.problem import Problem, Question
from planner.problem.racks import divides
from planner.problem.stage_choices import is_free
from planner.problem.variants import MOST_IN_A_GROUP, USUAL_GROUPS
from planner.search.axes import context, pipeline
from planner.search.axes.data import TOKEN_CAPS, micro_batch_candidates
from planner.search.space import Removed

ROLLOUT_DEGREES = "rl.rollout.tensor_parallel"
NOT_TRIED = "not_tried"
"""The name under which they stand among what was removed."""


def untried(question: Question) -> tuple[Removed, ...]:
    """`layout.context_parallel 16, 32 (fewer than 1,024 tokens a rank)`: one entry for each choice that has some."""
    few = f"other than divisors up to {pipeline.MOST_CHUNKS} and up to {pipeline.FEW_CHUNKS} uneven chunks a stage"
    kinds: list[tuple[str, str, Callable[[Problem], Iterable[int]]]] = [
        ("layout.context_parallel", f"fewer than {context.SHORTEST_TOKENS:,} tokens a rank", _context),
        ("layout.virtual_pipeline", few, _chunks),
        (ROLLOUT_DEGREES, "engines over several nodes", _over_nodes),
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
    return (*found, *_shares_of_a_node(question), *_shares_that_generate(question), *_other_than(question))


def _shares_of_a_node(question: Question) -> Iterator[Removed]:
    """Numbers of GPUs below a maximum that are neither whole nodes nor an even share of one."""
    cluster = question.scenario.cluster
    for machines in cluster.pools or (cluster,):
        problem = next((p for p in question.problems if machines.node in (None, p.node.id)), None)
        if machines.max_gpus is None or problem is None:
            continue
        left_out = [n for n in range(1, machines.max_gpus + 1) if not divides(n, problem.node.gpus_per_node)]
        if left_out:
            why = f"neither whole nodes of {problem.node.id} nor an even share of one: not planned"
            yield Removed(NOT_TRIED, f"cluster.num_gpus {_listed(left_out)} ({why})", len(left_out))


def _shares_that_generate(question: Question) -> Iterator[Removed]:
    """Numbers of GPUs of the trainer's own machines that could generate alone, were the trainer's numbers any."""
    rl = question.rl
    if rl is None or isinstance(rl.rollout.num_gpus, int | list):
        return
    left_out: set[int] = set()
    for problem in question.problems:
        if problem.splits and problem.rollout_machines is None:
            tried = {generating for _, generating in problem.splits}
            most = max(sum(split) for split in problem.splits)
            left_out |= set(choose(rl.rollout.num_gpus, list(range(1, most)))) - tried
    if left_out:
        why = "the rest would be neither whole nodes nor an even share of one to train on: not planned"
        yield Removed(NOT_TRIED, f"rl.rollout.num_gpus {_listed(sorted(left_out))} ({why})", len(left_out))


def _other_than(question: Question) -> Iterator[Removed]:
    """Decisions of which an open choice tries a list of values; how many others there are is not counted."""
    lists: list[tuple[str, str | None]] = [
        ("layout.recompute_group", _groups(question)),
        ("batch.max_tokens_per_gpu", _caps(question)),
        *_of_rollouts(question),
    ]
    for path, tried in lists:
        if tried is not None:
            yield Removed(NOT_TRIED, f"{path} other than {tried}; tried where it is listed", 0)


def _groups(question: Question) -> str | None:
    """What `recompute_group: any` opened; a list or a range says itself what it opens."""
    tried = {value for p in question.problems for path, value in p.settings if path == "layout.recompute_group"}
    opened = ["1", *map(str, USUAL_GROUPS)]
    asked = (question.document.data.get("layout") or {}).get("recompute_group")
    if isinstance(asked, dict) and (asked.get("max") or MOST_IN_A_GROUP + 1) > MOST_IN_A_GROUP:
        return f"sizes up to {MOST_IN_A_GROUP}"
    return ", ".join(opened) if tried == set(opened) else None


def _caps(question: Question) -> str | None:
    asked = question.scenario.batch.max_tokens_per_gpu
    packed = any(cap > 0 for problem in question.problems for _, cap in micro_batch_candidates(problem, 1, 0))
    if not question.is_rl or not packed or isinstance(asked, int | list):
        return None
    return f"{', '.join(f'{cap:,}' for cap in choose(asked, list(TOKEN_CAPS)))} and the longest sample"


def _of_rollouts(question: Question) -> Iterator[tuple[str, str]]:
    rl, engine = question.rl, question.first.rollout_engine
    if rl is None or engine is None:
        return
    if rl.rollout.gpu_memory_utilization == "any":
        yield "rl.rollout.gpu_memory_utilization", ", ".join(f"{share:g}" for share in engine.fractions)
    if not isinstance(rl.rollout.max_concurrency, int | list | None):
        yield "rl.rollout.max_concurrency", f"powers of two and {engine.max_concurrency}"


def _over_nodes(problem: Problem) -> Iterable[int]:
    """Degrees of rollout engines over whole nodes, which none has unless the scenario asks for them."""
    rl, per_node = problem.scenario.rl, problem.generating.node.gpus_per_node
    if rl is None or problem.rollout_engine is None or rl.rollout.tensor_parallel != "any":
        return
    for _, gpus in problem.splits or [(count, count) for count in problem.num_gpus]:
        whole = range(2 * per_node, gpus + 1, per_node)
        yield from (d for d in whole if gpus % d == 0 and problem.architecture.num_attention_heads % d == 0)


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
