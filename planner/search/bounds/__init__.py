"""Bounds in closed form, by which rows are dropped before the model is built."""
