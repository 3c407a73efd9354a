"""Published speeds of real training runs against the planner's time model, through the same code as `solve`."""
