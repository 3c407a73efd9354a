"""Pure mathematics: keyword scalars or arrays in, the same shape out, each with its source."""
