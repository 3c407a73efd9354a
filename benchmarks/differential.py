"""Random small problems: the solver against exhaustive enumeration.

    python benchmarks/differential.py [COUNT] [--seed N] [--log FILE] [--one-by-one]

With --one-by-one every plan is costed alone from its ledgers and ordered by the tests' own order of goals, so that no
array of costs is shared; spaces have up to 300 points then, 20,000 otherwise.
Exit 5 when a single plan differs; each difference is printed with the texts that reproduce it. With --log each problem
is a line of FILE as soon as it is compared, and a second call goes on where the first one ended, counting both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from one_by_one import best_plan, plans
from random_problems import Case, random_case

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.errors import PlannerError
from planner.search.enumerate import enumerate_best
from planner.search.search import Outcome, agrees, search
from planner.search.space import build_space


def kinds(case: Case, outcome: Outcome) -> list[str]:
    """What this problem and its plan have in them."""
    layout, plan, question = case.scenario["layout"], outcome.plan, outcome.question
    spec = question.scenario
    stages = layout["layers_per_stage"]
    found = [
        f"engine {case.scenario['engine']}",
        f"stages {stages if isinstance(stages, str) else 'listed'}",
        f"recompute {layout.get('recompute', 'uniform')}",
        f"recompute method {spec.layout.recompute_method or 'left to the engine'}",
        f"recomputed layers {_kind(spec.layout.recomputed_layers)}",
        "experts" if case.model.get("num_experts") else "dense network",
        f"near tie {spec.search.near_tie}",
    ]
    found += [
        f"open {path}" for path in sorted({path for variant in question.problems for path, _ in variant.settings})
    ]
    found += [f"placement {name}" for name in sorted({each.placement for each in question.problems if question.is_rl})]
    named = {
        "several node counts": len(question.first.num_gpus) > 1,
        "several wishes": len(question.wishes) > 1,
        "several variants": len(question.problems) > 1,
        "variants refused": bool(question.refused),
        "trainer and rollout on two pools": any(each.rollout_machines is not None for each in question.problems),
        "open max_concurrency": question.is_rl and "max_concurrency" in case.scenario["rl"]["rollout"],
        "packed micro-batches": question.is_rl and case.scenario["batch"].get("max_tokens_per_gpu", "any") != "none",
        "own playbook": "playbook" in case.scenario,
        "adapter": spec.adapter is not None,
        "optimizer offloaded": spec.layout.optimizer_offload is True,
        "no sequence parallelism": spec.layout.sequence_parallel is False,
        "reserved cliff": spec.limits.reserved_cliff,
    }
    found += [name for name, holds in named.items() if holds]
    if plan is None:
        return found
    axes = ("tensor", "pipeline", "data", "context", "expert", "expert_tensor")
    found += [f"plan with {axis}_parallel > 1" for axis in axes if plan.layout[f"{axis}_parallel"] > 1]
    found += ["plan with virtual pipeline"] * (plan.layout["virtual_pipeline"] > 1)
    found += ["plan with packed micro-batches"] * (plan.layout["max_tokens"] > 0)
    found += ["plan with uneven stages"] * (len(set(plan.layers)) > 1)
    found += ["plan with some layers recomputed"] * (0 < sum(plan.recomputed) < sum(plan.layers))
    found += ["plan that gives up a wish"] * (plan.layout["wish"] > 0)
    taken = question.problems[plan.layout["variant"]].settings
    return found + [f"plan with {path} {value}" for path, value in taken if not path.endswith("node")]


def _kind(choice: object) -> str:
    """How a choice is written."""
    return {int: "a number", list: "a list", str: str(choice)}.get(type(choice), "a range")


def differs_one_by_one(outcome: Outcome) -> str | None:
    """What differs between the plan and the first of all, each costed alone; None where they are the same."""
    every = list(plans(outcome.question, build_space(outcome.question)))
    mine, found = best_plan(outcome.question, every), outcome.plan
    same = len(every) == outcome.proof.points and (mine is None) == (found is None)
    if mine is not None and found is not None:
        same = same and (mine.layout, mine.layers, mine.recomputed, mine.rollout) == (
            found.layout, found.layers, found.recomputed, found.rollout)  # fmt: skip
    return None if same else f"of {len(every)} plans {mine}, the search of {outcome.proof.points} {found}"


def difference(case: Case, one_by_one: bool = False) -> tuple[str, str | None, Outcome | None]:
    """(verdict, what differs, outcome) of one problem."""
    question = case.question()
    try:
        outcome = search(question, check_points=0, now=time.process_time)
    except Exception as error:  # whatever it is, the texts that reproduce it are worth more than the rest of the run
        return "error", repr(error), None
    if one_by_one and outcome.status in ("optimal", "infeasible"):
        what = differs_one_by_one(outcome)
        return ("different" if what else outcome.status), what, outcome
    space = build_space(question)
    costs = RowCosts(question, space.layouts)
    rollouts = RolloutTable(question, space.rollouts) if space.rollouts is not None else None
    best = enumerate_best(question, costs, rollouts)
    if outcome.status not in ("optimal", "infeasible"):
        return "not proven in time", f"{outcome.status} after {question.scenario.search.time_limit_s} s", outcome
    if agrees(costs, rollouts, outcome.plan, best):
        return outcome.status, None, outcome
    try:
        search(question, check_points=10**9)
    except PlannerError as error:
        return "different", str(error), outcome
    return "decided by rounding", f"in floats {best}, on the grid {outcome.plan and outcome.plan.layout}", outcome


@dataclass(frozen=True)
class Compared:
    """One problem after its comparison."""

    seed: int
    verdict: str
    points: int
    kinds: list[str]
    what: str | None
    """What differs, with the texts that reproduce it."""


def compared(seed: int, most_points: int, one_by_one: bool) -> Compared:
    """Draw the problem of a seed, solve it, enumerate it."""
    case = random_case(seed, most_points=most_points)
    verdict, what, outcome = difference(case, one_by_one)
    seen = kinds(case, outcome) if outcome is not None else []
    return Compared(seed, verdict, case.points, seen, what and f"{what}\n{case.text}")


def logged(path: Path | None) -> dict[int, Compared]:
    """Problems that an earlier call has compared, by seed; a line that was cut off is not one."""
    found = {}
    for line in path.read_text().splitlines() if path is not None and path.exists() else ():
        try:
            each = Compared(**json.loads(line))
        except ValueError:
            continue
        found[each.seed] = each
    return found


def main() -> int:
    """Run the problems, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=10_000, help="first seed; the suite uses 0 to 149")
    parser.add_argument("--most-points", type=int)
    parser.add_argument("--one-by-one", action="store_true", help="cost every plan alone")
    parser.add_argument("--log", type=Path, help="file of the problems compared so far, to go on from")
    arguments = parser.parse_args()
    verdicts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    points, bad, known = 0, 0, logged(arguments.log)
    most = arguments.most_points or (300 if arguments.one_by_one else 20_000)
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        each = known.get(seed) or compared(seed, most, arguments.one_by_one)
        if arguments.log is not None and seed not in known:
            with arguments.log.open("a") as log:
                log.write(json.dumps(asdict(each)) + "\n")
        verdicts[each.verdict] += 1
        points += each.points
        seen.update(each.kinds)
        if each.what is not None:
            bad += each.verdict != "decided by rounding"
            print(f"{each.verdict}: {each.what}\n", flush=True)
    print(f"{arguments.count} problems from seed {arguments.seed}, {points:,} points enumerated")
    for verdict, number in sorted(verdicts.items()):
        print(f"  {number:6d}  {verdict}")
    print("of them")
    for kind, number in sorted(seen.items()):
        print(f"  {number:6d}  {kind}")
    print(f"{bad} differences")
    print(f"{time.process_time():.0f} CPU s, {len(known)} problems from the log", file=sys.stderr)
    return 5 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
