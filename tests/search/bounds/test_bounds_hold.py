"""No bound that drops rows ever lies beyond the truth: each is asked itself, and held against every point of its row.

A bound that is 1 % too strong changes the plan of hardly any drawn problem, so that solver and enumeration go on
agreeing. Here, and in the tests by hand beside this file, it is seen: so were cheap bound, slowest stage, `besides` and
`_soonest` times 1.01, `most + 2`, `in_hand + 1`, one recomputed layer more, one unit less, and 70 others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from every_point import EveryPoint, drawn, shipped
from one_by_one import spare_gib

from planner.costs.coefficients import ONLY_WHERE_RECOMPUTED
from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Question
from planner.problem.stage_choices import evenly, is_free, prefers_even
from planner.search.bounds.any_split import to_spare
from planner.search.bounds.cheap import cheap_bound
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.bounds.first_look import first_look, plain_bounds
from planner.search.bounds.free_stages import Splitter
from planner.search.bounds.headroom import _Reach
from planner.search.bounds.rollout_pairs import RolloutPairs
from planner.search.bounds.windows import windows
from planner.search.deadline import NO_DEADLINE
from planner.search.grid import limit_bytes
from planner.search.plan import make_plan
from planner.search.prune import _longest, prune, row_bounds
from planner.search.tables import build_tables, row_ranks
from planner.units import GIB

NOISE = 1e-9
"""Sums of the same seconds in another order differ by less than this share."""
HALVED = 2e-6
"""By so little, a share, is a slowest stage that was found by halves too short."""
SEEDS = (1, 5, 8, 16, 19, 21, 29, 33, 47, 53, 54, 63, 71, 72, 87, 91, 93, 99)


def time_alone(p: EveryPoint) -> int:
    """No split is faster than layers cut at will, nor slower than all of them recomputed on one stage."""
    cheap, longest = (bound[p.row] for bound in (cheap_bound(p.question, p.costs), _longest(p.question, p.costs)))
    assert (cheap <= p.seconds * (1 + NOISE)).all()
    assert (longest >= p.seconds * (1 - NOISE)).all()
    np.testing.assert_allclose(cheap[p.plain], p.seconds[p.plain], rtol=NOISE)
    return int(p.plain.sum())


def seconds_besides(p: EveryPoint) -> int:
    """What a step takes beside training's layers is never less than `besides`, and no more where nothing is open."""
    splitter = Splitter(p.question, p.grid)
    c, heavy, light = p.costs.time["train"]
    spent = c.layer[p.row] * p.layers + c.recomputed[p.row] * p.recomputed
    slowest = ((spent + c.end[p.row]) * p.costs.exists[p.row]).max(axis=1)
    rest = p.seconds - heavy[p.row] * slowest - light[p.row] * spent.sum(axis=1)
    besides = splitter.besides[p.row]
    assert (besides <= rest + NOISE * p.seconds).all()
    np.testing.assert_array_less(np.abs(besides - rest)[p.plain], NOISE * p.seconds[p.plain])
    return int((p.plain & (rest > 0.01 * p.seconds)).sum())


def told(p: EveryPoint, places: Ints) -> Floats:
    """What bounds of time say of these points where one stage holds all layers: all but what layers that are computed
    again add to the sum over stages, and to other visits. NaN where there are more stages. [s]"""
    row, seconds = p.row[places], p.seconds[places].copy()
    for name, (c, heavy, light) in p.costs.time.items():
        left_out = light if name == "train" else heavy + light
        seconds -= left_out[row] * c.recomputed[row, 0] * p.recomputed[places, 0]
    return np.where(p.stages[places] == 1, seconds, math.nan)


def soonest(p: EveryPoint) -> int:
    """By time alone no split with so many recomputed layers, or with more, is faster."""
    splitter, tight = Splitter(p.question, p.grid), 0
    for row in p.some_rows:
        mine, counts = p.of(row), splitter._counts(row)
        stages, met = int(p.stages[mine[0]]), np.zeros(len(mine), dtype=bool)
        place, longest = np.searchsorted(counts, p.layers[mine, :stages]), 0.0
        for wanted, _ in splitter._options(row):
            found = splitter._soonest(row, wanted)
            longest = max(longest, found)
            same = np.ones(len(mine), dtype=bool)
            if wanted is not None:
                same = (wanted[place] == p.recomputed[mine, :stages]).all(axis=1)
            met |= same
            assert (longest <= p.seconds[mine[same]] * (1 + NOISE)).all(), (row, wanted)
            if stages == 1 and wanted is not None and same.any():
                np.testing.assert_allclose(found, told(p, mine[same]), rtol=HALVED)
                tight += 1
        assert met.all(), row
    return tight


def probes(p: EveryPoint, row: int) -> dict[int, float]:
    """Seconds of the row's fastest point by units held back: as they are; so many that this point just fits, and the
    one that needs least, and not even that. Less than none are held back where the row does not fit."""
    mine = p.of(row)
    held = p.grid.limit - p.peak[mine]
    at = {0, int(held[p.seconds[mine].argmin()]), int(held.max()), int(held.max()) + 1}
    return {units: float(p.seconds[mine[held >= units]].min(initial=math.inf)) for units in sorted(at)}


def splits(p: EveryPoint) -> int:
    """The closed form of a row: no point that fits is faster than its bound, and the split that it names is one."""
    splitter, tight = Splitter(p.question, p.grid), 0
    for row in p.some_rows:
        mine, one = p.of(row), np.array([row])
        stages = int(p.stages[mine[0]])
        for held, least in probes(p, row).items():
            found = splitter.split(row, held)
            assert found.bound_seconds <= least * (1 + NOISE), (row, held)
            assert splitter.holds(row, held) == math.isfinite(least), (row, held)
            if math.isfinite(found.seconds):
                same = (p.layers[mine, :stages] == found.layers).all(axis=1)
                same &= (p.recomputed[mine, :stages] == found.recomputed).all(axis=1)
                named = mine[same]
                assert len(named) == 1
                assert p.peak[named[0]] + held <= p.grid.limit
                assert found.seconds == pytest.approx(p.seconds[named[0]], rel=NOISE)
            assert math.isfinite(least) or not math.isfinite(found.seconds)
            if stages == 1 and math.isfinite(least):
                fastest = mine[p.peak[mine] + held <= p.grid.limit]
                bound = told(p, fastest).min()
                assert found.bound_seconds == pytest.approx(bound, rel=NOISE), (row, held)
                assert not splitter.may(one, np.array([bound * (1 - 1e-6)]), held).any()
                tight += 1
            if math.isfinite(least):
                beyond = least * (1 + 1e-6)
                assert min(splitter.split(row, held, beyond).bound_seconds, beyond) <= least * (1 + NOISE)
                assert splitter.may(one, np.array([least * (1 + NOISE)]), held).all(), (row, held)
    return tight


def stage_windows(p: EveryPoint) -> int:
    """Numbers of recomputed layers that fit on a stage by itself, each tried by all its moments."""
    splitter, seen = Splitter(p.question, p.grid), 0
    dense = p.question.parameters.num_dense_layers if p.question.architecture.is_moe else 0
    for row in p.some_rows:
        counts, stages = splitter._counts(row), int(p.stages[p.of(row)[0]])
        for held in probes(p, row):
            w = windows(p.grid, row, stages, counts, splitter.fixed, held_back=held)
            again = np.arange(int(counts[-1]) + 1)
            always = also = np.ones((stages, len(counts), len(again)), dtype=bool)
            for name, c in p.grid.memory.items():
                layer, more, end = (part[row, :stages, None, None] for part in (c.layer, c.recomputed, c.end))
                fits = layer * counts[:, None] + more * again + end <= p.grid.limit - held
                also &= fits
                if name not in ONLY_WHERE_RECOMPUTED:
                    always = always & fits
            truth = np.where(again == 0, always, also)
            if splitter.fixed is not None:
                truth &= (splitter.fixed[row, :stages, None] == counts)[:, :, None]
            else:
                truth[0, counts < dense] = False
            said = (w.inside[..., None] & (w.more[..., None] <= again)) & (again <= w.less[..., None])
            said[..., 0] = w.fits & (w.low <= 0) & (w.high >= 0)
            legal = again <= counts[:, None]
            np.testing.assert_array_equal(said & legal, truth & legal)
            seen += int((truth & legal).any() and not (truth & legal)[..., 0].all())
    return seen


def layers_to_spare(p: EveryPoint) -> int:
    """A row with a split that fits has none too few; one stage that cannot hold its layers has."""
    tight = 0
    for row in p.some_rows:
        mine = p.of(row)
        least = int(p.peak[mine].min())
        assert to_spare(p.costs, p.grid.memory, least)[row] >= 0
        exact = float(p.costs.peak_bytes(p.row[mine], p.layers[mine], p.recomputed[mine]).min())
        assert to_spare(p.costs, p.costs.memory, exact * (1 + NOISE))[row] >= 0
        if p.plain[mine].all():
            assert to_spare(p.costs, p.grid.memory, least - 1)[row] < 0
            tight += 1
    return tight


def _uniform(question: Question) -> bool:
    return question.scenario.layout.recompute == "uniform"


def even_stages(p: EveryPoint) -> int:
    """Least recomputed layers and seconds of even or listed stages, and what only rounding excludes: the truth."""
    question, even = p.question, np.ones(len(p.row), dtype=bool)
    if not _uniform(question) or (is_free(question.first) and not prefers_even(question.first)):
        return 0
    if is_free(question.first):
        question, even = evenly(question), p.even
    rows, least = np.unique(p.row[even]), LeastRecompute(question, p.grid)
    shared = p.recomputed.max(axis=1)
    tight = 0
    for held in {units for row in p.some_rows[:3] for units in probes(p, row)}:
        fits = even & (p.peak + held <= p.grid.limit)
        np.testing.assert_allclose(least.seconds(rows, held), p.least(p.seconds, fits)[rows], rtol=NOISE)
        levels = p.least(shared.astype(float), fits)[rows]
        np.testing.assert_array_equal(least.recomputed(rows, held), np.where(np.isfinite(levels), levels, -1))
        tight += int(np.isfinite(levels).sum())
    if even.all() and len(rows) == len(p.space.layouts):
        assert least.points == len(p.row)
        exact = p.costs.peak_bytes(p.row, p.layers, p.recomputed) <= limit_bytes(question)
        assert least.only_rounding_excludes() == int((exact & (p.peak > p.grid.limit)).sum())
    return tight


def beside_rollouts(p: EveryPoint) -> int:
    """The fastest step that seconds of training can be part of, and the most seconds that a step leaves them."""
    pairs, table = RolloutPairs(p.grid), p.rollouts
    if table is None:
        return 0
    point, _, seconds, _ = p.together
    fits = np.zeros(len(p.row), dtype=bool)
    fits[point] = True
    training, step = p.least(p.seconds, fits), np.full(len(p.space.layouts), math.inf)
    np.minimum.at(step, p.row[point], seconds)
    np.testing.assert_allclose(pairs.step(training), step, rtol=NOISE)
    rows = np.flatnonzero(np.isfinite(step))
    room = pairs.room(step)
    assert (room[rows] >= training[rows] * (1 - NOISE)).all()
    np.testing.assert_allclose(pairs.step(room)[rows], step[rows], rtol=NOISE)
    for row in rows.tolist():
        assert pairs.of(row, float(training[row])) == pytest.approx(step[row], rel=NOISE)
        choice = pairs.choice(row, float(training[row]))
        assert max(training[row] + table.seconds[choice], table.least_seconds[choice]) == pytest.approx(step[row])
    return len(rows)


def _least(p: EveryPoint) -> LeastRecompute | None:
    return LeastRecompute(p.question, p.grid) if _uniform(p.question) and not is_free(p.question.first) else None


def headroom(p: EveryPoint) -> int:
    """Which rows may, and which surely do, leave so many steps free within a band whose end is not sharp.

    Wherever in between it ends, the first in the order of goals is among the winners.
    """
    point, _, seconds, memory = p.together
    rows = np.unique(p.row[point])[:8]
    some = np.isin(p.row[point], rows)
    row, seconds = p.row[point][some], seconds[some]
    free, least = (p.grid.limit - memory[some]) // p.grid.headroom_step, _least(p)
    times, met = np.unique([seconds[row == each].min() for each in rows]), set()
    for first, last in {(len(times) // 3, -1), (len(times) // 2, -(-2 * len(times) // 3) - 1)} if len(times) else ():
        surely, longest = times[first] * (1 - 1e-6), times[last] * (1 + 1e-6)
        reach = _Reach(p.grid, least, longest, surely, p.question, NO_DEADLINE)
        near = seconds <= surely
        highest = int(free[near].max(initial=0))
        for spare in {0, highest, highest + 1, int(free.max())}:
            may, does = (np.isin(rows, row[(seconds <= limit) & (free >= spare)]) for limit in (longest, surely))
            said_may, said_does = reach.reaches(rows, spare)
            assert (said_may >= may).all(), spare
            assert (said_does <= does).all(), spare
            if least is not None:
                assert (said_may <= may).all()
                assert (said_does >= does).all()
        if near.any():
            in_hand = reach.most_in_hand(rows)
            assert in_hand == highest if least is not None else in_hand <= highest
        if least is not None and near.any():
            winners, ranks = rows[reach.winners(rows)], row_ranks(p.costs)
            for limit in np.unique(seconds[(seconds >= surely) & (seconds <= longest)]).tolist():
                tied = np.flatnonzero(seconds <= limit)
                order = np.lexsort((ranks[row[tied]], p.costs.simplicity[row[tied]], -free[tied]))
                met.add(int(row[tied[order[0]]]))
                assert row[tied[order[0]]] in winners
    return len(met)


def pruned(p: EveryPoint) -> int:
    """Bounds of all rows hold, and the row and rollout choice of the first in the order of goals are left."""
    point, choice, seconds, memory = p.together
    fits = p.peak <= p.grid.limit
    bounds, least = row_bounds(p.question, p.grid), p.least(p.seconds, fits)
    assert (bounds.bound <= least * (1 + NOISE)).all()
    assert (bounds.seconds >= least * (1 - NOISE)).all()
    if bounds.least is not None:
        np.testing.assert_allclose(bounds.bound, least, rtol=NOISE)
    if bounds.in_hand is not None:
        known = bounds.in_hand
        assert seconds[p.row[point] == known.row].min() <= known.seconds * (1 + NOISE)
    found = prune(p.question, p.costs, p.rollouts, bounds, frozenset())
    wishes = p.space.layouts.wish[p.row[point]]
    if not len(point) or found.wish != wishes.min():
        assert not len(point) or (found.wish is not None and found.wish < wishes.min())
        return 0
    near = wishes == found.wish
    near &= seconds <= seconds[near].min() / (1 - p.question.scenario.search.near_tie)
    even = p.even[point]
    if prefers_even(p.question.first) and (near & even).any():
        near &= even
    at = np.flatnonzero(near)
    rows = p.row[point[at]]
    free = (p.grid.limit - memory[at]) // p.grid.headroom_step
    order = np.lexsort((row_ranks(p.costs)[rows], p.costs.simplicity[rows] + ~even[at], -free))
    assert seconds[at].max() <= found.longest_seconds * (1 + NOISE)
    assert rows[order[0]] in found.rows
    if bounds.least is None and not prefers_even(p.question.first):
        assert np.isin(rows[free == free.max()], found.rows).all()
    assert p.rollouts is None or choice[at[order[0]]] in found.choices
    return int(sum(each.count for each in found.removed if each.rule in ("slower", "headroom")))


def looked(p: EveryPoint) -> int:
    """A first look: no point of a row undercuts its bound, and none that lies in the band is unlikely."""
    if p.rollouts is not None or not is_free(p.question.first) or len(np.unique(p.space.layouts.wish)) > 1:
        return 0
    if not p.question.first.engine.pipeline.uneven_chunks or not _uniform(p.question):
        return 0
    fits = p.peak <= p.grid.limit
    truth = p.least(p.seconds, fits)
    plain = plain_bounds(p.question, p.space.layouts, NO_DEADLINE)[0]
    assert (plain <= truth * (1 + NOISE)).all()
    look = first_look(p.question, p.space.layouts, 1024.0, NO_DEADLINE)
    assert look.bound is not None
    assert (look.bound <= truth * (1 + NOISE)).all()
    assert look.likely[truth <= truth.min() / (1 - p.question.scenario.search.near_tie)].all()
    if look.in_hand is not None:
        known = look.in_hand
        mine = p.of(known.row)
        stages = len(known.layers)
        same = fits[mine] & (p.layers[mine, :stages] == known.layers).all(axis=1)
        same &= (p.recomputed[mine, :stages] == known.recomputed).all(axis=1)
        assert p.seconds[mine[same]].max() <= known.seconds * (1 + NOISE)
        assert look.least_seconds is not None
        assert look.least_seconds <= truth.min() * (1 + NOISE)
    return 1


def tables(p: EveryPoint) -> int:
    """Rows as the solver knows them: memory is that of the grid, and no split takes less than the row's least time."""
    fits = p.peak <= p.grid.limit
    rows = np.unique(p.row[fits])
    if not len(rows):
        return 0
    bounds = row_bounds(p.question, p.grid)
    longest = float(p.seconds[fits].max())
    built, _ = build_tables(p.question, p.grid, rows[:5], bounds.bound, np.zeros(0, dtype=np.int64), longest)
    for each in built.rows:
        for place in p.of(each.index)[::7].tolist():
            split = tuple(p.layers[place, : each.stages].tolist()), tuple(p.recomputed[place, : each.stages].tolist())
            assert each.peak(*split) == p.peak[place]
            if fits[place]:
                assert each.least_time <= each.time(*split) <= built.time_limit
    return len(built.rows)


def ledgers(p: EveryPoint) -> int:
    """Plans as `planner estimate` costs them, of the fastest point of each row and of the one that needs least.

    No plan undercuts its row's bounds, and a row of which a plan has room to spare is not said to have none.
    """
    bounds, beside = row_bounds(p.question, p.grid), RolloutPairs(p.grid)
    cheap, bound = beside.step(cheap_bound(p.question, p.costs)), beside.step(bounds.bound)
    point, choice, seconds, memory = p.together
    seen = 0
    for row in np.unique(p.row[point])[:1].tolist():
        mine = np.flatnonzero(p.row[point] == row)
        for at in {int(mine[seconds[mine].argmin()]), int(mine[memory[mine].argmin()])}:
            place = point[at]
            split = (tuple(part[place, : p.stages[place]].tolist()) for part in (p.layers, p.recomputed))
            beside_it = None if p.rollouts is None else int(choice[at])
            plan = make_plan(p.question, p.space.layouts, row, *split, p.space.rollouts, beside_it)
            assert cheap[row] <= plan.step_seconds * (1 + NOISE)
            assert spare_gib(plan) >= 0
            assert bound[row] <= plan.step_seconds * (1 + NOISE)
            used = p.question.roomiest.limit_gib - max(spare_gib(plan), 0.0)
            assert to_spare(p.costs, p.costs.memory, used * GIB * (1 + NOISE))[row] >= 0
            seen += 1
    return seen


LAWS: dict[Callable[[EveryPoint], int], int] = {
    time_alone: 100, seconds_besides: 100, soonest: 50, splits: 50, stage_windows: 100, layers_to_spare: 5,
    even_stages: 100, beside_rollouts: 20, headroom: 2, pruned: 50, looked: 1, tables: 50,
    ledgers: 15,
}  # fmt: skip
"""How often each must have been sharp, or have had something to say."""


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small spaces are pruned and looked at like large ones, and many plans leave as many steps free."""
    monkeypatch.setattr("planner.search.bounds.headroom.MANY", 0)
    monkeypatch.setattr("planner.search.grid.HEADROOM_STEP_BYTES", GIB / 2)
    monkeypatch.setattr("planner.search.bounds.first_look.LARGE", 50)
    monkeypatch.setattr("planner.search.bounds.first_look.BLOCK", 20)
    monkeypatch.setattr("planner.search.bounds.first_look.EACH_VARIANT", 0)


SHIPPED = (
    {"layout.pipeline_parallel": [1, 2]},
    {"layout.pipeline_parallel": [2, 4], "layout.layers_per_stage": "even"},
)
PINNED = {
    "layout.tensor_parallel": 2,
    "layout.expert_parallel": [1, 8],
    "layout.virtual_pipeline": 1,
    "batch.micro_batch_size": 1,
}
"""Mixtral on 64 H100 with fewer values left open."""


def holds(law: Callable[[EveryPoint], int], problems: Iterable[EveryPoint]) -> int:
    """How often the law was sharp."""
    sharp = 0
    for problem in problems:
        if len(problem.row):
            try:
                sharp += law(problem)
            except AssertionError as error:
                raise AssertionError(f"{law.__name__}: {error}\n{problem.text}") from error
    return sharp


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_no_bound_exceeds_the_truth_of_drawn_problems(law: Callable[[EveryPoint], int]) -> None:
    assert holds(law, map(drawn, SEEDS)) >= LAWS[law]


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_no_bound_exceeds_the_truth_of_a_scenario(law: Callable[[EveryPoint], int]) -> None:
    path = "scenarios/mixtral8x7b_64xh100.yaml"
    problems = [shipped(path, json.dumps(PINNED | more)) for more in SHIPPED]
    assert min(len(problem.row) for problem in problems) > 100
    holds(law, problems)
