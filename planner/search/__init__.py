"""The search for one problem: space, bounds, integer tables, solver, plan, verification."""
