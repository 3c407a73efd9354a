"""Published runs, scored once for all tests of a worker that look at them."""

from __future__ import annotations

from functools import cache

from planner.validation.rl import phases, placement, steps

run_rl = cache(steps.run_rl)
run_placements = cache(placement.run_placements)
run_steps = cache(phases.run_steps)
