"""The choice of offers against brute force, its time on large questions, and promises against drawn runs.

python benchmarks/budget.py brute 500
python benchmarks/budget.py large --repeat 5
python benchmarks/budget.py promises
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from budget_problems import by_the_hour, random_budget  # noqa: E402

from planner.analysis.budget.budget import BudgetAnswer, solve_budget  # noqa: E402
from planner.analysis.budget.budget_file import windows  # noqa: E402
from planner.analysis.budget.known_layouts import KnownLayouts  # noqa: E402
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
from planner.validation.throughput.promises import Measured, drawn_shares  # noqa: E402

WEEK = 168
DRAWN_ERROR = 0.005
"""Of a share of so many draws."""


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


def large(repeat: int, time_limit_s: float) -> int:
    """Proven or within 1 %. One worker solves: its processor time is what a machine without other work would take."""
    worst = 0.0
    for seed in range(repeat):
        problem, started, busy = large_problem(seed), time.perf_counter(), time.process_time()
        found = choose(problem, time_limit_s=time_limit_s)
        took = f"{time.perf_counter() - started:.1f} s, {time.process_time() - busy:.1f} of them computing"
        if not found.picks:
            print(f"seed {seed}: {found.status}, {took}")
            continue
        cost = bill(problem, found)
        gap = (cost - (found.bound or 0)) / cost
        worst = max(worst, gap)
        print(f"seed {seed}: {found.status}, {cost / 100:,.0f} USD, {gap:.2%} above the bound, {took}", flush=True)
    return 5 if worst > 0.01 else 0


def promises(budgets: list[Path]) -> int:
    """Every budget as it stands and with its deadlines moved to what was booked: each kept as promised, and one node
    fewer or the next cheaper option is not enough there.

    Speeds are drawn from single published runs, a group of runs by chance and then one of its rows; interruptions one
    by one. Nothing of the fitted interval is used.
    """
    from planner.validation.throughput.durations import LEAST_GROUPS, RL, kept_unseen, residuals
    from planner.validation.throughput.run import run_throughput

    measured = residuals(run_throughput())
    for (engine, generation), groups in measured.items():
        if len(groups) > LEAST_GROUPS:
            rest = {name: np.concatenate(list(rows.values())) for (name, of), rows in measured.items()
                    if of == "all" and name not in (engine, RL[0])}  # fmt: skip
            shares = kept_unseen(groups, rest, 0.9)
            worst = min(shares, key=lambda name: (shares[name], name))
            mean = float(np.mean(list(shares.values())))
            print(f"{engine} {generation}: {len(groups)} groups, each unseen, keep {mean:.1%} of a promised 90 %, "
                  f"least {worst} {shares[worst]:.0%}")  # fmt: skip
    layouts, failed = KnownLayouts(time_limit_s=900), 0
    for path in budgets:
        stands = solve_budget(str(path), layouts=layouts)
        if not stands.bookings:
            print(f"{path.stem}: infeasible: {'; '.join(stands.remedies)}")
            continue
        failed += _kept(path.stem, stands, measured)
        tight = _with_one_fewer(path, stands, layouts)
        failed += _kept(f"{path.stem}, deadlines as booked", tight, measured)
        failed += _needed(tight, measured)
    print(f"{layouts.searched} layout searches in {layouts.seconds:.0f} s; {failed} promises broken")
    return 5 if failed else 0


def _kept(name: str, answer: BudgetAnswer, measured: Measured) -> int:
    """How many jobs keep their deadline less often than promised, in drawn runs."""
    asked = answer.budget.confidence
    shares = drawn_shares(answer, [b.option for b in answer.bookings], measured)
    said = ", ".join(f"{b.option.job} {share:.1%}" for b, share in zip(answer.bookings, shares, strict=True))
    print(f"{name}: {asked:.0%} promised, kept: {said}")
    return sum(share < asked - DRAWN_ERROR for share in shares)


def _with_one_fewer(path: Path, stands: BudgetAnswer, layouts: KnownLayouts) -> BudgetAnswer:
    """The same budget with every deadline at the end of its booking, and one node fewer among the offers chosen."""
    answer = stands
    for _ in range(3):
        sets = []
        for place, (job, booking) in enumerate(zip(stands.budget.jobs, stands.bookings, strict=True)):
            every = job.repeat.every_days * 24 if job.repeat is not None else 0.0
            ends = [start + booking.option.whole_hours - k * every for k, start in enumerate(booking.starts)]
            sets.append(f"jobs[{place}].deadline_days={math.ceil(max(ends)) / 24!r}")
        for place, offer in enumerate(answer.budget.offers):
            chosen = {b.option.nodes - 1 for b in answer.bookings if b.option.offer == place} - {0}
            sets.append(f"offers[{place}].nodes={sorted({*offer.nodes, *chosen})}")
        again = solve_budget(str(path), tuple(sets), layouts=layouts)
        if not again.bookings or again.budget.offers == answer.budget.offers:
            return answer if not again.bookings else again
        answer = again
    return answer


def _needed(answer: BudgetAnswer, measured: Measured) -> int:
    """Jobs that end with their deadline, of which both one node fewer and the next cheaper option would keep it too."""
    idle = 0
    for place, (job, booking) in enumerate(zip(answer.budget.jobs, answer.bookings, strict=True)):
        ends = (start + booking.option.whole_hours for start in booking.starts)
        slack = min(deadline - end for (_, deadline), end in zip(windows(job), ends, strict=True))
        if slack > 0:
            print(f"  {job.name}: {slack} hours before its deadline, which is not what decides its machines")
            continue
        shares = []
        for name, other in _lesser(answer, booking.option):
            if other is None:
                print(f"  {booking.option.job}, {name}: none that can be laid out")
                continue
            changed = [b.option for b in answer.bookings]
            changed[place] = other
            shares.append(drawn_shares(answer, changed, measured)[place])
            print(f"  {other.job}, {name}: {other.nodes} x {other.terms_of_offer.name} would keep {shares[-1]:.1%}")
        idle += bool(shares) and min(shares) >= answer.budget.confidence
    return idle


def _lesser(answer: BudgetAnswer, chosen: JobOption) -> list[tuple[str, JobOption | None]]:
    """The same offer with one node fewer, and the next cheaper option of those that can be laid out."""
    own = [o for o in answer.options if o.job == chosen.job and o.duration is not None]
    fewer = [o for o in own if o.offer == chosen.offer and o.nodes == chosen.nodes - 1]
    cheaper = [o for o in own if o.cents < chosen.cents and o.terms == chosen.terms]
    return [
        ("one node fewer", fewer[0] if fewer else None),
        ("next cheaper", max(cheaper, key=lambda o: o.cents) if cheaper else None),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    one = commands.add_parser("brute")
    one.add_argument("count", type=int, nargs="?", default=500)
    one.add_argument("--seed", type=int, default=10_000)
    more = commands.add_parser("large")
    more.add_argument("--repeat", type=int, default=5)
    more.add_argument("--time-limit", type=float, default=30.0)
    commands.add_parser("promises").add_argument("budgets", type=Path, nargs="*")
    given = parser.parse_args()
    if given.what == "brute":
        return brute(given.count, given.seed)
    if given.what == "large":
        return large(given.repeat, given.time_limit)
    return promises(given.budgets or sorted((ROOT / "scenarios").glob("budget_*.yaml")))


if __name__ == "__main__":
    raise SystemExit(main())
