"""The choice of offers, counts and hours by CP-SAT, in one model; its answer is checked without it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from planner import clock
from planner.analysis.budget.implied import energies, meetings, term_hours
from planner.analysis.budget.offers import (
    BY_TERM,
    BY_USE,
    OWNED,
    BudgetProblem,
    Need,
    OfferChoice,
    Picked,
    alone,
    bill,
    check,
)
from planner.errors import InternalError
from planner.search.solver.loaded import solver_module
from planner.search.solver.selftest import refuse_broken_solver

CpTerm: TypeAlias = Any
"""A variable or an expression of CP-SAT, which is imported late and has no types."""
MAX_RANGE = 2**33
"""No linear expression of the model may have a wider range (docs/solver.md)."""
COST_RANGE = 2**31
SETTLING = 0.25
"""Deterministic time of CP-SAT for the order of jobs, once their cost is proved: the same answer on every machine."""
COST, LATEST, MOST, LATENESS = "cost", "latest", "most", "lateness"


def choose(
    problem: BudgetProblem,
    goal: str = COST,
    *,
    time_limit_s: float,
    settle: bool = True,
    wanted: Sequence[Sequence[int]] = (),
) -> Picked:
    """The best choice: by cost, then by the finishing hours weighted with priorities (`settle`).

    Other goals come before the cost: LATEST, the end of all work; MOST, the cost of all booked hours; LATENESS, the sum
    of hours after the deadlines `wanted`, of each job and time. Raises InternalError where an answer breaks a limit or
    its cost is not what the model says.
    """
    left = [[i for i, c in enumerate(need.choices) if alone(problem, need, c)] for need in problem.needs]
    if not all(left):
        return Picked("infeasible")
    unit = cost_unit(problem, left)
    model = _Model(problem, left, unit)
    goals = {COST: [model.cost], LATEST: [model.latest, model.cost], MOST: [model.most, model.cost]}
    if goal == LATENESS:
        goals[goal] = [model.lateness(wanted), model.cost]
    answer = model.solve(goals[goal], time_limit_s, settle=settle)
    if answer.bound is not None and goal in (COST, MOST):
        answer = replace(answer, bound=min(answer.bound * unit, bill(problem, answer, most=goal == MOST)))
    if answer.picks:
        check(problem, answer)
        if unit == 1 and model.counted != bill(problem, answer):
            raise InternalError(f"the offer model counts {model.counted} cents, the bill is {bill(problem, answer)}")
    return answer


def cost_unit(problem: BudgetProblem, left: Sequence[Sequence[int]]) -> int:
    """Cents in one cost unit of the model: 1, or the least power of ten that keeps the sum of costs small.

    `left` lists the options of each job that keep every limit by themselves.
    """
    most = sum(
        max(_dearest(problem, need.choices[i], len(need.windows)) for i in own)
        for need, own in zip(problem.needs, left, strict=True)
    )
    unit = 1
    while most // unit >= COST_RANGE:
        unit *= 10
    return unit


def units(cents: int, unit: int) -> int:
    """Cost in units of the model, rounded up."""
    return -(-cents // unit)


def _horizon(problem: BudgetProblem) -> int:
    return max(deadline for need in problem.needs for _, deadline in need.windows)


def _dearest(problem: BudgetProblem, choice: OfferChoice, times: int) -> int:
    supply = problem.supplies[choice.supply]
    own = choice.most_cents * times
    if supply.paid == BY_TERM:
        return own + choice.nodes * times * supply.cents_per_node_hour * max(_horizon(problem), supply.minimum_hours)
    return own + choice.nodes * times * supply.cents_per_node


class _Model:
    """The CP-SAT model of one choice."""

    def __init__(self, problem: BudgetProblem, left: Sequence[Sequence[int]], unit: int) -> None:
        cp_model = solver_module()
        refuse_broken_solver(cp_model)
        self.module: CpTerm = cp_model
        self.model: CpTerm = cp_model.CpModel()
        self.problem, self.left, self.unit = problem, left, unit
        self.horizon = _horizon(problem)
        self.picked: list[list[CpTerm]] = []
        self.starts: list[list[CpTerm]] = []
        self.ends: list[tuple[int, CpTerm]] = []
        """(priority, expression) of every time a job is done."""
        self.work: list[tuple[OfferChoice, CpTerm, CpTerm, CpTerm]] = []
        """(choice, chosen, start, interval)."""
        self.held: dict[int | None, tuple[CpTerm, int]] = {}
        """Nodes of each offer that is not paid by use, and at most."""
        self.sizes: dict[int | None, dict[int, CpTerm]] = {}
        """Of each such offer by nodes: whether so many are held."""
        self.counted = 0
        """Expected cost of the answer. [cost units]"""
        own, own_most = [], []
        for place in range(len(problem.needs)):
            cents, most = self._job(place)
            own.append(cents)
            own_most.append(most)
        shared = [cost for place in range(len(problem.supplies)) for cost in self._supply(place)]
        self.cost = cp_model.LinearExpr.sum([*own, *shared])
        self.most = cp_model.LinearExpr.sum([*own_most, *shared])
        limits, model = problem.limits, self.model
        if limits.max_nodes is not None:
            model.add_cumulative([i for *_, i in self.work], [c.nodes for c, *_ in self.work], limits.max_nodes)
        if limits.max_cents is not None:
            # Costs are rounded up and the limit down, so that nothing above it passes; exact where a unit is a cent.
            model.add(self.most <= limits.max_cents // unit)
        self._implied()
        self.latest = model.new_int_var(0, self.horizon, "latest")
        for _, end in self.ends:
            model.add(self.latest >= end)
        weight = sum(priority for priority, _ in self.ends)
        if max(weight * self.horizon, COST_RANGE) >= MAX_RANGE:
            raise InternalError("a goal of the offer model ranges over 2^33 or more")

    def _job(self, place: int) -> tuple[CpTerm, CpTerm]:
        """Its choice, times and cost: expected, and at most."""
        model, need = self.model, self.problem.needs[place]
        choices = [need.choices[i] for i in self.left[place]]
        picked = [model.new_bool_var(f"job {place} option {i}") for i in self.left[place]]
        model.add_exactly_one(picked)
        self.picked.append(picked)
        starts = []
        for release, deadline in need.windows:
            start = model.new_int_var(release, deadline, f"job {place} start")
            end = start + sum(c.hours * b for c, b in zip(choices, picked, strict=True))
            model.add(end <= deadline)
            for choice, chosen in zip(choices, picked, strict=True):
                interval = model.new_optional_fixed_size_interval_var(start, choice.hours, chosen, "work")
                self.work.append((choice, chosen, start, interval))
            starts.append(start)
            self.ends.append((need.priority, end))
        self.starts.append(starts)
        times, unit = len(need.windows), self.unit
        expected = sum(units(c.cents * times, unit) * b for c, b in zip(choices, picked, strict=True))
        return expected, sum(units(c.most_cents * times, unit) * b for c, b in zip(choices, picked, strict=True))

    def _supply(self, place: int) -> list[CpTerm]:
        """Capacity of one offer, and what its machines cost beside the jobs' own hours."""
        model, supply = self.model, self.problem.supplies[place]
        work = [entry for entry in self.work if entry[0].supply == place]
        if not work:
            return []
        intervals, demands = [entry[3] for entry in work], [entry[0].nodes for entry in work]
        most = sum(demands) if supply.capacity is None else min(sum(demands), supply.capacity)
        if supply.paid == BY_USE:
            if most < sum(demands):
                model.add_cumulative(intervals, demands, most)
            return []
        sizes = _sums(demands, most)
        chosen = {size: model.new_bool_var(f"offer {place} nodes {size}") for size in sizes}
        model.add_exactly_one(chosen.values())
        nodes = sum(size * b for size, b in chosen.items())
        held = model.new_int_var(0, most, "nodes held")
        model.add(held == nodes)
        model.add_cumulative(intervals, demands, held)
        self.held[place], self.sizes[place] = (held, most), chosen
        for _, own in self._of_jobs(place):
            # Of one job one choice at most is picked, each time the same: as a sum, so that the relaxation sees it.
            model.add(held >= sum(choice.nodes * picked for choice, picked in own))
        if supply.paid == OWNED:
            return [sum(units(size * supply.cents_per_node, self.unit) * b for size, b in chosen.items())]
        return [self._term(place, work, chosen)]

    def _of_jobs(self, place: int) -> Iterator[tuple[Need, list[tuple[OfferChoice, CpTerm]]]]:
        """Each job on one offer, with (choice, chosen)."""
        for need, left, picked in zip(self.problem.needs, self.left, self.picked, strict=True):
            own = [(need.choices[i], b) for i, b in zip(left, picked, strict=True) if need.choices[i].supply == place]
            if own:
                yield need, own

    def _term(
        self, place: int, work: Sequence[tuple[OfferChoice, CpTerm, CpTerm, CpTerm]], chosen: dict[int, CpTerm]
    ) -> CpTerm:
        """Cost of a term: nodes times hours from the first job on them to the last, at least the minimum."""
        model, supply = self.model, self.problem.supplies[place]
        longest = max(self.horizon, supply.minimum_hours)
        first = model.new_int_var(0, self.horizon, "term begins")
        last = model.new_int_var(0, self.horizon, "term ends")
        hours = model.new_int_var(0, longest, "term")
        for choice, picked, start, _ in work:
            model.add(first <= start).only_enforce_if(picked)
            model.add(last >= start + choice.hours).only_enforce_if(picked)
        model.add(hours >= last - first)
        rates = {size: units(size * supply.cents_per_node_hour, self.unit) for size in chosen}
        cost = model.new_int_var(0, max(rates.values()) * longest, "cost of the term")
        for size, b in chosen.items():
            if size == 0:
                model.add(cost == 0).only_enforce_if(b)
                continue
            model.add(cost == rates[size] * hours).only_enforce_if(b)
            model.add(hours >= supply.minimum_hours).only_enforce_if(b)
        # Implied, and what the linear relaxation lives on: all node-hours are paid, and each node its least term.
        each = supply.cents_per_node_hour
        model.add(cost >= sum(c.nodes * c.hours * each // self.unit * picked for c, picked, _, _ in work))
        model.add(cost >= sum(size * supply.minimum_hours * each // self.unit * b for size, b in chosen.items()))
        for need, own in self._of_jobs(place):
            paid = [(c.nodes * max(term_hours(need, c), supply.minimum_hours) * each, picked) for c, picked in own]
            model.add(cost >= sum(cents // self.unit * picked for cents, picked in paid))
        return cost

    def _implied(self) -> None:
        """Sums over choices that every schedule keeps: the bound lives on them."""
        picked = {
            (job, place): b
            for job, (left, own) in enumerate(zip(self.left, self.picked, strict=True))
            for place, b in zip(left, own, strict=True)
        }
        for energy in energies(self.problem, self.left):
            limit = self._limit(energy.supply)
            nodes, most = self.held.get(energy.supply, (limit, limit))
            if sum(least for _, least in energy.least) + energy.hours * most < MAX_RANGE:
                self.model.add(sum(least * picked[place] for place, least in energy.least) <= energy.hours * nodes)
        for meeting in meetings(self.problem, self.left):
            both = picked[meeting.one], picked[meeting.other]
            if meeting.nodes > self._limit(meeting.supply):
                self.model.add_at_most_one(both)
            elif meeting.supply in self.sizes:
                enough = [b for size, b in self.sizes[meeting.supply].items() if size >= meeting.nodes]
                self.model.add(sum(both) <= 1 + sum(enough))

    def _limit(self, supply: int | None) -> int:
        """Nodes that there can be at once."""
        own = None if supply is None else self.problem.supplies[supply].capacity
        return min((nodes for nodes in (own, self.problem.limits.max_nodes) if nodes is not None), default=MAX_RANGE)

    def lateness(self, wanted: Sequence[Sequence[int]]) -> CpTerm:
        """Hours after the wanted deadlines, summed over all that is done."""
        late = []
        for (_, end), due in zip(self.ends, (due for each in wanted for due in each), strict=True):
            late.append(self.model.new_int_var(0, self.horizon, "late"))
            self.model.add(late[-1] >= end - due)
        return sum(late)

    def solve(self, goals: list[CpTerm], time_limit_s: float, *, settle: bool) -> Picked:
        """Goal after goal, each fixed at its optimum before the next; the later ones never undo what is proved."""
        goals = [*goals, sum(priority * end for priority, end in self.ends)]
        started, answer = clock.now(), Picked("unknown")
        for place, expression in enumerate(goals if settle else goals[:-1]):
            settling = place == len(goals) - 1
            solver = self.module.CpSolver()
            solver.parameters.catch_sigint_signal = False
            solver.parameters.num_workers = 1
            solver.parameters.random_seed = 0
            # Energy of jobs in a window against what the offer has in it: ten jobs are proved that ran into the limit.
            solver.parameters.use_overload_checker_in_cumulative = True
            solver.parameters.use_timetable_edge_finding_in_cumulative = True
            left = time_limit_s - (clock.now() - started)
            solver.parameters.max_time_in_seconds = clock.wall_s(max(0.01, left))
            if settling:
                solver.parameters.max_deterministic_time = SETTLING
            self.model.minimize(expression)
            status = solver.solve(self.model)
            if status == self.module.MODEL_INVALID:
                raise InternalError(f"CP-SAT calls the offer model invalid: {self.model.validate()}")
            if status == self.module.INFEASIBLE:
                if answer.picks:
                    raise InternalError("a later goal of the offer model has no solution although an earlier one had")
                return Picked("infeasible")
            if status not in (self.module.OPTIMAL, self.module.FEASIBLE):
                return answer if answer.picks else Picked("unknown")
            found = self._read(solver)
            if place == 0:
                proved = status == self.module.OPTIMAL
                bound = round(solver.best_objective_bound)
                answer = replace(found, status="optimal" if proved else "feasible", bound=bound)
            else:
                answer = replace(found, status=answer.status, bound=answer.bound)
            self.counted = solver.value(self.cost)
            if status == self.module.FEASIBLE and not settling:
                return answer
            self.model.clear_hints()
            for variable in (v for variables in (*self.picked, *self.starts) for v in variables):
                self.model.add_hint(variable, solver.value(variable))
            self.model.add(expression <= round(solver.objective_value))
        return answer

    def _read(self, solver: CpTerm) -> Picked:
        places = [next(i for i, b in enumerate(own) if solver.boolean_value(b)) for own in self.picked]
        return Picked(
            "feasible",
            tuple(own[place] for own, place in zip(self.left, places, strict=True)),
            tuple(tuple(int(solver.value(start)) for start in starts) for starts in self.starts),
        )


def _sums(demands: Sequence[int], most: int) -> list[int]:
    """Node counts that jobs at the same time can add up to, none included."""
    reached = {0}
    for demand in demands:
        reached |= {total + demand for total in reached if total + demand <= most}
        if len(reached) > most:
            break
    return sorted(reached)
