"""A second witness for the rules: what each engine's own code checks, apart from the search."""
