"""Grids beyond one machine: thousands of variations of a scenario, stored as they come, resumable."""
