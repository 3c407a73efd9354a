"""The choice of offers against brute force, its time on large questions, and promises against drawn runs.

python benchmarks/budget.py brute 500
python benchmarks/budget.py large --repeat 5
python benchmarks/budget.py promises
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from budget_problems import by_the_hour, random_budget  # noqa: E402

from planner.analysis.budget.budget import BudgetAnswer, solve_budget  # noqa: E402
from planner.analysis.budget.budget_file import windows  # noqa: E402
from planner.analysis.budget.model import choose  # noqa: E402
from planner.analysis.budget.offers import (  # noqa: E402
    BudgetLimits,
    BudgetProblem,
    Need,
    OfferChoice,
    Supply,
    bill,
)
from planner.analysis.budget.options import JobOption  # noqa: E402
from planner.analysis.budget.played import kept, with_interruptions  # noqa: E402

WEEK = 168
DRAWS = 10_000


def brute(count: int, first: int) -> int:
    kinds: dict[str, int] = defaultdict(int)
    wrong = 0
    for seed in range(first, first + count):
        problem = random_budget(seed)
        expected, found = by_the_hour(problem), choose(problem, time_limit_s=60)
        cost = bill(problem, found) if found.picks else None
        if (expected[0] if expected else None) != cost:
            wrong += 1
            print(f"seed {seed}: brute force {expected}, found {cost}")
        kinds["infeasible" if expected is None else "feasible"] += 1
        for supply in problem.supplies:
            kinds[supply.paid] += 1
    print(f"{count} proposals, {wrong} differences; {dict(kinds)}")
    return 5 if wrong else 0


def large_problem(seed: int, jobs: int = 10) -> BudgetProblem:
    """Ten jobs, every fourth of them weekly, on six offers of every kind over 52 weeks, counted in hours."""
    r = random.Random(seed)
    supplies = (
        Supply("use", 8),
        Supply("use", 16),
        Supply("use", 4),
        Supply("term", 16, 30 * 24, 8 * 300),
        Supply("term", 8, 90 * 24, 8 * 270),
        Supply("owned", 16, cents_per_node=8_000_000),
    )
    cents, speed = (350, 410, 180, 0, 0, 60), (1, 1.3, 0.95, 1, 1, 1)
    needs = []
    for job in range(jobs):
        work, release = r.uniform(1000, 12000), r.randint(0, 26) * WEEK
        times: tuple[tuple[int, int], ...] = ((release, min(52 * WEEK, release + r.randint(4, 26) * WEEK)),)
        if job % 4 == 3:
            work, times = r.uniform(20, 100), tuple((week * WEEK, (week + 1) * WEEK) for week in range(52))
        choices = []
        for place, supply in enumerate(supplies):
            for nodes in (2, 4, 8, 16):
                if nodes <= (supply.capacity or 0):
                    hours = work / speed[place] / nodes**0.95
                    usd = round(hours * nodes * 8 * cents[place])
                    choices.append(OfferChoice(place, nodes, max(1, round(hours * 1.2)), usd, round(usd * 1.2)))
        needs.append(Need(times, tuple(choices), r.choice([1, 2, 5])))
    return BudgetProblem(tuple(needs), supplies, BudgetLimits(None, r.choice([None, 24, 32])))


def large(repeat: int) -> int:
    worst = 0.0
    for seed in range(repeat):
        problem, started = large_problem(seed), time.perf_counter()
        found = choose(problem, time_limit_s=30)
        seconds = time.perf_counter() - started
        if not found.picks:
            print(f"seed {seed}: {found.status}, {seconds:.1f} s")
            continue
        cost = bill(problem, found)
        gap = (cost - (found.bound or 0)) / cost
        worst = max(worst, gap)
        print(f"seed {seed}: {found.status}, {cost / 100:,.0f} USD, {gap:.2%} above the bound, {seconds:.1f} s")
    return 5 if worst > 0.01 else 0


def promises() -> int:
    """Every shipped budget: its promise, one node count fewer and the next cheaper option, in drawn runs.

    Speeds are drawn from single published runs, a group of runs by chance and then one of its rows; interruptions one
    by one. Nothing of the fitted interval is used.
    """
    from planner.validation.rl.left_out import left_out
    from planner.validation.throughput.durations import draws, generation_of, kept_when_left_out
    from planner.validation.throughput.run import run_throughput

    result = run_throughput()
    groups: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for estimate in result.estimates:
        if estimate.speed.accuracy != "nanotron-slow":
            for generation in ("all", generation_of(estimate.problem.gpu.chip)):
                key = (estimate.problem.engine.id, generation)
                groups[key][f"{estimate.speed.source} {estimate.speed.run.model}"].append(1 + estimate.error)
    assert result.steps is not None
    errors = left_out(result.steps)["step"].errors
    for score in result.steps.of("step"):
        groups["rl", "all"][score.row.framework].append(1 / (1 + errors[score.row.id]))
    failed = 0
    for (engine, generation), rows in sorted(groups.items()):
        arrays = {name: np.array(values) for name, values in rows.items()}
        if len(arrays) >= 3:
            print(f"{engine} {generation}: groups left out keep {kept_when_left_out(arrays, 0.9):.1%} of a plain 90 %")
    for path in sorted((ROOT / "scenarios").glob("budget_*.yaml")):
        answer = solve_budget(str(path))
        if not answer.bookings:
            print(f"{path.stem}: infeasible: {'; '.join(answer.remedies)}")
            continue
        share = _drawn(answer, [b.option for b in answer.bookings], groups, draws, generation_of)
        print(f"{path.stem}: asked {answer.budget.confidence:.0%}, kept {', '.join(f'{s:.1%}' for s in share)}")
        failed += min(share) < answer.budget.confidence - 0.005
        for place, booking in enumerate(answer.bookings):
            for name, other in _lesser(answer, booking.option):
                changed = [b.option for b in answer.bookings]
                changed[place] = other
                less = _drawn(answer, changed, groups, draws, generation_of)[place]
                print(f"  {other.job}, {name}: {other.nodes} x {other.terms_of_offer.name} would keep {less:.1%}")
    return 5 if failed else 0


def _lesser(answer: BudgetAnswer, chosen: JobOption) -> list[tuple[str, JobOption]]:
    """The same offer with the next fewer nodes, and the next cheaper option of all that can be laid out."""
    own = [o for o in answer.options if o.job == chosen.job and o.duration is not None]
    fewer = [o for o in own if o.offer == chosen.offer and o.nodes < chosen.nodes]
    cheaper = [o for o in own if o.cents < chosen.cents and o.terms == chosen.terms]
    out = [("fewer nodes", max(fewer, key=lambda o: o.nodes))] if fewer else []
    return out + ([("next cheaper", max(cheaper, key=lambda o: o.cents))] if cheaper else [])


def _drawn(answer, options, groups, draws, generation_of) -> tuple[float, ...]:  # type: ignore[no-untyped-def]
    problem, picked = answer.problem, answer.picked
    chance, hours, ratios = np.random.default_rng(7), [], {}
    needs = []
    for job, option, need in zip(answer.budget.jobs, options, problem.needs, strict=True):
        plan, duration = option.plan, option.duration
        engine, chip = plan.problem.engine, generation_of(plan.problem.gpu.chip)
        names = [(n, c) for n in (engine.id, engine.scored_as) for c in (chip, "all")]
        key = ("rl", "all") if plan.problem.is_rl else next(k for k in names if len(groups.get(k, {})) >= 3)
        shared = (job.scenario, str(job.set), option.price.gpu)
        if shared not in ratios:
            ratios[shared] = np.array(draws({n: np.array(v) for n, v in groups[key].items()}, DRAWS, len(ratios)))
        for _ in windows(job):
            hours.append(with_interruptions(duration, ratios[shared] * duration.work_hours, chance))
        changed = OfferChoice(option.offer, option.nodes, option.whole_hours, option.cents, option.most_cents)
        needs.append(replace(need, choices=(changed,)))
    moved = replace(problem, needs=tuple(needs))
    return kept(moved, replace(picked, picks=(0,) * len(needs)), hours)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    one = commands.add_parser("brute")
    one.add_argument("count", type=int, nargs="?", default=500)
    one.add_argument("--seed", type=int, default=10_000)
    commands.add_parser("large").add_argument("--repeat", type=int, default=5)
    commands.add_parser("promises")
    given = parser.parse_args()
    if given.what == "brute":
        return brute(given.count, given.seed)
    return large(given.repeat) if given.what == "large" else promises()


if __name__ == "__main__":
    raise SystemExit(main())
