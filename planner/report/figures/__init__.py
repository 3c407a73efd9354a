"""Figures as SVG: one renderer for all of them. Colours are CSS variables, so that one drawing suits light and dark."""
