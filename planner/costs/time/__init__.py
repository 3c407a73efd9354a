"""Seconds of a step as ledgers."""
