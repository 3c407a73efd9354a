"""Memory of a stage as ledgers."""
