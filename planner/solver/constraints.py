"""Constraint groups, one function each: a verb, reads only the tables, writes only the model, states its inequality."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from planner.solver.model import Model
from planner.tables import Row


def choose_one_row(model: Model) -> None:
    """sum of picked = 1, and sum of rollout choices = 1 where there are any."""
    model.cp.add_exactly_one(model.picked)
    if model.chosen:
        model.cp.add_exactly_one(model.chosen)


def link_rollouts(model: Model) -> None:
    """For every combination of GPUs and wishes: rows picked of it = rollout choices picked of it."""
    if not model.chosen:
        return
    sides: dict[int, tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for pick, row in zip(model.picked, model.tables.rows, strict=True):
        sides[row.key][0].append(pick)
    for pick, choice in zip(model.chosen, model.tables.choices, strict=True):
        sides[choice.key][1].append(pick)
    for rows, choices in sides.values():
        model.cp.add(sum(rows) == sum(choices))


def split_layers(model: Model) -> None:
    """sum over stages of layers = all layers; none beyond the last stage; given splits as given."""
    tables = model.tables
    model.cp.add(sum(model.layers) == tables.total_layers)
    for pick, row in zip(model.picked, tables.rows, strict=True):
        for stage, layers in enumerate(model.layers):
            if stage >= row.stages:
                model.cp.add(layers == 0).only_enforce_if(pick)
            elif row.fixed_layers is not None:
                model.cp.add(layers == row.fixed_layers[stage]).only_enforce_if(pick)
            else:
                least = row.first_layers if stage == 0 else 1
                model.cp.add(layers >= max(least, row.chunks)).only_enforce_if(pick)
                if row.chunks > 1:
                    whole = model.cp.new_int_var(0, tables.max_layers // row.chunks, "")
                    model.cp.add(layers == row.chunks * whole).only_enforce_if(pick)


def mark_uneven(model: Model) -> None:
    """Without `uneven`, all stages of the chosen row hold as many layers as the first one."""
    if all(row.fixed_layers is not None for row in model.tables.rows):
        for pick, row in zip(model.picked, model.tables.rows, strict=True):
            differs = len(set(row.fixed_layers or ())) > 1
            model.cp.add(model.uneven == int(differs)).only_enforce_if(pick)
        return
    for pick, row in zip(model.picked, model.tables.rows, strict=True):
        for layers in model.layers[1 : row.stages]:
            model.cp.add(layers == model.layers[0]).only_enforce_if([pick, model.uneven.negated()])


def bound_recomputation(model: Model) -> None:
    """recomputed[s] <= layers[s], at the levels that engine and scenario allow, uniform where they must be."""
    from ortools.sat.python.cp_model import Domain

    tables, cp = model.tables, model.cp
    fixed = all(row.fixed_layers is not None for row in tables.rows)
    for layers, recomputed in zip(model.layers, model.recomputed, strict=True):
        cp.add(recomputed <= layers)
        if tables.recompute == "all":
            cp.add(recomputed == layers)
        elif tables.recompute == "none_or_all" and not tables.uniform_recompute:
            every = cp.new_bool_var("")
            cp.add(recomputed == layers).only_enforce_if(every)
            cp.add(recomputed == 0).only_enforce_if(every.negated())
    if tables.recompute == "all":
        cp.add(model.level == max(row.levels[-1] for row in tables.rows) if fixed else model.level == 0)
        return
    if tables.uniform_recompute:
        for pick, row in zip(model.picked, tables.rows, strict=True):
            cp.add_linear_expression_in_domain(model.level, Domain.from_values(row.levels)).only_enforce_if(pick)
            for layers, recomputed in zip(model.layers[: row.stages], model.recomputed, strict=False):
                if row.fixed_layers is None:
                    cp.add(recomputed == model.level).only_enforce_if(pick)
                    cp.add(model.level <= layers).only_enforce_if(pick)
        if fixed:
            for layers, recomputed in zip(model.layers, model.recomputed, strict=True):
                cp.add_min_equality(recomputed, [model.level, layers])
        return
    cp.add(model.level == 0)
    if tables.recompute == "levels":
        for pick, row in zip(model.picked, tables.rows, strict=True):
            if len(row.levels) < row.levels[-1] - row.levels[0] + 1 or row.levels[0] > 0:
                for recomputed in model.recomputed[: row.stages]:
                    cp.add_linear_expression_in_domain(recomputed, Domain.from_values(row.levels)).only_enforce_if(pick)


def keep_headroom(model: Model) -> None:
    """The memory equation, for every stage s and moment: layer * n[s] + saved * r[s] + end + headroom <= usable."""
    for pick, row in zip(model.picked, model.tables.rows, strict=True):
        for stage in range(row.stages):
            for line in row.memory[stage]:
                used = line.layer * model.layers[stage] + line.recomputed * model.recomputed[stage] + line.end
                model.cp.add(used + model.headroom <= model.tables.capacity).only_enforce_if(pick)
    if model.chosen:
        awake = sum(choice.memory * pick for choice, pick in zip(model.tables.choices, model.chosen, strict=True))
        model.cp.add(awake + model.headroom <= model.tables.capacity)


def time_the_step(model: Model) -> None:
    """slowest[v] >= time of every stage; time >= sum over visits of slowest + share of the sum + rollout time."""
    rollout: Any = 0
    if model.chosen:
        rollout = sum(choice.time * pick for choice, pick in zip(model.tables.choices, model.chosen, strict=True))
    for pick, row in zip(model.picked, model.tables.rows, strict=True):
        for visit in row.visits:
            for stage, line in enumerate(visit.stages):
                spent = line.layer * model.layers[stage] + line.recomputed * model.recomputed[stage] + line.end
                model.cp.add(spent <= model.slowest[visit.name]).only_enforce_if(pick)
        model.cp.add(model.time >= _step(model, row) + rollout).only_enforce_if(pick)


def _step(model: Model, row: Row) -> Any:
    recomputed = sum(model.recomputed)
    total: Any = 0
    for visit in row.visits:
        total += model.slowest[visit.name] + visit.sum_layer * model.tables.total_layers + visit.sum_end
        total += visit.sum_recomputed * recomputed
    return total


GROUPS = (
    choose_one_row,
    link_rollouts,
    split_layers,
    mark_uneven,
    bound_recomputation,
    keep_headroom,
    time_the_step,
)
