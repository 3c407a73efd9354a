"""An RL scenario solved for several largest responses, its distribution of lengths scaled with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, override, validate
from planner.problem.resolve import resolve
from planner.problem.wishes import allowed
from planner.schema.scenario import Distribution, Scenario
from planner.search.plan import Plan
from planner.search.search import Outcome, search

DEFAULT_LENGTHS = (8192, 16384, 32768)
LARGEST_LENGTH = 2**20


@dataclass(frozen=True)
class LengthAnswer:
    """The scenario with one largest response."""

    response_length: int
    """[tokens]"""
    mean: int
    """Of the responses that end by themselves. [tokens]"""
    p99: int
    outcome: Outcome

    @property
    def plan(self) -> Plan | None:
        """The layout, where one fits."""
        return self.outcome.plan


def scaled(spread: Distribution, *, before: int, after: int) -> tuple[int, int]:
    """(mean, p99) in proportion to the largest response, which goes from `before` to `after`. [tokens]"""
    times = after / before
    return max(1, round(spread.mean * times)), max(2, round(spread.p99 * times))


def rl_lengths(
    document: Document,
    lengths: Sequence[int] = DEFAULT_LENGTHS,
    catalog: Catalog | None = None,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> list[LengthAnswer]:
    """Solve the scenario for each largest response, in the order given.

    Raises InputError where the scenario is no RL step, or a length is out of range or given twice.
    """
    catalog = catalog or default_catalog()
    rl = validate(document, Scenario).rl
    if rl is None:
        because = "lengths of responses are those of reinforcement learning"
        raise InputError(Mistake("rl-lengths needs task: rl", document.place(("task",)), because, "planner whatif"))
    wrong = [n for place, n in enumerate(lengths) if not 1 <= n <= LARGEST_LENGTH or n in lengths[:place]]
    if wrong or not lengths:
        what = (
            f"--lengths {','.join(map(str, lengths))}: expected different lengths from 1 to {LARGEST_LENGTH:,} tokens"
        )
        raise InputError(Mistake(what, Place("--lengths"), attempt="--lengths 8192,16384,32768"))
    wanted = allowed(rl.response_length)[0]
    answers = []
    for length in lengths:
        mean, p99 = scaled(rl.response_distribution, before=wanted, after=length)
        spread = {"rl.response_distribution.mean": mean, "rl.response_distribution.p99": p99}
        changed = override(document, {"rl.response_length": length, **spread})
        progress(f"responses of up to {length:,} tokens")
        found = search(resolve(changed, validate(changed, Scenario), catalog), check_points=0)
        answers.append(LengthAnswer(length, mean, p99, found))
    return answers
