"""The page of `planner serve`: server-rendered, on loopback, each view a link and each link a scenario."""
