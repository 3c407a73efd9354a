"""Constraint groups, one function each: a verb, reads only the tables, writes only the model, states its inequality."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from planner.search.solver.loaded import solver_module
from planner.search.solver.model import Model
from planner.search.tables import Row


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
    """sum over stages of layers = all layers; none beyond the last stage; given splits as given.

    Where an engine lets only the first and the last stage differ, layers[s] = layers[1] in between.
    """
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
                if tables.even_middle and 1 < stage < row.stages - 1:
                    model.cp.add(layers == model.layers[1]).only_enforce_if(pick)
                if row.layer_step > 1:
                    whole = model.cp.new_int_var(0, tables.max_layers // row.layer_step, "")
                    model.cp.add(layers == row.layer_step * whole).only_enforce_if(pick)


def mark_uneven(model: Model) -> None:
    """Without `uneven`, all stages of the chosen row hold as many layers as the first one."""
    for pick, row in zip(model.picked, model.tables.rows, strict=True):
        if row.fixed_layers is not None:
            model.cp.add(model.uneven == int(len(set(row.fixed_layers)) > 1)).only_enforce_if(pick)
            continue
        for layers in model.layers[1 : row.stages]:
            model.cp.add(layers == model.layers[0]).only_enforce_if([pick, model.uneven.negated()])


def bound_recomputation(model: Model) -> None:
    """recomputed[s] <= layers[s], at the levels that engine and scenario allow, uniform where they must be."""
    cp, tables = model.cp, model.tables
    cp.add(model.rebuilt == sum(model.recomputed))
    for layers, recomputed in zip(model.layers, model.recomputed, strict=True):
        cp.add(recomputed <= layers)
    for pick, row in zip(model.picked, tables.rows, strict=True):
        if row.every_layer:
            for layers, recomputed in zip(model.layers, model.recomputed, strict=True):
                cp.add(recomputed == layers).only_enforce_if(pick)
    {"whole": _recompute_whole_stages, "levels": _recompute_levels}[tables.recompute](model)


def _recompute_whole_stages(model: Model) -> None:
    """recomputed[s] = layers[s] or 0, one or the other for all stages where they share it; by the named levels."""
    cp, tables = model.cp, model.tables
    for layers, recomputed, every in zip(model.layers, model.recomputed, model.every, strict=True):
        cp.add(recomputed == layers).only_enforce_if(every)
        cp.add(recomputed == 0).only_enforce_if(every.negated())
        if tables.uniform_recompute:
            cp.add(every == model.every[0])
    largest = _largest_stage(model) if tables.uniform_recompute else None
    for pick, row in zip(model.picked, tables.rows, strict=True):
        if row.every_layer or (row.levels == tuple(range(row.levels[-1] + 1)) and row.levels[-1] == _most(model, row)):
            continue
        stages = 1 if tables.uniform_recompute else row.stages
        for stage, every in enumerate(model.every[:stages]):
            layers = largest if largest is not None else model.layers[stage]
            _within(model, layers, [level for level in row.levels if level], [pick, every])
            if row.levels[0] > 0:
                cp.add_bool_or([every, pick.negated()])


def _recompute_levels(model: Model) -> None:
    """recomputed[s] is a named level, or min(level, layers[s]) with one level that some stage can really have."""
    cp, tables = model.cp, model.tables
    for pick, row in zip(model.picked, tables.rows, strict=True):
        if row.every_layer or len(row.levels) == _most(model, row) + 1:
            continue
        uniform, largest = tables.uniform_recompute, None
        if row.whole_levels is not None and uniform:
            largest = _largest_stage(model)
        for stage, value in enumerate([model.level] if uniform else model.recomputed[: row.stages]):
            conditions = [pick]
            if row.whole_levels is not None:
                # A number that the chunks do not divide is that of a stage whose every layer is recomputed.
                every = model.cp.new_bool_var("")
                model.cp.add(value == (model.layers[stage] if largest is None else largest)).only_enforce_if(
                    pick, every
                )
                _within(model, value, list(row.whole_levels), [pick, every])
                conditions.append(every.negated())
            _within(model, value, list(row.levels), conditions)
    if tables.uniform_recompute:
        cp.add(model.level <= _largest_stage(model))
        for layers, recomputed in zip(model.layers, model.recomputed, strict=True):
            cp.add_min_equality(recomputed, [model.level, layers])


def _within(model: Model, value: Any, allowed: list[int], conditions: list[Any]) -> None:
    if allowed:
        domain = solver_module().Domain.from_values(allowed)
        model.cp.add_linear_expression_in_domain(value, domain).only_enforce_if(conditions)
    else:
        model.cp.add_bool_or([literal.negated() for literal in conditions])


def _most(model: Model, row: Row) -> int:
    """Most layers of a stage of the row."""
    if row.fixed_layers is not None:
        return max(row.fixed_layers)
    return model.tables.total_layers - row.stages + 1


def _largest_stage(model: Model) -> Any:
    largest = model.cp.new_int_var(0, model.tables.max_layers, "largest stage")
    model.cp.add_max_equality(largest, model.layers)
    return largest


def keep_headroom(model: Model) -> None:
    """The memory equation, for every stage s and moment: layer * n[s] + saved * r[s] + end + headroom <= usable.

    headroom >= what must stay free + step * spare.
    """
    model.cp.add(model.headroom >= model.tables.headroom + model.tables.headroom_step * model.spare)
    some: dict[int, Any] = {}
    for pick, row in zip(model.picked, model.tables.rows, strict=True):
        for stage in range(row.stages):
            layers, recomputed = model.layers_of(row, stage), model.recomputed[stage]
            for line in row.memory[stage]:
                used = line.layer * layers + line.recomputed * recomputed + line.end
                when = [pick]
                if line.only_where_recomputed:
                    if stage not in some:
                        some[stage] = _is_recomputed(model, stage)
                    when.append(some[stage])
                model.cp.add(used + model.headroom <= model.tables.capacity).only_enforce_if(when)
    for pick, choice in zip(model.chosen, model.tables.choices, strict=True):
        model.cp.add(model.headroom <= model.tables.capacity - choice.memory).only_enforce_if(pick)


def _is_recomputed(model: Model, stage: int) -> Any:
    """True where some layer of the stage is recomputed."""
    some = model.cp.new_bool_var(f"some[{stage}]")
    model.cp.add(model.recomputed[stage] == 0).only_enforce_if(some.negated())
    model.cp.add(model.recomputed[stage] >= 1).only_enforce_if(some)
    return some


def time_the_step(model: Model) -> None:
    """slowest[v] >= time of every stage; time >= sum over visits of slowest + share of the sum + what rollouts add.

    Nor is it below what the rollout needs by itself, where trainer and rollout engine work side by side.
    """
    for pick, choice in zip(model.chosen, model.tables.choices, strict=True):
        model.cp.add(model.rollout >= choice.time).only_enforce_if(pick)
        if choice.least > choice.time:
            model.cp.add(model.time >= choice.least).only_enforce_if(pick)
    for pick, row in zip(model.picked, model.tables.rows, strict=True):
        for visit in row.visits:
            for stage, line in enumerate(visit.stages):
                layers, recomputed = model.layers_of(row, stage), model.recomputed[stage]
                spent = line.layer * layers + line.recomputed * recomputed + line.end
                model.cp.add(spent <= model.slowest[visit.name]).only_enforce_if(pick)
        model.cp.add(model.time >= _step(model, row)).only_enforce_if(pick)


def bound_the_step(model: Model) -> None:
    """time >= what the closed form proves for the row + rollout time: implied by the rest, and found at once."""
    for pick, row in zip(model.picked, model.tables.rows, strict=True):
        model.cp.add(model.time >= row.least_time + model.rollout).only_enforce_if(pick)


SUMS = ("sum_layer", "sum_recomputed")


def _step(model: Model, row: Row) -> Any:
    total: Any = model.rollout
    for visit in row.visits:
        total += model.slowest[visit.name] + visit.sum_end
    each = range(row.stages)
    layer, rebuilt = ([sum(getattr(v, part)[s] for v in row.visits) for s in each] for part in SUMS)
    if len(set(layer)) == 1:
        total += layer[0] * model.tables.total_layers
    else:
        total += sum(layer[stage] * model.layers_of(row, stage) for stage in each)
    if len(set(rebuilt)) == 1:
        return total + rebuilt[0] * model.rebuilt
    return total + sum(rebuilt[stage] * model.recomputed[stage] for stage in each)


GROUPS = (
    choose_one_row,
    link_rollouts,
    split_layers,
    mark_uneven,
    bound_recomputation,
    keep_headroom,
    time_the_step,
    bound_the_step,
)
