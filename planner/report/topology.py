"""Machines with the groups that their ranks form: which ranks share what, over which links."""

from __future__ import annotations

from planner.analysis.rank_groups import RankAxis, rank_axes
from planner.report.blocks import Block, Grid, Heading, Text
from planner.report.plan_figures import group_figure, network_figure
from planner.report.summary import headline
from planner.search.search import Outcome
from planner.units import number

FIRST = 8
"""Ranks of a group that are named."""


def topology_blocks(outcome: Outcome) -> list[Block]:
    """The machines by pipeline stage and by each other group, and where the groups lie."""
    plan = outcome.plan
    if plan is None:
        return [headline(outcome)]
    axes = rank_axes(plan)
    blocks: list[Block] = [headline(outcome), network_figure(plan), *(group_figure(plan, axis) for axis in axes)]
    if not axes:
        return [*blocks, Text("One rank does all the work: there are no groups.")]
    return [*blocks, Heading("Rank groups, innermost first"), _grid(axes)]


def _grid(axes: list[RankAxis]) -> Grid:
    rows = []
    for axis in axes:
        placed, first = axis.placed, axis.groups[0]
        named = ", ".join(map(str, first[:FIRST].tolist())) + (f", ... {first[-1]}" if len(first) > FIRST else "")
        where = link = ""
        if placed is not None:
            where = "inside one" if placed.inside_domain else f"over {placed.num_domains}"
            link = f"{placed.slowest.kind}, {number(placed.slowest.gb_per_s, 0)} GB/s" if placed.slowest else ""
        rows.append((axis.name, str(len(first)), str(len(axis.groups)), named, where, link, axis.shared))
    columns = ("axis", "ranks each", "groups", "ranks of the first", "nodes", "slowest link", "what they share")
    return Grid(columns, tuple(rows), left=frozenset({0, 3, 4, 5, 6}))
