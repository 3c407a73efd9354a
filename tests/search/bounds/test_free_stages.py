"""Free stages: the least time of a row and a split that has it, each checked by hand on twelve layers."""

from __future__ import annotations

import itertools
import math

import pytest
from hand_rows import LAYERS, hand_rows

from planner.search.bounds.free_stages import NONE, Split, Splitter

FREE = {"layers_per_stage": "free", "recompute": "per_stage"}


def split(**row: object) -> Split:
    question, rounded = hand_rows(**{"recomputed_layers": "any", **FREE, **row})  # type: ignore[arg-type]
    return Splitter(question, rounded).split(0)


def test_equal_stages_share_the_layers_evenly() -> None:
    found = split(stages=4, time=(1.0, 0.5, 0.0))
    assert found == Split(3.0, 3.0, (3, 3, 3, 3), (0, 0, 0, 0))


def test_a_stage_with_more_to_do_gets_fewer_layers() -> None:
    """Three seconds beside the layers of the last stage: 8 and 4 + 3 or 7 and 5 + 3, eight seconds either way."""
    found = split(stages=2, time=(1.0, 0.5, [0.0, 3.0]))
    assert found.bound_seconds == found.seconds == 8.0
    assert found.layers in ((8, 4), (7, 5))


def test_the_sum_over_stages_is_added_with_its_weight() -> None:
    """10 x the slowest stage (8 s) and 1 x all of it (12 layers and 3 s)."""
    found = split(stages=2, time=(1.0, 0.5, [0.0, 3.0]), heavy=10.0, light=1.0)
    assert found.bound_seconds == found.seconds == 95.0


def test_a_stage_without_room_recomputes_as_few_layers_as_it_must() -> None:
    """Eighths of the limit: a layer takes 1.25 kept, 0.25 recomputed; six take 7.5 and fit, beside 2 they do not.

    Stage 0 holds 2 whatever its layers: 6 layers need 2 recomputed (4 x 1.25 + 2 x 0.25 + 2 = 7.5). Seven seconds.
    With 5 and 7 layers each needs one more second less: 5 + 1 x 0.5 and 7 + 1 x 0.5, slower.
    """
    found = split(stages=2, time=(1.0, 0.5, 0.0), memory=(1.25, -1.0, [2.0, 0.0]))
    assert (found.layers, found.recomputed) == ((6, 6), (2, 0))
    assert found.bound_seconds == found.seconds == 7.0


def test_a_row_that_no_recomputation_makes_fit_has_no_bound() -> None:
    assert split(stages=2, time=(1.0, 0.5, 0.0), memory=(2.0, -0.5, 0.0)) == NONE


def test_memory_that_rises_where_a_layer_is_recomputed_bounds_from_above() -> None:
    """Kept layers ask for one recomputed layer at least; the peak of a recomputed layer then leaves no room."""
    row = {"stages": 2, "time": (1.0, 0.5, 0.0), "memory": (1.25, -1.0, 1.0)}
    assert split(**row).recomputed == (1, 1)
    assert split(**row, recomputation=(0.0, 0.0, 9.0)) == NONE


def test_stages_of_two_speeds_trade_the_slowest_against_the_sum() -> None:
    """A layer takes 1 s on stage 0 and 2 s on stage 1: eight and four is fastest while only the slowest counts.

    Where the sum counts ten times as much, eleven and one: 11 + 10 x 13 = 141 against 8 + 10 x 16 = 168.
    """
    assert split(stages=2, time=([1.0, 2.0], 0.0, 0.0)).layers == (8, 4)
    found = split(stages=2, time=([1.0, 2.0], 0.0, 0.0), light=10.0)
    assert (found.layers, found.seconds) == ((11, 1), 141.0)


@pytest.mark.parametrize("held_back_gib", [0, 10])
def test_memory_held_back_is_counted(held_back_gib: int) -> None:
    question, rounded = hand_rows(
        stages=2, time=(1.0, 0.5, 0.0), memory=(1.3, -1.0, 0.0), recomputed_layers="any", **FREE
    )
    found = Splitter(question, rounded).split(0, held_back_gib * 2**20)
    assert sum(found.recomputed) == {0: 0, 10: 2}[held_back_gib]


@pytest.mark.parametrize("stages", [2, 4])
@pytest.mark.parametrize("end", [0.0, 2.5])
def test_against_every_split(stages: int, end: float) -> None:
    """All splits and recomputed layers tried one by one."""
    memory, time = (1.5, -1.1, 0.5), (1.0, 0.4, end)
    found = split(stages=stages, time=(1.0, 0.4, [0.0] * (stages - 1) + [end]), memory=memory, light=0.1)
    best = math.inf
    for layers in itertools.product(range(1, LAYERS), repeat=stages):
        if sum(layers) == LAYERS:
            seconds = []
            for stage, n in enumerate(layers):
                last = end if stage == stages - 1 else 0.0
                legal = [r for r in range(n + 1) if memory[0] * n + memory[1] * r + memory[2] <= 8]
                seconds.append(n * time[0] + min(legal, default=math.inf) * time[1] + last)
            best = min(best, max(seconds) + 0.1 * sum(seconds))
    assert found.bound_seconds <= best + 1e-9
    assert found.seconds >= best - 1e-9
    assert math.isfinite(found.seconds) == math.isfinite(best)
