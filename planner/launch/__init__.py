"""Readers of an outcome that write launch flags; one module for each launcher, named as the user types it."""
