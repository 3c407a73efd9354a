"""Readers of an outcome that say why."""
