"""Small random choices of offers, and the best one by trying every option with every starting hour."""

from __future__ import annotations

import itertools
import random

from planner.analysis.budget.offers import BudgetLimits, BudgetProblem, Need, OfferChoice, Supply

HOURS = 16


def random_budget(seed: int) -> BudgetProblem:
    """One to three jobs, some of them twice, on one to three offers of every kind."""
    r = random.Random(seed)
    supplies = []
    for _ in range(r.randint(1, 3)):
        capacity = r.choice([None, 2, 3, 4])
        paid = r.choice(["use", "use", "term", "owned"])
        if paid == "use":
            supplies.append(Supply("use", capacity))
        elif paid == "term":
            supplies.append(
                Supply("term", capacity, minimum_hours=r.randint(0, 6), cents_per_node_hour=r.randint(1, 4))
            )
        else:
            supplies.append(Supply("owned", capacity, cents_per_node=r.randint(1, 12)))
    needs = []
    for _ in range(r.randint(1, 3)):
        release = r.randint(0, 2)
        windows = [(release, release + r.randint(2, 6))]
        if r.random() < 0.2:
            windows.append((windows[0][0] + 3, windows[0][1] + 3))
        choices = []
        for _ in range(r.randint(1, 3)):
            supply = r.randrange(len(supplies))
            cents = r.randint(1, 20) if supplies[supply].paid == "use" else r.randint(0, 5)
            choices.append(OfferChoice(supply, r.randint(1, 3), r.randint(1, 4), cents, cents + r.randint(0, 4)))
        needs.append(Need(tuple(windows), tuple(choices), r.choice([1, 1, 3])))
    limits = BudgetLimits(r.choice([None, None, r.randint(10, 60)]), r.choice([None, 3, 5]))
    return BudgetProblem(tuple(needs), tuple(supplies), limits)


def by_the_hour(problem: BudgetProblem) -> tuple[int, int] | None:
    """(least cost, then least sum of weighted finishing hours), None where nothing keeps the limits.

    Counts busy nodes hour by hour, with no idea of ours in it.
    """
    best: tuple[int, int] | None = None
    weights = [need.priority for need in problem.needs for _ in need.windows]
    for options in itertools.product(*(need.choices for need in problem.needs)):
        slots = [(c, w) for need, c in zip(problem.needs, options, strict=True) for w in need.windows]
        own, most = sum(c.cents for c, _ in slots), sum(c.most_cents for c, _ in slots)
        hours = [range(release, due - c.hours + 1) for c, (release, due) in slots]
        for starts in itertools.product(*hours):
            busy = [[0] * HOURS for _ in problem.supplies]
            for (choice, _), start in zip(slots, starts, strict=True):
                for hour in range(start, start + choice.hours):
                    busy[choice.supply][hour] += choice.nodes
            shared = shared_cents(problem, busy)
            if shared is None:
                continue
            if problem.limits.max_cents is not None and most + shared > problem.limits.max_cents:
                continue
            ends = [start + c.hours for (c, _), start in zip(slots, starts, strict=True)]
            key = (own + shared, sum(w * end for w, end in zip(weights, ends, strict=True)))
            best = key if best is None else min(best, key)
    return best


def shared_cents(problem: BudgetProblem, busy: list[list[int]]) -> int | None:
    """Cost of terms and owned machines; None where more nodes are busy than there are."""
    if problem.limits.max_nodes is not None and max(map(sum, zip(*busy, strict=True))) > problem.limits.max_nodes:
        return None
    cents = 0
    for supply, nodes in zip(problem.supplies, busy, strict=True):
        if supply.capacity is not None and max(nodes) > supply.capacity:
            return None
        hours = [hour for hour in range(HOURS) if nodes[hour]]
        if hours and supply.paid == "owned":
            cents += max(nodes) * supply.cents_per_node
        if hours and supply.paid == "term":
            paid = max(supply.minimum_hours, hours[-1] + 1 - hours[0])
            cents += max(nodes) * supply.cents_per_node_hour * paid
    return cents
