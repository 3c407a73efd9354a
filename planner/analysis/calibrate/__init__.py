"""Figures of one's own runs and GPUs."""
