"""Readers of an outcome that print it."""
